"""`callspan recover FILE NEW` delivers what can be read of a damaged SQLite file to a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from callspan.cli.command_context import CommandContext, store_errors, with_context
from callspan.cli.progress import progress
from callspan.safe_urls import error_text

_EPILOG: Final = """\b
Examples:
  callspan recover calls.db calls-recovered.db

The damaged file is not changed."""


@click.command("recover", short_help="Read what can be read of a damaged file.", epilog=_EPILOG)
@click.argument("damaged", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("new", metavar="NEW", type=click.Path(path_type=Path))
@with_context
def recover_command(context: CommandContext, damaged: Path, new: Path) -> None:
    """Copy the records of a damaged SQLite file to a new one. Damaged bodies are left out."""
    from callspan.stores.sqlite.recovery import recover

    try:
        with progress("recovering", shown=not context.json):
            counts = recover(damaged, new)
    except store_errors() as error:
        context.fail(error_text(error))
    if context.json:
        context.emit(counts)
        return
    read = ", ".join(f"{number:,} {table}" for table, number in counts.items())
    context.screen.paragraph(f"{new}: {read}.")
