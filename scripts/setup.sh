# Sourced by the other scripts: makes .venv from requirements.lock, once, and puts it on PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo 'error: no Python 3.11, 3.12 or 3.13 found; install one, or name it: PYTHON=/path/to/python3.12' >&2
  exit 2
}

if ! cmp -s requirements.lock .venv/requirements.lock; then
  python=$(find_python)
  packages=$(grep -c == requirements.lock || true)
  echo "Making .venv with $("$python" --version) and $packages packages (once, one to three minutes)"
  "$python" -m venv .venv || { echo 'error: this Python cannot make virtual environments (on Debian: apt install python3-venv)' >&2; exit 2; }
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock &
  while kill -0 $! 2>/dev/null; do
    sleep 1
    ((SECONDS % 15)) || echo "  still installing, $SECONDS s"
  done
  wait $!
  cp requirements.lock .venv/requirements.lock
fi
export PATH="$PWD/.venv/bin:$PATH"
