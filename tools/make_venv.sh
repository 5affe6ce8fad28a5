#!/bin/sh
# Make the virtual environment at $1 with $PYTHON, by uv where it is there, else by the standard library.
set -eu
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "callspan needs Python 3.10 or newer; $PYTHON is $("$PYTHON" -V 2>&1). Say PYTHON=... to choose another." >&2
  exit 1
}
if command -v uv >/dev/null 2>&1; then uv venv -q --python "$PYTHON" "$1"; else "$PYTHON" -m venv "$1"; fi
