"""Paging: `--limit` and `--offset` of lists, and the line below a table that was cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import click

from callspan.cli.command_context import CommandContext
from callspan.cli.filter_options import Rows

TABLE_ROWS: Final = 50
_Command: TypeAlias = Callable[..., None]


def page_options(rows: str) -> Callable[[_Command], _Command]:
    """Return what adds `--limit` and `--offset` to a list of these rows; without a limit JSON has all of them."""
    default = f"Default for a table: {TABLE_ROWS}; --json prints all."

    def add(function: _Command) -> _Command:
        function = click.option("--offset", type=Rows(0), default=0, help=f"Skip the first N {rows}.")(function)
        return click.option("--limit", type=Rows(1), help=f"Show at most N {rows}. {default}")(function)

    return add


def say_more(context: CommandContext, more: int | None, after: int) -> None:
    """Print that a table was cut after so many rows, and how to go on.

    `more` is the number of rows left, None where it is not known.
    """
    if more != 0:
        number = "" if more is None else f"{more:,} "
        context.screen.line((f"{number}more: --offset {after} goes on, --limit N shows more, --json all", "dim"))
