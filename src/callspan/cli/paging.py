"""Paging: `--limit` of lists, and the line below a table that was cut."""

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
    """Add `--limit` to a list; without it JSON has all of its rows."""
    limit = f"Show N rows. Default: {TABLE_ROWS}; --json has all."
    return click.option("--limit", type=POSITIVE, metavar="N", help=limit)(function)


def print_page(
    context: CommandContext,
    found: Iterable[_Row],
    limit: int | None,
    *,
    json_rows: Callable[[Iterable[_Row]], Iterable[object]],
    table: Callable[[Sequence[_Row]], None],
) -> bool:
    """Print rows as JSON, else as a table, which says if it is cut; return whether there was one."""
    if context.json:
        return bool(context.emit_all(json_rows(islice(found, limit))))
    left = iter(found)
    shown = list(islice(left, limit or TABLE_ROWS))
    if shown:
        table(shown)
    if next(left, None) is not None:
        context.screen.paragraph(f"the first {len(shown):,}: --limit N shows more, --json all", "dim")
    return bool(shown)
