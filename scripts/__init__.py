"""Thin programs around the experiments: set-up, tests, launchers, data preparation, studies and benchmarks.

They may import everything but the tests, and nothing imports them.
"""
