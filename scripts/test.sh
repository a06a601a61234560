#!/usr/bin/env bash
# Makes .venv and runs lint and tests: minutes by default, everything with --full. Further arguments go to pytest.
source "$(dirname "$0")/setup.sh"
selection=(-m 'not slow')
if [ "${1:-}" = --full ]; then
  selection=()
  shift
fi
ruff check .
ruff format --check .
exec python -m pytest -n auto "${selection[@]}" "$@"
