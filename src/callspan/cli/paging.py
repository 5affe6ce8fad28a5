"""Paging: `--limit` and `--offset` of lists, and the line below a table that was cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, TypeAlias, TypeVar

import click
from rich.console import Group

from callspan.cli.command_context import CommandContext
from callspan.cli.filter_options import Rows

TABLE_ROWS: Final = 50
_Command: TypeAlias = Callable[..., None]
_Row = TypeVar("_Row")


def page_options(rows: str) -> Callable[[_Command], _Command]:
    """Return what adds `--limit` and `--offset` to a list of these rows; without a limit JSON has all of them."""
    default = f"Default for a table: {TABLE_ROWS}; --json prints all."

    def add(function: _Command) -> _Command:
        function = click.option("--offset", type=Rows(0), default=0, help=f"Skip the first N {rows}.")(function)
        return click.option("--limit", type=Rows(1), help=f"Show at most N {rows}. {default}")(function)

    return add


def print_page(
    context: CommandContext,
    found: Iterator[_Row],
    limit: int | None,
    offset: int,
    *,
    json_row: Callable[[_Row], object],
    table: Callable[[list[_Row], int], Group],
) -> bool:
    """Print a page of rows as JSON, else as a table and whether there are more; return whether there was one."""
    if context.json:
        end = None if limit is None else offset + limit
        return bool(context.emit_all(map(json_row, islice(found, offset, end))))
    rows = limit or TABLE_ROWS
    shown = list(islice(found, offset, offset + rows))
    if shown:
        context.screen.print(table(shown, context.screen.console.width))
        say_more(context, None if next(found, None) else 0, offset + rows)
    return bool(shown)


def say_more(context: CommandContext, more: int | None, after: int) -> None:
    """Print that a table was cut after so many rows, and how to go on.

    `more` is the number of rows left, None where it is not known.
    """
    if more != 0:
        number = "" if more is None else f"{more:,} "
        context.screen.line((f"{number}more: --offset {after} goes on, --limit N shows more, --json all", "dim"))
