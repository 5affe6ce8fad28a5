"""Values: the types of option values; an invalid value is a usage error."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from callspan.cli.terminal.safe_text import clean
from callspan.runtime.amounts import EXACT
from callspan.runtime.safe_urls import is_http_url, without_passwords
from callspan.stores import META

if TYPE_CHECKING:
    AnyType: TypeAlias = click.ParamType[Any]
else:
    # Older versions of click cannot subscript it.
    AnyType = click.ParamType

_IDS: Final = {name: f"{name}_id" for name in ("session", "user", "group", "task")}
"""The facts of groupings that are named otherwise."""
_MAX_COUNT: Final = 2**53
"""Larger counts are reduced to this."""
_MAX_NS: Final = 2**63 - 1
"""The largest time that stores can hold, in the year 2262."""
_NS_PER_S: Final = 1_000_000_000
_COMPARISONS: Final = ("<", ">", "!", "~")
"""Characters that make another comparison of `=`."""
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS_NS: Final = {"ms": 1_000_000, **{unit: seconds * _NS_PER_S for unit, seconds in _UNITS_S.items()}}


class Value(AnyType):
    """An option value parsed by a function that raises ValueError for invalid ones."""

    def __init__(self, name: str, parse: Callable[[str], object], advice: str, *, is_shown: bool = True) -> None:
        """`advice` describes valid values. Errors show the invalid value only if `is_shown`."""
        self.name = name
        self._parse = parse
        self._advice, self._is_shown = advice, is_shown

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value. A default that is not a string is returned unchanged."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except (ValueError, ArithmeticError, OSError):  # OSError: no local time for a date near year 1 or 9999
            prefix = f"{without_passwords(clean(repr(value)))}: " if self._is_shown else ""
            self.fail(f"{prefix}{self._advice}", param, ctx)


def _integer_from(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise ValueError
        return min(number, _MAX_COUNT)

    return parse


def _decimal(text: str) -> Decimal:
    amount = Decimal(text)
    if not amount.is_finite():
        raise ValueError
    return amount


def _duration(text: str) -> int:
    """Return nanoseconds; a number alone is in seconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError
    return min(int(EXACT.multiply(Decimal(match[1]), _UNITS_NS[match[2] or "s"])), _MAX_NS)


def _moment(text: str) -> int:
    """Return Unix nanoseconds; a time without a zone is local time."""
    if text.strip().endswith(tuple(_UNITS_S)):
        return max(0, time.time_ns() - _duration(text))
    moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00")).astimezone()
    seconds = int(moment.replace(microsecond=0).timestamp())
    return max(-_MAX_NS, min(seconds * _NS_PER_S + moment.microsecond * 1000, _MAX_NS))


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key or key.endswith(_COMPARISONS):
        raise ValueError
    return key, value


def _http_url(text: str) -> str:
    if not is_http_url(text):
        raise ValueError
    return text


def _trace_url(text: str) -> str:
    if "{trace_id}" not in text:
        raise ValueError
    _http_url(text.replace("{trace_id}", "0"))
    return text


def grouping(names: Sequence[str]) -> Value:
    """Return the type of groupings: these names, their facts' names or `meta:KEY`, separated by commas."""
    names_by_fact = {fact: name for name, fact in _IDS.items()}

    def parse(text: str) -> list[str]:
        keys = [names_by_fact.get(key.strip(), key.strip()) for key in text.split(",")]
        if not all(key in names or (key.startswith(META) and key != META) for key in keys):
            raise ValueError
        return keys

    return Value("key", parse, f"write one of {', '.join(names)}, {META}KEY, or several with commas")


def keys_row(groupings: Sequence[str], keys: Sequence[str | None]) -> dict[str, object]:
    """Return the keys of a group for JSON, by the names of facts."""
    return {_IDS.get(grouping, grouping): key for grouping, key in zip(groupings, keys, strict=True)}


COUNT: Final = Value("N", _integer_from(0), "write a whole number")
POSITIVE: Final = Value("N", _integer_from(1), "write a whole number from 1")


class _File(click.Path):
    """The path of a file."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. An impossible path is wrong usage."""
        try:
            return super().convert(value, param, ctx)
        except ValueError:  # NUL, or characters that the file system cannot encode
            self.fail(f"{clean(repr(value))}: no file can have this name", param, ctx)


FILE: Final = _File(path_type=Path, dir_okay=False, allow_dash=True)
"""A file to write; `-` is standard output."""
FILE_OR_DIRECTORY: Final = _File(path_type=Path, allow_dash=True)
"""The same, or a directory to write into."""
EXISTING_FILE: Final = _File(path_type=Path, exists=True, dir_okay=False)
USD: Final = Value("usd", _decimal, "write an amount in dollars, such as 0.25")
NUMBER: Final = Value("number", lambda text: float(_decimal(text)), "write a number, such as 0.5")
DURATION: Final = Value("time", _duration, "write 500ms, 30s, 2m or 1h")
MOMENT: Final = Value("time", _moment, "write 30m, 2h, 3d or a time such as 2026-11-20T08:00")
KEY_VALUE: Final = Value(
    "key=value", _key_value, "write key=value, which selects equal values; no other comparison is possible"
)
# Text that is no URL may still contain a password.
HTTP_URL: Final = Value("url", _http_url, "write http://host:port", is_shown=False)
TRACE_URL: Final = Value("url", _trace_url, "write http://host/trace/{trace_id}", is_shown=False)
