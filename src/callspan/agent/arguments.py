"""Arguments of the session API: conversion to text, numbers, flags and times."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import partial
from itertools import islice
from numbers import Number
from operator import index
from typing import Any, Final, Protocol, SupportsIndex, TypeAlias
from uuid import UUID

from callspan.agent.misuse import UsageError, report_misuse
from callspan.record.labels import USER
from callspan.record.plain_json import TRUNCATED_KEY, clean, plain, plain_within
from callspan.runtime.fail_open import value_of

Time: TypeAlias = SupportsIndex | float | datetime
"""A time: Unix nanoseconds as an int, also of NumPy, Unix seconds as a float, or an aware datetime."""

_NS_PER_S: Final = 1_000_000_000
_MIN_NS: Final = 10**17
"""A time in 1973: a smaller int is taken for a mistake, such as seconds."""
_INT64_LIMIT: Final = 2**63
MAX_ENTRIES: Final = 1_000
"""Maximum number of values in one argument of metadata, and of tags, on the caller's thread."""
_TEXT: Final = frozenset({str})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ADVICE: Final = "a time must be Unix nanoseconds (int), Unix seconds (float), or a datetime with a time zone"


class SupportsBool(Protocol):
    """A bool of Python or NumPy."""

    def __bool__(self) -> bool:
        """Return the truth value."""


def as_int(value: object) -> int | None:
    """Return a number as an int; None if it is not an integer of 64 bits."""
    number = value_of(partial(int, value)) if value is not None else None
    return number if number is not None and -_INT64_LIMIT <= number < _INT64_LIMIT else None


def as_text(value: object) -> str | None:
    """Return a name or an id as text that every store can save; None for None.

    Text, a number, a UUID and an `Enum` of these are names and ids. Anything else is misuse, logged without its text
    (which may be a whole answer), and None.
    """
    if type(value) is str:
        return clean(value)
    if value is None:
        return None
    if isinstance(value, Enum):
        return as_text(value.value)
    if isinstance(value, str):
        return clean(str.__str__(value))
    if not isinstance(value, Number | UUID):
        report_misuse(UsageError(f"a name or an id must be text, a number or a UUID, not a {type(value).__name__}"))
        return None
    text = value_of(partial(_text, value))
    return None if text is None else clean(text)


def _text(value: object) -> str:
    return str(plain(value) if isinstance(value, int) else value)


def names_in(value: object) -> object:
    """Return a field of the metadata without what is no name or id, see `as_text`; None if nothing is left.

    At most `MAX_ENTRIES` items of a list are read.
    """
    if isinstance(value, list | tuple | set | frozenset):
        return [item for item in islice(value, MAX_ENTRIES) if as_text(item) is not None]
    return value if as_text(value) is not None else None


def as_bool(value: object) -> bool | None:
    """Return a flag as a bool, also from NumPy; None for None."""
    return value if value is None or isinstance(value, bool) else value_of(partial(bool, value))


def as_field(name: str, value: object) -> object:
    """Return the value of a field of the metadata, see `names_in`; None for a `user_id` that is no single name."""
    if name == USER:
        return value if as_text(value) is not None else None
    return names_in(value)


def as_dict(metadata: object) -> dict[str, object]:
    """Return metadata as a new dict without None values; plain JSON that is no mapping is stored under `metadata`.

    Any other object, a key that is no name, and a `user_id` that is none are misuse. At most `MAX_ENTRIES` values are
    kept, see `plain_within`.
    """
    if metadata is None or (type(metadata) is dict and not metadata):
        return {}
    if not isinstance(metadata, Mapping):
        if isinstance(metadata, str | Number | list | tuple):
            return {"metadata": metadata}
        report_misuse(
            UsageError(f"metadata must be a mapping of names to JSON values, not a {type(metadata).__name__}")
        )
        return {}
    is_small = type(metadata) is dict and len(metadata) <= MAX_ENTRIES
    has_texts = is_small and _TEXT.issuperset(map(type, metadata))
    items, _ = plain_within(metadata if has_texts else _with_names(metadata), MAX_ENTRIES)
    return _with_user(items) if isinstance(items, dict) else {}


def _with_user(items: dict[str, object]) -> dict[str, object]:
    """Return metadata without None values, and without a user that is no name."""
    without_none = {key: value for key, value in items.items() if value is not None}
    if USER in without_none and as_text(without_none[USER]) is None:
        del without_none[USER]
    return without_none


def first_entries(entries: dict[str, object], first: Collection[str]) -> dict[str, object]:
    """Return at most `MAX_ENTRIES` of a dict with a note of what is left out; those named in `first` are kept."""
    if len(entries) <= MAX_ENTRIES:
        return entries
    first_values = {name: entries[name] for name in first if name in entries}
    first_values.update(islice(entries.items(), MAX_ENTRIES - len(first_values)))
    return {**first_values, TRUNCATED_KEY: {"values": len(entries) - len(first_values)}}


def _with_names(metadata: Mapping[Any, object]) -> Mapping[Any, object]:
    """Return metadata without the keys that are no names; the same object if the kept part has only names."""
    keys = value_of(lambda: list(islice(metadata, MAX_ENTRIES))) or []
    odd = [key for key in keys if not isinstance(key, str | Number | UUID | Enum | None)]
    if not odd:
        return metadata
    report_misuse(UsageError(f"a name in metadata must be text or a number, not a {type(odd[0]).__name__}"))
    return (
        value_of(lambda: {key: metadata[key] for key in metadata if isinstance(key, str | Number | UUID | Enum)}) or {}
    )


def reward_value(value: object) -> float | None:
    """Return a reward as a float, also from arrays and tensors of one element; None for None.

    Raises UsageError for anything but a finite number.
    """
    if value is None:
        return None
    amount = value if type(value) is float else value_of(partial(_as_float, value))
    if amount is None or not math.isfinite(amount):
        raise UsageError("a reward must be a finite number")
    return amount


def _as_float(value: Any) -> float:
    # NumPy converts only an array without dimensions by itself.
    return float(value.item() if hasattr(value, "item") else value)


def moment(at: Time | None) -> int:
    """Return `at` as Unix nanoseconds, the current time for None.

    Raises:
        UsageError: It is not a valid time, or a datetime without a time zone.
    """
    if at is None:
        return time.time_ns()
    time_ns = _nanoseconds(at)
    if time_ns is None or time_ns < _MIN_NS:
        raise UsageError(_ADVICE)
    return time_ns


def offset(at: Time, start_ns: int) -> int | None:
    """Return the nanoseconds from `start_ns` to `at`. An invalid or earlier time is misuse: logged, and None."""
    try:
        offset_ns = moment(at) - start_ns
        if offset_ns < 0:
            raise UsageError("an end or first token must not be before the start (`at`)")
    except UsageError as misuse:
        report_misuse(misuse)
        return None
    return offset_ns


def _nanoseconds(at: Any) -> int | None:
    time_ns: int | None
    if isinstance(at, datetime):
        if at.tzinfo is None:
            return None
        time_ns = (at - _EPOCH) // timedelta(microseconds=1) * 1000
    elif isinstance(at, float):
        # The comparison is false for NaN and infinities.
        time_ns = round(at * _NS_PER_S) if 0 <= at < _INT64_LIMIT / _NS_PER_S else -1
    else:
        time_ns = value_of(partial(index, at))
    return time_ns if time_ns is not None and 0 <= time_ns < _INT64_LIMIT else None
