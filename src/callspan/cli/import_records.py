"""`callspan import`: load JSON Lines, tables of ClickHouse and Postgres, and SQLite files into a readable store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click
import msgspec

from callspan import import_records
from callspan.cli.command_context import Command, CommandContext
from callspan.cli.terminal.progress import progress
from callspan.cli.values import MOMENT
from callspan.formatting import plural
from callspan.runtime.safe_urls import safe_name
from callspan.stores import first_readable

if TYPE_CHECKING:
    from callspan.stores.importing import ImportCounts

_EPILOG: Final = """\
callspan import calls.jsonl --into calls.db
callspan import --damaged broken.db --into saved.db"""


@click.command(
    "import",
    cls=Command,
    page="Stores: Import",
    short_help="Load JSON Lines, another store or a damaged file.",
    epilog=_EPILOG,
)
@click.argument("sources", metavar="FILE|URL...", nargs=-1, required=True)
@click.option("--into", metavar="URL", help="Store to load into, SQLite or Postgres. Default: that of --store.")
@click.option("--since", "since_ns", type=MOMENT, metavar="TIME", help="Only records from this time on: 7d, ISO 8601.")
@click.option("--damaged", is_flag=True, help="Read the intact rows of a damaged SQLite file.")
def import_command(
    context: CommandContext, sources: Sequence[str], into: str | None, since_ns: int | None, damaged: bool
) -> None:
    """Load records into a store that commands can read. An import can be repeated or resumed.

    Rotated JSON Lines files are included. The newest version of a record wins. Unreadable lines and rows, and
    records that were erased from that store, are counted and skipped. Exit code 1 if there was nothing to load.
    """
    target = first_readable(context.store) if into is None else into
    imports = []
    for source in sources:
        with progress(f"records of {safe_name(source)}", visible=not context.json) as update:
            update(0)
            imports.append(import_records(source, target, since_ns=since_ns, damaged=damaged))
    if context.json:
        context.emit([msgspec.to_builtins(counts) for counts in imports])
    else:
        for counts in imports:
            context.screen.paragraph(f"{counts.source}: {'; '.join(_count_texts(counts))}.")
    if not any(sum(counts.records.values()) for counts in imports):
        raise click.exceptions.Exit(1)


def _count_texts(counts: ImportCounts) -> Iterator[str]:
    counts_by_table = [plural(number, table[:-1]) for table, number in counts.records.items() if number]
    yield f"{', '.join(counts_by_table)} loaded (each version counts)" if counts_by_table else "nothing loaded"
    if counts.unreadable:
        yield f"{plural(counts.unreadable, 'record')} could not be read"
    if counts.mended:
        yield f"a part of {plural(counts.mended, 'record')} could not be read"
    if counts.erased:
        yield f"{plural(counts.erased, 'record')} had been erased from the target"
    if counts.bodies:
        yield f"{counts.bodies:,} of their requests and answers could not be read"
    if counts.cut_off:
        yield f"an unknown number of {', '.join(counts.cut_off)} could not be read"
