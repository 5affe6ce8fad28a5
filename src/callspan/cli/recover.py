"""`callspan recover FILE NEW` delivers what can be read of a damaged SQLite file to a new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from callspan.cli.command_context import CommandContext, store_errors, with_context
from callspan.cli.filter_options import File
from callspan.cli.progress import progress
from callspan.formatting import plural
from callspan.safe_urls import error_text

if TYPE_CHECKING:
    from callspan.stores.sqlite.recovery import Recovered

_EPILOG: Final = """\b
Examples:
  callspan recover calls.db calls-recovered.db

The damaged file is not changed."""


@click.command("recover", short_help="Read what can be read of a damaged file.", epilog=_EPILOG)
@click.argument("damaged", metavar="FILE", type=File(path_type=Path))
@click.argument("new", metavar="NEW", type=File(path_type=Path))
@with_context
def recover_command(context: CommandContext, damaged: Path, new: Path) -> None:
    """Copy the records of a damaged SQLite file to a new one. Damaged bodies are left out."""
    import sqlite3

    from callspan.stores.sqlite.recovery import recover

    try:
        with progress("recovering", shown=not context.json):
            found = recover(damaged, new)
    except store_errors(sqlite3.Error) as error:
        context.fail(error_text(error))
    if context.json:
        unread = {"unread": found.unread, "cut_off": found.cut_off, "unread_bodies": found.bodies}
        context.emit(found.records | unread)
        return
    read = ", ".join(f"{number:,} {table}" for table, number in found.records.items())
    context.screen.paragraph(f"{new}: {read}.")
    if lacking := "; ".join(_lacking(found)):
        context.screen.paragraph(f"What could not be read: {lacking}.")


def _lacking(found: Recovered) -> Iterator[str]:
    if found.unread:
        yield ", ".join(f"{plural(number, 'id')} of {table}" for table, number in found.unread.items())
    if found.cut_off:
        yield f"an unknown number of {', '.join(found.cut_off)}"
    if found.bodies:
        yield f"{found.bodies:,} requests and answers of the calls"
