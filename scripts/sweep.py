"""`python -m scripts.sweep` is `python -m experiments.sweep`."""

from experiments.command import run
from experiments.sweep import main

if __name__ == '__main__':
    run(main)
