"""What `scripts.benchmark` and `scripts.accelerator` share: workloads, programs, figures, and how they are shown.

Everything here imports jax, flax, optax, orbax and numpy, what they bring along, and those modules of this project that
need no more, so that it runs on a machine that has nothing else.
"""
