"""Callbacks: functions of the application that are called around sessions, timesteps, events and records."""

from __future__ import annotations

import inspect
from bisect import insort
from collections.abc import Callable, Collection
from itertools import count
from typing import Final, Literal, TypeAlias, TypeVar, get_args

import msgspec

from callspan.process.public_records import private, public
from callspan.record.events import EventRecord, MessageRecord, Record
from callspan.runtime.fail_open import fail_open

Point: TypeAlias = Literal[
    "session_start",
    "session_end",
    "timestep_start",
    "timestep_end",
    "event",
    "message",
    "before_record",
    "after_record",
]
"""When a callback is called. `before_record` and `after_record` get records of every kind, calls included."""

Callback: TypeAlias = Callable[[Record], Record | None]
"""Called with a record, of a call with bodies as plain JSON (dict, list, ...).

At `before_record` a returned record replaces it; at other points the result is ignored.
"""

POINTS: Final[tuple[str, ...]] = get_args(Point)
REGISTERED: Final[dict[str, list[_Registration]]] = {}
"""The callbacks by point; no entry for a point without callbacks."""
_numbers: Final = count()
_R = TypeVar("_R", bound=Record)


class _Registration(msgspec.Struct, frozen=True, kw_only=True, order=False):
    point: Point
    callback: Callback
    kinds: frozenset[str] | None
    rank: tuple[int, int]


def add_callback(
    point: Point, callback: Callback, *, kinds: Collection[str] | None = None, priority: int = 0
) -> Callable[[], None]:
    """Call `callback` at `point`; return a function that removes it.

    Points are `session_start`, `session_end`, `timestep_start`, `timestep_end`, `event`, `message`, and for every kind
    of record `before_record`, where a returned record replaces it, and `after_record`.

    Callbacks run by priority, highest first, then in the order of registration. `kinds` selects events and messages by
    type, other records by kind (`session`, `timestep`, `call`, ...). An exception of a callback is logged and has no
    other effect.

    Raises:
        ValueError: `point` is unknown.
        TypeError: `callback` is a coroutine function; callbacks are also called in synchronous code.

    Example:
        >>> remove = callspan.add_callback("timestep_end", lambda step: print(step.outcome))
        >>> with callspan.testing.capture(), callspan.session("chat"), callspan.timestep():
        ...     pass
        success
        >>> remove()
    """
    if point not in POINTS:
        raise ValueError(f"no callback point {point!r}; one of {', '.join(POINTS)}")
    if inspect.iscoroutinefunction(callback):
        raise TypeError(f"{callback!r}: a callback cannot be awaited; start a task in it, or put the record on a queue")
    entry = _Registration(
        point=point,
        callback=callback,
        kinds=None if kinds is None else frozenset(kinds),
        rank=(-priority, next(_numbers)),
    )
    # A new list: another thread may be iterating over the old one.
    entries = list(REGISTERED.get(point, ()))
    insort(entries, entry, key=lambda registration: registration.rank)
    REGISTERED[point] = entries
    return lambda: _remove(entry)


def call(point: Point, record: _R) -> _R:
    """Call the callbacks of `point`; return the record, or the replacement of a `before_record` callback."""
    for entry in REGISTERED.get(point, ()):
        if entry.kinds is not None and _kind(record) not in entry.kinds:
            continue
        with fail_open(f"run the {point} callback"):
            returned = entry.callback(public(record))
            if point == "before_record" and isinstance(returned, type(record)):
                record = _replaced(record, returned)
    return record


def _replaced(record: _R, returned: _R) -> _R:
    """Return a callback's result as a record of its base type, for the processors; the same record if it is equal."""
    kind = type(record)
    replacement = private(returned)
    if type(replacement) is not kind:
        replacement = kind(**{name: getattr(replacement, name) for name in kind.__struct_fields__})
    return record if replacement == record else replacement


def _kind(record: Record) -> str:
    if isinstance(record, EventRecord):
        return record.event_type
    if isinstance(record, MessageRecord):
        return record.message_type
    return str(type(record).__struct_config__.tag)


def _remove(entry: _Registration) -> None:
    remaining = [registration for registration in REGISTERED.get(entry.point, ()) if registration is not entry]
    if remaining:
        REGISTERED[entry.point] = remaining
    else:
        REGISTERED.pop(entry.point, None)
