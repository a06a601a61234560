"""What `python -m scripts.accelerator` measures: an idea a file.

Everything here imports jax, flax, optax, orbax and numpy, what they bring along, and those modules of this project that
need no more, so that it runs on a machine that has nothing else.
"""
