"""Screen: text for people. Recorded text is untrusted: none of its control characters reaches the terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click
from rich.console import Console, RenderableType
from rich.text import Text

from callspan.cli.safe_text import clean, fit
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
