"""Screen: text for people. Recorded text is somebody else's: no control character of it reaches the terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from decimal import Decimal
from typing import Final

import click
from rich.console import Console, RenderableType
from rich.text import Text

from callspan.cli.encoding import fit
from callspan.cli.safe_text import clean
from callspan.record.codec import encode_json
from callspan.reports import text as wording

_WIDTH: Final = 100
"""Columns where output goes to no terminal."""
_RAW_CONTROLS: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_US_PER_NS: Final = 1_000
_MANY: Final = 100_000
UNKNOWN: Final = wording.UNKNOWN

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


def duration(ns: float | None) -> str:
    """Return nanoseconds as people say them; a dash where they are unknown."""
    return milliseconds(None if ns is None else ns / 1e6)


def milliseconds(ms: float | None) -> str:
    """Return milliseconds as people say them; a dash where they are unknown."""
    return wording.duration(ms)


def count(number: int | None) -> str:
    """Return a whole number with thousands set apart; a dash where it is unknown, for that is not 0."""
    return UNKNOWN if number is None else f"{number:,}"


def tokens(asked: int | None, answered: int | None) -> str:
    """Return `in→out` tokens, those of many digits shortened; a dash where neither is known."""
    return UNKNOWN if asked is None and answered is None else f"{_short(asked)}→{_short(answered)}"


def _short(number: int | None) -> str:
    return count(number) if number is None or number < _MANY else wording.short_count(number)


def money(usd: Decimal | None) -> str:
    """Return an amount in dollars, of less than one three digits that count; a dash where it is unknown."""
    if usd is None:
        return UNKNOWN
    return f"${usd:.2f}" if usd >= 1 or not usd else f"${usd:.{2 - usd.adjusted()}f}"


def reward(value: float | None) -> str:
    """Return a reward with its sign; a dash where there is none."""
    return UNKNOWN if value is None else f"{value:+.4g}"


def reward_style(value: float | None) -> str:
    """Return the colour of a reward."""
    return "" if value is None or value == 0 else "green" if value > 0 else "red"


def clock(ns: int | None) -> str:
    """Return the local time of Unix nanoseconds: of today the time alone, else with its day."""
    if ns is None:
        return UNKNOWN
    moment = datetime.fromtimestamp(ns / 1e9, tz=timezone.utc).astimezone()
    today = datetime.now(tz=timezone.utc).astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M")


def iso(ns: int | None) -> str | None:
    """Return Unix nanoseconds as ISO 8601 in UTC, to the microsecond; None of None."""
    if ns is None:
        return None
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=rest // _US_PER_NS)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
