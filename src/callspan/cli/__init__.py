"""The `callspan` command; one file per sub-command."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Final

INTERRUPTED: Final = 128 + signal.SIGINT
_REQUIRED_PACKAGES: Final = ("click", "rich")
_STREAMS: Final = {"stdin": "r", "stdout": "w", "stderr": "w"}


def main() -> None:
    """Run the command.

    Exit codes: 0 success, 1 nothing was found or a check failed, 2 wrong usage, 130 interrupted, 141 the reader of its
    output has closed the pipe. `callspan run` needs neither click nor rich.
    """
    for name, mode in _STREAMS.items():
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open to the end of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.argv[1:2] == ["run"]:
        from callspan.cli import run

        run.main(sys.argv[2:])
    try:
        from callspan.cli.commands import callspan
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _REQUIRED_PACKAGES:
            raise
        sys.exit(
            f'The callspan command needs {error.name}: pip install "callspan[cli]" (`callspan run` works without it)'
        )
    callspan(prog_name="callspan")
