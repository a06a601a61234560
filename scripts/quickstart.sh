#!/usr/bin/env bash
# From nothing to an answer: makes .venv and trains on real handwritten digits, at three learning rates. Further
# arguments go to the run.
source "$(dirname "$0")/setup.sh"
exec python -m experiments.train --config=configs/quickstart.py "$@"
