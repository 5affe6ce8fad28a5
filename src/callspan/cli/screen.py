"""Screen: text and tables for people. None of the control characters of recorded text reaches the terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import click
from rich.console import Console, Group, RenderableType
from rich.text import Text

from callspan.cli.safe_text import clean, fit
from callspan.formatting import UNKNOWN
from callspan.record.codec import encode_json

_WIDTH: Final = 100
"""Columns where output goes to no terminal."""
_RAW_CONTROLS: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

OUTCOME_STYLES: Final = {
    "success": "green",
    "error": "bold red",
    "failure": "red",
    "timeout": "red",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "started": "cyan",
}


class _Console(Console):
    """A console that leaves it to the command what a broken pipe means."""

    def on_broken_pipe(self) -> None:
        """Raise it, once more."""
        raise BrokenPipeError


class Screen:
    """Where people read: colours and the real width on a terminal, plain text of 100 columns elsewhere."""

    def __init__(self, *, pager: bool = False) -> None:
        stdout = sys.stdout
        self._pager = pager and stdout.isatty()
        self.console = _Console(
            width=None if stdout.isatty() else _WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=False,
        )

    @contextmanager
    def paged(self) -> Iterator[None]:
        """Show what the block prints through the reader's pager ($PAGER), if a terminal cannot show it at once."""
        if not self._pager:
            yield
            return
        with self.console.capture() as captured:
            yield
        shown = fit(captured.get(), sys.stdout.encoding)
        if shown.count("\n") < self.console.height:
            click.echo(shown, nl=False)
        else:
            click.echo_via_pager(shown)

    def print(self, what: RenderableType = "") -> None:
        """Print a line, a table, a tree."""
        self.console.print(what)

    def text(self, text: Text) -> None:
        """Print one line, cut off with an ellipsis where the screen ends."""
        self.console.print(text, no_wrap=True, overflow="ellipsis")

    def paragraph(self, text: str) -> None:
        """Print cleaned text, wrapped where the screen ends."""
        self.console.print(Text(clean(text)))

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
    """Return compact JSON in which every control character is escaped, those of C1 too."""
    return _RAW_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", encode_json(value).decode())


def reward_style(value: float | None) -> str:
    """Return the colour of a reward."""
    return "" if value is None or value == 0 else "green" if value > 0 else "red"


_GAPS: Final = (2, 1)
"""Between columns; the narrow one before any column goes."""
_IDLE: Final = 100
"""Added to the rank of a column that says nothing but zero."""
_NOTHING: Final = ("0", "+0", "$0.00", "", UNKNOWN)
_LEAST: Final = 8
"""What a column that may shrink keeps at the least."""


class Column(NamedTuple):
    """One column."""

    name: str
    right: bool = False
    """Numbers stand to the right."""
    rank: int = 0
    """Where the screen is narrow the highest goes first; 0 stays."""
    shrinks: bool = False
    """Its cells may be cut; others are whole."""
    least: int = _LEAST
    """So much of its cells stays."""
    known: bool = False
    """It goes where nothing is known in it."""


class _Layout(NamedTuple):
    gap: int
    widths: dict[int, int]
    """Position of a column that is shown -> its width."""


def fitted(columns: Sequence[Column], rows: Iterable[Sequence[Text | str]], width: int) -> Group:
    """Return the rows below their heads, one line each, no wider than `width`."""
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
    """The width of each column that is kept; what is too much is taken from the widest that may shrink."""
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
