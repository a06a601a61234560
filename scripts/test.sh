#!/usr/bin/env bash
# Makes .venv and runs lint and tests: minutes by default. With --full also the long ones, and then scripts/reliability.py,
# which writes docs/reliability.md. Further arguments go to pytest, which then runs alone.
source "$(dirname "$0")/setup.sh"
selection=(-m 'not slow') trials=()
if [ "${1:-}" = --full ]; then
  shift
  selection=()
  [ $# -gt 0 ] || trials=(python -m scripts.reliability)
fi
ruff check .
ruff format --check .
python -m pytest -n auto "${selection[@]}" "$@"
"${trials[@]}"
