"""Paging: `--limit` of lists, and the line below a truncated table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, TypeAlias, TypeVar

import click

from callspan.cli.command_context import CommandContext
from callspan.cli.values import POSITIVE

TABLE_ROWS: Final = 50
_Command: TypeAlias = Callable[..., None]
_Row = TypeVar("_Row")


def limit_option(function: _Command) -> _Command:
    """Add `--limit` to a list; without it JSON has all rows."""
    limit = f"Show N rows. Default: {TABLE_ROWS}; --json has all."
    return click.option("--limit", type=POSITIVE, metavar="N", help=limit)(function)


def print_page(
    context: CommandContext,
    rows: Iterable[_Row],
    limit: int | None,
    *,
    json_rows: Callable[[Iterable[_Row]], Iterable[object]],
    table: Callable[[Sequence[_Row]], None],
) -> bool:
    """Print at most `limit` rows as JSON or as a table, with a note if there are more; return whether there are any."""
    if context.json:
        return bool(context.emit_all(json_rows(islice(rows, limit))))
    remaining = iter(rows)
    page = list(islice(remaining, limit or TABLE_ROWS))
    if page:
        table(page)
    if next(remaining, None) is not None:
        context.screen.paragraph(f"the first {len(page):,}: --limit N shows more, --json all", "dim")
    return bool(page)
