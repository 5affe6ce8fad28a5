"""The `callspan` command; one file per sub-command."""

from __future__ import annotations

import io
import sys
from typing import Final

_NEEDED: Final = ("click", "rich")


def main() -> None:
    """Run the command.

    Exits 0 when all is well, 1 where nothing was found or a check failed, 2 on wrong usage, 130 when interrupted, 141
    when the reader of its output has closed the pipe. `callspan run` needs nothing beyond the base installation.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the parent process has closed it
            stream.reconfigure(errors="replace")
    if sys.argv[1:2] == ["run"]:
        from callspan.cli import run

        run.main(sys.argv[2:])
    try:
        from callspan.cli.commands import callspan
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.exit(
            f'The callspan command needs {error.name}: pip install "callspan[cli]" (`callspan run` works without it)'
        )
    callspan(prog_name="callspan")
