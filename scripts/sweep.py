"""`python -m scripts.sweep` is `python -m experiments.sweep`."""

import sys

from experiments.sweep import main

if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
