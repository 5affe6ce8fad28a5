"""Paging: `--limit` and `--offset` of lists, and the line below a table that was cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias, TypeVar

import click

from callspan.cli.command_context import CommandContext
from callspan.cli.values import COUNT, POSITIVE

TABLE_ROWS: Final = 50
_Command: TypeAlias = Callable[..., None]
_Row = TypeVar("_Row")


def page_options(function: _Command) -> _Command:
    """Add `--limit` and `--offset` to a list; without a limit JSON has all of its rows."""
    function = click.option("--offset", type=COUNT, metavar="N", default=0, help="Skip the first N rows.")(function)
    limit = f"Show N rows. Default: {TABLE_ROWS}; --json has all."
    return click.option("--limit", type=POSITIVE, metavar="N", help=limit)(function)


def print_page(
    context: CommandContext,
    found: Iterator[_Row],
    limit: int | None,
    offset: int,
    *,
    json_row: Callable[[_Row], object],
    table: Callable[[Sequence[_Row]], None],
) -> bool:
    """Print a page of rows as JSON, else as a table and whether there are more; return whether there was one."""
    if context.json:
        end = None if limit is None else offset + limit
        return bool(context.emit_all(map(json_row, islice(found, offset, end))))
    rows = limit or TABLE_ROWS
    shown = list(islice(found, offset, offset + rows))
    if shown:
        table(shown)
        say_more(context, None if next(found, None) else 0, offset + rows)
    return bool(shown)


def say_more(context: CommandContext, more: int | None, after: int) -> None:
    """Print the number of rows after which a table was cut, and how to continue.

    `more` is the number of rows left, None where it is not known.
    """
    if more != 0:
        number = "" if more is None else f"{more:,} "
        hint = f"{number}more: --offset {after} goes on, --limit N shows more, --json all"
        context.screen.paragraph(hint, "dim")
