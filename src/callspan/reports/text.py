"""Text of the page: numbers as people say them, and recorded text made harmless."""

from __future__ import annotations

import html
import re
from datetime import datetime, timezone
from decimal import Context, Decimal
from typing import Final

import msgspec

UNKNOWN: Final = "\N{EN DASH}"
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
_SPACES: Final = re.compile(r"\s+")
_SCRIPT_ENDS: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_UNITS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_ALMOST: Final = 0.9995
_THREE_DIGITS: Final = Context(prec=3)


def shown(text: str, limit: int | None = None) -> str:
    """Return recorded text on one line without control characters or what turns the direction of writing round."""
    if limit is not None:
        text = text[: limit * 2]
    text = _SPACES.sub(" ", _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text)).strip()
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def escaped(text: object) -> str:
    """Return text for HTML content and quoted attributes."""
    return html.escape(shown(str(text)), quote=True)


def json_block(value: object) -> str:
    """Return JSON that may stand inside a script element: nothing in it ends the element or starts another."""
    text = msgspec.json.encode(value).decode()
    for character, instead in _SCRIPT_ENDS.items():
        text = text.replace(character, instead)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def count(number: int | None) -> str:
    """Return a whole number with thousands set apart; a dash where it is unknown."""
    return UNKNOWN if number is None else f"{number:,}"


def plural(number: int, one: str) -> str:
    """Return how many of what, such as `1 call` or `2 calls`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def short_count(number: float | None) -> str:
    """Return a number as 12, 3.4k, 5.6M; a dash where it is unknown."""
    if number is None:
        return UNKNOWN
    for size, unit in _UNITS:
        # What three digits would round up to the next unit is of that unit.
        if abs(number) >= size * _ALMOST:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}" if number != int(number) else f"{int(number)}"


def money(usd: Decimal | None) -> str:
    """Return an amount in dollars; a dash where it is unknown."""
    if usd is None:
        return UNKNOWN
    amount, sign = abs(usd), "-" if usd < 0 else ""
    amount = _THREE_DIGITS.plus(amount) if amount < 1 else amount
    return f"{sign}${amount:,.2f}" if amount >= 1 or amount == 0 else f"{sign}${amount.normalize():f}"


def duration(ms: float | None) -> str:
    """Return milliseconds as people say them; a dash where they are unknown."""
    if ms is None:
        return UNKNOWN
    # Each bound is where rounding would reach the next unit.
    if ms < 9.95 and ms:  # noqa: PLR2004
        return f"{ms:.1f} ms"
    if ms < 999.5:  # noqa: PLR2004
        return f"{ms:.0f} ms"
    if ms < 59_995:  # noqa: PLR2004
        return f"{ms / 1000:.2f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if seconds else f"{minutes} min"
    )


def span(first_ns: int | None, last_ns: int | None) -> str:
    """Return from when to when, as short as it can be said: one moment, the times of one day, or both whole."""
    first, last = moment(first_ns), moment(last_ns)
    if first == last:
        return first
    same_day = first.partition(" ")[0] == last.partition(" ")[0]
    return f"{first.removesuffix(' UTC')} to {last.partition(' ')[2]}" if same_day else f"{first} to {last}"


def moment(ns: int | None) -> str:
    """Return Unix nanoseconds as day and time in UTC; a dash where they are unknown."""
    if ns is None:
        return UNKNOWN
    return datetime.fromtimestamp(ns // 1_000_000_000, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
