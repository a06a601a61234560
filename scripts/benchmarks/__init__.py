"""What `python -m scripts.benchmark` measures: programs of this project timed against others, and what they take.

A benchmark is a function from an effort to rows, listed by name.
"""
