"""Formatting of numbers, money, times and recorded text, for the commands, the page and the console.

None is formatted as a dash, never as 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Final

from callspan.record import codec
from callspan.runtime.amounts import EXACT, as_text, decimal_context, is_amount

UNKNOWN: Final = "\N{EN DASH}"

_UNITS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_ROUNDS_UP: Final = 0.9995
_ABBREVIATED_FROM: Final = 100_000
_WHOLE: Final = (1_000, 1e15)
"""Rewards of a size from the first number have no decimals; from the second, a column has no place for all digits."""
_THREE_DIGITS: Final = decimal_context(3)
_CENTS: Final = 2
_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1e6
_NS_PER_US: Final = 1_000
_CONTROLS: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb"
)
_JOINERS: Final = "\u200c\u200d"
INVISIBLE: Final = (
    f"[{_CONTROLS}\U000e0000-\U000e007f]|(?<![^\x00-\x7f])[{_JOINERS}]|[{_JOINERS}](?![^\x00-\x7f{_JOINERS}])"
)
"""A pattern of control and invisible characters. Joiners between characters beyond ASCII belong to scripts and emoji.

`format.js` has the same.
"""
_RAW_CONTROLS: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_SPACES: Final = re.compile(r"\s+")
_UNSAFE: Final = re.compile(f"[<>&{_CONTROLS}]")


def count(number: int | None) -> str:
    """Return a whole number with thousands separators."""
    return UNKNOWN if number is None else f"{number:,}"


def plural(number: int, noun: str, verb: str = "") -> str:
    """Return a count with its noun and optionally a verb, such as `1 call` or `2 records wait`."""
    phrase = f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
    return f"{phrase} {verb}{'s' if number == 1 else ''}" if verb else phrase


def counted(numbers: Mapping[str, int]) -> str:
    """Return what was counted with its numbers, such as `spans without ids (3)`."""
    return ", ".join(f"{what} ({number:,})" for what, number in numbers.items())


def short_count(number: float) -> str:
    """Return a number with three significant digits and a unit, such as 12, 3.4k or 5.6M."""
    for size, unit in _UNITS:
        # A number that rounds up to the next unit is formatted in that unit.
        if abs(number) >= size * _ROUNDS_UP:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}" if number != int(number) else f"{int(number)}"


def tokens(input_tokens: int | None, output_tokens: int | None) -> str:
    """Return `input→output` tokens, abbreviated from 100,000; a single dash if neither is known."""
    if input_tokens is None and output_tokens is None:
        return UNKNOWN
    return f"{_token_count(input_tokens)}→{_token_count(output_tokens)}"


def _token_count(number: int | None) -> str:
    return count(number) if number is None or number < _ABBREVIATED_FROM else short_count(number)


def money(usd: Decimal | None) -> str:
    """Return an amount in dollars with cents; below one dollar with three significant digits.

    NaN, infinities and extreme values are formatted as unknown.
    """
    if usd is None or not is_amount(usd):
        return UNKNOWN
    amount, sign = usd.copy_abs(), "-" if usd < 0 else ""
    amount = _THREE_DIGITS.plus(amount) if amount < 1 else amount
    decimals = max(_CENTS, -int(EXACT.normalize(amount).as_tuple().exponent)) if 0 < amount < 1 else _CENTS
    amount = EXACT.quantize(amount, Decimal((0, (1,), -decimals)))
    return f"{sign}${amount:,f}"


def exact(usd: Decimal | None) -> str | None:
    """Return the exact decimal without an exponent; None for None and extreme values."""
    return None if usd is None else as_text(usd)


def reward(value: float | None) -> str:
    """Return a reward with its sign and four significant digits, or all of its integer part if that is short."""
    if value is None:
        return UNKNOWN
    return f"{value:+,.0f}" if _WHOLE[0] <= abs(value) < _WHOLE[1] else f"{value:+.4g}"


def score(mean: float, count: int, last_value: float) -> str:
    """Return the score of an objective: its only value, or mean, number and last value."""
    return reward(last_value) if count == 1 else f"mean {reward(mean)} of {count:,}, last {reward(last_value)}"


def duration(ns: float | None) -> str:
    """Return a duration in nanoseconds with a suitable unit."""
    return milliseconds(None if ns is None else ns / _NS_PER_MS)


def in_ms(ns: int | None) -> float | None:
    """Return nanoseconds as milliseconds, rounded; None for None."""
    return None if ns is None else round(ns / _NS_PER_MS, 3)


def milliseconds(ms: float | None) -> str:
    """Return a duration in milliseconds with a suitable unit, such as `8.1 ms`, `1.50 s`, `2 min 05 s`."""
    if ms is None:
        return UNKNOWN
    # Values from each bound on would be rounded up to the next unit.
    if ms < 9.95 and ms:  # noqa: PLR2004
        return f"{ms:.1f} ms"
    if ms < 999.5:  # noqa: PLR2004
        return f"{ms:.0f} ms"
    if ms < 59_995:  # noqa: PLR2004
        return f"{ms / 1000:.2f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if seconds else f"{minutes} min"


def local_time(ns: int | None) -> str:
    """Return Unix nanoseconds in local time: only the time of day for today, else date and minute."""
    if ns is None:
        return UNKNOWN
    local = datetime.fromtimestamp(ns / _NS_PER_S, tz=timezone.utc).astimezone()
    today = datetime.now(tz=timezone.utc).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M")


def iso(ns: int | None) -> str | None:
    """Return Unix nanoseconds as ISO 8601 in UTC with microseconds; None stays None."""
    if ns is None:
        return None
    seconds, nanoseconds = divmod(ns, _NS_PER_S)
    utc = datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=nanoseconds // _NS_PER_US)
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


def excerpt(text: str, limit: int | None = None) -> str:
    """Return recorded text as one line, without control and bidirectional characters."""
    if limit is not None:
        text = text[: limit * 2]
    text = _SPACES.sub(" ", re.sub(INVISIBLE, "\N{REPLACEMENT CHARACTER}", text)).strip()
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def json_block(json: bytes) -> bytes:
    """Return JSON that is safe inside a script element: markup and invisible characters are escaped."""
    return _escaped(json, _UNSAFE)


def json_text(value: object) -> str:
    """Return a value as text: empty for None, a string unchanged, anything else as JSON."""
    return codec.json_text(value) or ""


def json_line(value: object) -> bytes:
    """Return compact JSON with every control character escaped, C1 included."""
    return _escaped(codec.encode_json(value), _RAW_CONTROLS)


def _escaped(json: bytes, characters: re.Pattern[str]) -> bytes:
    return characters.sub(lambda match: f"\\u{ord(match[0]):04x}", json.decode()).encode()
