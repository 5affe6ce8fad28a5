#!/bin/sh
# Install into the virtual environment at $1, by uv where it made it, else by pip. Modules are compiled when imported:
# of 12,000 some 700 are.
set -eu
venv=$1
shift
if command -v uv >/dev/null 2>&1 && [ ! -x "$venv/bin/pip" ]; then
  VIRTUAL_ENV="$venv" uv pip install -q "$@"
else
  "$venv/bin/python" -m pip install -q --no-compile --disable-pip-version-check "$@"
fi
