"""Screen: text and tables for people, without the control characters of recorded text."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.text import Text

from callspan.cli.safe_text import clean
from callspan.formatting import UNKNOWN
from callspan.record.codec import encode_json
from callspan.stores.base import SessionSummary, Summary

_WIDTH: Final = 100
"""Width in columns without a terminal."""
_RAW_CONTROLS: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

OUTCOME_STYLES: Final = {
    "success": "green",
    "error": "bold red",
    "failure": "red",
    "timeout": "red",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "started": "cyan",
    "in_progress": "cyan",
}
_GAPS: Final = (2, 1)
"""Spaces between columns; the narrower gap is used before a column is dropped."""
_IDLE: Final = 100
"""Added to the rank of a column in which every value is zero."""
_NOTHING: Final = ("0", "+0", "$0.00", "", UNKNOWN)
_LEAST: Final = 8
"""Minimum width of a shrinkable column."""


class _Console(Console):
    """A console that raises BrokenPipeError instead of exiting."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError again."""
        raise BrokenPipeError


class Screen:
    """Output for people: colours and the terminal's width, or plain text of 100 columns without a terminal."""

    def __init__(self) -> None:
        self.console = _Console(
            width=None if sys.stdout.isatty() else _WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=False,
        )

    def print(self, what: RenderableType = "", *, no_wrap: bool | None = None) -> None:
        """Print a text, a table or a tree; without a terminal no line ends with spaces."""
        shown = partial(self.console.print, what, no_wrap=no_wrap, overflow="ellipsis" if no_wrap else None)
        if self.console.is_terminal:
            shown()
            return
        with self.console.capture() as captured:
            shown()
        self.console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def text(self, text: Text) -> None:
        """Print one line, truncated with an ellipsis at the width of the screen."""
        self.print(text, no_wrap=True)

    def paragraph(self, text: str, style: str = "") -> None:
        """Print cleaned text, wrapped at the width of the screen."""
        self.print(Text(clean(text), style=style))

    def line(self, *parts: tuple[str, str] | str) -> None:
        """Print one line of parts, each a text or (text, style); texts are cleaned."""
        self.text(styled(*parts))


def styled(*parts: tuple[str, str] | str) -> Text:
    """Return parts as one cleaned text; each is a text or (text, style)."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for part in parts:
        body, style = (part, "") if isinstance(part, str) else part
        text.append(clean(body), style=style or None)
    return text


def json_text(value: object) -> str:
    """Return compact JSON with every control character escaped, C1 included."""
    return _RAW_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", encode_json(value).decode())


def reward_style(value: float | None) -> str:
    """Return the colour of a reward."""
    return "" if value is None or value == 0 else "green" if value > 0 else "red"


def marks(counts: SessionSummary | Summary) -> list[str]:
    """Return what was less than whole among calls that did not fail, as `2 cut off`."""
    odd = {"cut by length": counts.cut_by_length, "cut off": counts.cut_off, "cancelled": counts.cancelled}
    return [f"{number:,} {word}" for word, number in odd.items() if number]


def session_style(summary: SessionSummary) -> str:
    """Return the colour of a session's outcome: no success is green with a call that was cut or cancelled."""
    outcome = summary.outcome
    return "yellow" if outcome == "success" and marks(summary) else OUTCOME_STYLES.get(outcome, "")


class Column(NamedTuple):
    """The layout of one table column."""

    name: str
    right: bool = False
    """Right-aligned, for numbers."""
    rank: int = 0
    """On a narrow screen the columns with the highest rank are dropped first; 0 is never dropped."""
    shrinks: bool = False
    """Its cells may be truncated."""
    least: int = _LEAST
    """Its minimum width."""
    known: bool = False
    """Dropped if no value in it is known."""


def score_columns(objectives: Sequence[str]) -> list[Column]:
    """Return a column for the scores of each objective."""
    return [Column(clean(objective), right=True, rank=1) for objective in objectives]


class _Layout(NamedTuple):
    gap: int
    widths: dict[int, int]
    """Width of each shown column, by its position."""


def fitted(columns: Sequence[Column], rows: Iterable[Sequence[Text | str]], width: int) -> Group:
    """Return a table of the rows, one line each, no wider than `width`."""
    lines = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    natural = [max([len(column.name), *(row[at].cell_len for row in lines)]) for at, column in enumerate(columns)]
    known = [
        at for at, column in enumerate(columns) if not column.known or any(row[at].plain != UNKNOWN for row in lines)
    ]
    idle = {at for at in known if lines and all(row[at].plain in _NOTHING for row in lines)}
    layout = _layout(
        [
            column._replace(rank=column.rank + _IDLE * (at in idle)) if column.rank else column
            for at, column in enumerate(columns)
        ],
        natural,
        known,
        width,
    )
    heads = [Text(column.name, style="bold") for column in columns]
    return Group(*(_line(columns, row, layout) for row in (heads, *lines)))


def _layout(columns: Sequence[Column], natural: Sequence[int], kept: list[int], width: int) -> _Layout:
    while True:
        least = sum(min(natural[at], columns[at].least) if columns[at].shrinks else natural[at] for at in kept)
        gap = next((gap for gap in _GAPS if least + gap * (len(kept) - 1) <= width), None)
        last = max(kept, key=lambda at: columns[at].rank)
        if gap is not None or columns[last].rank == 0:
            return _Layout(gap or _GAPS[-1], _widths(columns, natural, kept, width - (gap or 1) * (len(kept) - 1)))
        kept.remove(last)


def _widths(columns: Sequence[Column], natural: Sequence[int], kept: Sequence[int], room: int) -> dict[int, int]:
    """Return the width of each column that is kept; excess width is taken from the widest shrinkable column."""
    widths = {at: natural[at] for at in kept}
    while (too_much := sum(widths.values()) - room) > 0:
        shrinking = [at for at in kept if columns[at].shrinks and widths[at] > columns[at].least]
        if not shrinking:
            break
        widest = max(shrinking, key=lambda at: widths[at])
        others = [widths[at] for at in shrinking if at != widest]
        widths[widest] -= min(too_much, max(1, widths[widest] - max([columns[widest].least, *others])))
    return widths


def _line(columns: Sequence[Column], row: Sequence[Text], layout: _Layout) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for number, (at, width) in enumerate(layout.widths.items()):
        cell = row[at].copy()
        cell.truncate(width, overflow="ellipsis")
        room = Text(" " * (width - cell.cell_len))
        line.append(" " * layout.gap if number else "")
        line.append_text(room + cell if columns[at].right else cell + room)
    line.rstrip()
    return line
