#!/bin/sh
# Install into the virtual environment at $1, by uv where it made it, else by pip.
set -eu
venv=$1
shift
if command -v uv >/dev/null 2>&1 && [ ! -x "$venv/bin/pip" ]; then
  VIRTUAL_ENV="$venv" uv pip install -q "$@"
else
  "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@"
fi
