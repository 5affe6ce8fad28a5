"""Screen: text and tables for people, without control characters of recorded text."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import partial
from textwrap import wrap
from typing import Any, Final, NamedTuple, TypeAlias

from rich.console import Console, OverflowMethod, RenderableType
from rich.table import Table
from rich.text import Text

from callspan.cli.terminal.safe_text import clean
from callspan.formatting import UNKNOWN, count, money
from callspan.stores import SessionSummary, Summary

_WIDTH: Final = 100
"""Width in columns without a terminal, unless `COLUMNS` states it."""

OUTCOME_STYLES: Final = {
    "success": "green",
    "error": "bold red",
    "failure": "red",
    "timeout": "red",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "unknown": "yellow",
    "in_progress": "cyan",
}
PRIORITIES: Final = (
    *(
        "name",
        "model",
        "question",
        "tokens",
        "success",
        "cost each",
        "reward",
        "time each",
        "calls",
        "time",
        "cost",
        "score",
    ),
    *("tokens each", "calls each", "p50", "p95", "started", "given", "line", "errors", "user"),
    *("first token", "retries", "steps", "steps each", "label", "source", "comment", "active", "models"),
    *("reasoning", "tokens per call"),
)
"""Columns of all lists, most important first; a narrow screen drops the last ones. Other columns are always shown."""
_RANKS: Final = {name: rank for rank, name in enumerate(PRIORITIES, 1)}
_MAX_LINE: Final = 1_000
"""Characters of a part of a line: no screen is wider, and to measure megabytes takes seconds."""
_GAP: Final = 2
"""Spaces between columns."""
_MIN_WIDTH: Final = 12
"""Minimum width of a column that shrinks."""
_MIN_KEY_WIDTH: Final = 17
"""Minimum width of a grouping key: a truncated hour or minute means nothing."""


Part: TypeAlias = Text | str | tuple[str, str]
"""A text with an optional style."""
Cell: TypeAlias = Part | None
"""The content of a cell; None is an unknown value."""


class _Console(Console):
    """A console that raises BrokenPipeError instead of exiting."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError again."""
        raise BrokenPipeError


class Screen:
    """Output for people: coloured, in the terminal's width, or plain text of 100 columns without a terminal.

    The environment variable `COLUMNS` states another width.
    """

    def __init__(self) -> None:
        self.console = _Console(
            width=_stated_width() or (None if sys.stdout.isatty() else _WIDTH),
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=False,
        )

    def print(self, renderable: RenderableType = "", *, overflow: OverflowMethod | None = None) -> None:
        """Print a text, a table or a tree, wrapped unless `overflow` says what becomes of long lines.

        Without a terminal no line ends with spaces.
        """
        print_renderable = partial(
            self.console.print,
            renderable,
            no_wrap=overflow is not None or None,
            overflow=overflow,
            crop=overflow != "ignore",
        )
        if self.console.is_terminal:
            print_renderable()
            return
        with self.console.capture() as captured:
            print_renderable()
        self.console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
        self.console.file.flush()

    def table(self, columns: Sequence[Column], rows: Iterable[object]) -> None:
        """Print a table, one line per row, and the names of the columns that the screen is too narrow for."""
        table, hidden = fitted(columns, rows, self.console.width)
        self.print(table)
        if hidden:
            self.paragraph(f"too narrow to show: {', '.join(hidden)}", "dim")

    def paragraph(self, text: str, style: str = "") -> None:
        """Print cleaned text, wrapped between words at the width of the screen: paths and URLs stay whole."""
        lines = wrap(clean(text), self.console.width, break_long_words=False, break_on_hyphens=False)
        self.print(Text("\n".join(lines), style=style), overflow="ignore")

    def line(self, *parts: Part) -> None:
        """Print one line of cleaned parts, truncated with an ellipsis at the width of the screen."""
        self.print(styled(*parts), overflow="ellipsis")


def _stated_width() -> int | None:
    """Return the width that the environment states; None if it states no positive number."""
    stated = os.environ.get("COLUMNS", "")
    return int(stated) or None if stated.isdecimal() else None


def styled(*parts: Part) -> Text:
    """Return parts as one line; strings are cleaned."""
    return Text.assemble(*map(_safe, parts), no_wrap=True, overflow="ellipsis")


def _safe(part: Part) -> Text | tuple[str, str]:
    if isinstance(part, Text):
        return part
    body, style = (part, "") if isinstance(part, str) else part
    return clean(body[:_MAX_LINE]), style


def reward_style(value: float | None) -> str:
    """Return the colour of a reward."""
    return "" if value is None or value == 0 else "green" if value > 0 else "red"


def marks(counts: SessionSummary | Summary) -> list[str]:
    """Return texts such as `2 cut off` for the incomplete answers among successful calls."""
    numbers = {
        "cut by length": counts.cut_by_length,
        "cut off": counts.cut_off,
        "refused": counts.refused,
        "cancelled": counts.cancelled,
    }
    return [f"{number:,} {word}" for word, number in numbers.items() if number]


def errors_cell(counts: SessionSummary | Summary) -> Cell:
    """Return the number of failed calls, in red if there are any."""
    return count(counts.errors), "red" if counts.errors else ""


def cost_text(counts: SessionSummary | Summary) -> str:
    """Return the cost of calls; `at least` if some calls have no known cost."""
    return least(counts.cost_usd, is_partial=bool(counts.calls_without_cost))


def least(usd: Decimal | None, *, is_partial: bool) -> str:
    """Return an amount of money; a partial one as `at least`."""
    return f"{'at least ' if is_partial and usd is not None else ''}{money(usd)}"


def session_outcome(summary: SessionSummary) -> str:
    """Return the outcome of a session, or that the store inferred it."""
    return summary.outcome or ("inferred" if summary.inferred else UNKNOWN)


def session_style(summary: SessionSummary) -> str:
    """Return the colour of a session's outcome. A success with a cut or cancelled call is not green."""
    outcome = summary.outcome
    return "yellow" if outcome == "success" and marks(summary) else OUTCOME_STYLES.get(outcome or "", "")


class Column(NamedTuple):
    """One column of a table."""

    name: str
    value: Callable[[Any], Cell]
    """Returns the cell of a row."""
    right: bool = False
    """Right-aligned, for numbers."""
    shrinks: bool = False
    """Its cells may be truncated to 12 characters."""
    stays: bool = False
    """Never dropped, on a screen of any width."""
    kind: str = ""
    """Its name in `PRIORITIES`, if another one: a score may have any name."""


def key_columns(keys: Sequence[str]) -> list[Column]:
    """Return a column for each grouping key; each row has its values, in the same order, in `row.keys`."""

    def column(at: int, name: str) -> Column:
        return Column(name, lambda row: (row.keys[at] or UNKNOWN, "cyan"), shrinks=True, stays=True)

    return [column(at, name) for at, name in enumerate(keys)]


def fitted(columns: Sequence[Column], rows: Iterable[object], width: int) -> tuple[Table, list[str]]:
    """Return a table of at most `width`, without columns of unknown values, and the names of those that do not fit."""
    cells = [[styled(column.value(row) or UNKNOWN) for column in columns] for row in rows]
    indexes, hidden = _fitting_columns(columns, cells, width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in (columns[index] for index in indexes):
        name = Text(column.name, no_wrap=True, overflow="ellipsis")
        table.add_column(name, justify="right" if column.right else "left", no_wrap=not column.shrinks)
    for row in cells:
        table.add_row(*(row[index] for index in indexes))
    return table, [columns[index].name for index in sorted(hidden)]


def _fitting_columns(
    columns: Sequence[Column], cells: Sequence[Sequence[Text]], width: int
) -> tuple[list[int], list[int]]:
    """Return the positions of the columns that fit, and of those that do not: the least important ones go first."""
    ranks = [0 if column.stays else _RANKS.get(column.kind or column.name, 0) for column in columns]
    is_known = [any(row[index].plain != UNKNOWN for row in cells) for index in range(len(columns))]
    indexes = [index for index, rank in enumerate(ranks) if rank == 0 or is_known[index]]
    hidden: list[int] = []
    min_widths = [_least_width(column, [row[index].cell_len for row in cells]) for index, column in enumerate(columns)]
    while sum(min_widths[index] + _GAP for index in indexes) - _GAP > width:
        least_important = max(indexes, key=ranks.__getitem__)
        if ranks[least_important] == 0:
            break  # only columns that are always shown are left
        indexes.remove(least_important)
        hidden.append(least_important)
    return indexes, hidden


def _least_width(column: Column, widths: Sequence[int]) -> int:
    """Return the width that a column needs if it shrinks as far as it may."""
    full_width = max([len(column.name), *widths])
    min_width = _MIN_KEY_WIDTH if column.stays else _MIN_WIDTH
    return min(full_width, min_width) if column.shrinks else full_width
