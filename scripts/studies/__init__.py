"""The studies behind docs/results, a module each: its sweeps, the numbers it computes, its figure and its table.

`python -m scripts.study NAME` runs one. The paragraphs of its page are written by people and checked by tests.
"""
