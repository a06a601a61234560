"""What only `python -m scripts.accelerator` measures, and how it divides its minutes among processes.

Everything here runs on a machine that has nothing but what `scripts.measuring` needs.
"""
