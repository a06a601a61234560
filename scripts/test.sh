#!/usr/bin/env bash
# Makes .venv and runs lint and tests: minutes by default; with --full also the slow ones. Further arguments go to pytest.
source "$(dirname "$0")/setup.sh"
selection=(-m 'not slow')
if [ "${1:-}" = --full ]; then
  shift
  selection=()
fi
ruff check .
ruff format --check .
python -m pytest -n auto --dist worksteal "${selection[@]}" "$@"
