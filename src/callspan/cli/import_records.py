"""`callspan import` loads JSON Lines, ClickHouse's tables and old SQLite files into a readable store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click
import msgspec

from callspan import import_records
from callspan.cli.command_context import Command, CommandContext
from callspan.cli.progress import progress
from callspan.cli.values import MOMENT
from callspan.formatting import plural
from callspan.safe_urls import safe_name
from callspan.stores import first_readable

if TYPE_CHECKING:
    from callspan.stores.importing import ImportCounts

_EPILOG: Final = """\
callspan import calls.jsonl --into calls.db
callspan import --damaged broken.db --into saved.db"""


@click.command("import", cls=Command, short_help="Load JSON Lines, ClickHouse or an old SQLite file.", epilog=_EPILOG)
@click.argument("sources", metavar="FILE|URL...", nargs=-1, required=True)
@click.option("--into", metavar="URL", help="Store to load into, SQLite or Postgres. Default: that of --store.")
@click.option("--since", "since_ns", type=MOMENT, metavar="TIME", help="Only records from this time on: 7d, ISO 8601.")
@click.option("--damaged", is_flag=True, help="Read the intact rows of a damaged SQLite file.")
def import_command(
    context: CommandContext, sources: Sequence[str], into: str | None, since_ns: int | None, damaged: bool
) -> None:
    """Load records into a store that is read; may be repeated, also after it was stopped.

    JSON Lines come with their rotated files; the newest version of a record counts. Lines and rows that cannot be read
    are counted and left out. Exit code 1 if there was nothing to load.
    """
    target, found = into or first_readable(context.store), []
    for source in sources:
        with progress(f"records of {safe_name(source)}", shown=not context.json) as tell:
            tell(0)
            found.append(import_records(source, target, since_ns=since_ns, damaged=damaged))
    if context.json:
        context.emit([msgspec.to_builtins(one) for one in found])
    else:
        for one in found:
            context.screen.paragraph(f"{one.source}: {'; '.join(_said(one))}.")
    if not any(sum(one.records.values()) for one in found):
        raise click.exceptions.Exit(1)


def _said(found: ImportCounts) -> Iterator[str]:
    counts = [plural(number, table[:-1]) for table, number in found.records.items() if number]
    yield f"{', '.join(counts) or 'nothing'} loaded"
    if found.unreadable:
        yield f"{plural(found.unreadable, 'record')} could not be read"
    if found.bodies:
        yield f"{found.bodies:,} of their requests and answers could not be read"
    if found.cut_off:
        yield f"an unknown number of {', '.join(found.cut_off)} could not be read"
