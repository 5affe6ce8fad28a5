"""`python -m callspan.cli`: runs the `callspan` command with this interpreter."""

from __future__ import annotations

from callspan.cli import main

main()
