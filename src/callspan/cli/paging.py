"""Paging: `--limit` and `--offset` of lists, and the line below a table that was cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
    found: Iterable[_Row],
    limit: int | None,
    offset: int,
    *,
    json_rows: Callable[[Iterable[_Row]], Iterable[object]],
    table: Callable[[Sequence[_Row]], None],
    total: Callable[[], int | None] = lambda: None,
) -> bool:
    """Print a page of the rows behind `offset` as JSON, else as a table; return whether there was one.

    A table that is cut says how to go on, and how many rows are left if their `total` is known.
    """
    if context.json:
        return bool(context.emit_all(json_rows(islice(found, limit))))
    rows, left = limit or TABLE_ROWS, iter(found)
    shown = list(islice(left, rows))
    if shown:
        table(shown)
    if next(left, None) is not None:
        end, every = offset + rows, total()
        number = "" if every is None else f"{every - end:,} "
        context.screen.paragraph(f"{number}more: --offset {end} goes on, --limit N shows more, --json all", "dim")
    return bool(shown)
