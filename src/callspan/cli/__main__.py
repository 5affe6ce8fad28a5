"""`python -m callspan.cli`: the command, by the interpreter that runs it."""

from __future__ import annotations

from callspan.cli import main

main()
