"""The `callspan` command; one file per sub-command."""

from __future__ import annotations

import sys

_NEEDED = ("click", "rich")


def main() -> None:
    """Run the command.

    Exits 0 when all is well, 1 where nothing was found or a check failed, 2 on wrong usage, 130 when interrupted, 141
    when whoever reads its output has gone.
    """
    try:
        from callspan.cli.commands import callspan
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.exit(f'The callspan command needs {error.name}: pip install "callspan[cli]"')
    callspan(prog_name="callspan")
