"""The `callspan` command; one file per sub-command."""

from __future__ import annotations

import io
import sys
from typing import Final

_NEEDED: Final = ("click", "rich")


def main() -> None:
    """Run the command.

    Exit codes: 0 success, 1 nothing was found or a check failed, 2 wrong usage, 130 interrupted, 141 the reader of its
    output has closed the pipe. `callspan run` requires nothing beyond the base installation.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if the parent process has closed it
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
