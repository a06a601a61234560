"""What only `python -m scripts.benchmark` measures: training steps, memory, growth, a run, commands, peers, images.

A module lists its measurements by name in `BENCHMARKS`; each is a function of a `scripts.measuring.session.Session`.
"""
