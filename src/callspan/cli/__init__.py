"""The `callspan` command; one file per sub-command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

_NEEDED: Final = ("click", "rich")
_FLAGS: Final = ("--json", "--version", "-h", "--help")


def main() -> None:
    """Run the command.

    Exits 0 when all is well, 1 where nothing was found or a check failed, 2 on wrong usage, 130 when interrupted, 141
    when the reader of its output has closed the pipe. `run` and `--version` need nothing beyond the base installation.
    """
    from callspan.cli.safe_text import replace_unencodable

    replace_unencodable()
    if _without_click(sys.argv[1:]):
        return
    try:
        from callspan.cli.commands import callspan
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.exit(
            f'The callspan command needs {error.name}: pip install "callspan[cli]" (`callspan run` works without it)'
        )
    callspan(prog_name="callspan")


def _without_click(arguments: Sequence[str]) -> bool:
    """Handle the options that work without click; return False if the command line has others or is invalid."""
    from callspan.cli.run import WrongUsageError, leading_options

    try:
        given = leading_options(arguments, _FLAGS, ("--store",))
    except WrongUsageError:
        return False
    if given.flags & {"-h", "--help"}:
        return False
    if "--version" in given.flags:
        from importlib.metadata import version

        print(f"callspan {version('callspan')}")
        return True
    if given.rest[:1] == ["run"]:
        from callspan.cli import run

        run.main(given.rest[1:], store=given.values.get("--store"))
    return False
