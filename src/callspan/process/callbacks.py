"""Callbacks: functions of the application that are called around sessions, timesteps, events and records."""

from __future__ import annotations

import inspect
from bisect import insort
from collections.abc import Callable, Collection
from itertools import count
from typing import Final, Literal, TypeAlias, TypeVar, get_args

import msgspec

from callspan.fail_open import fail_open
from callspan.record.events import EventRecord, MessageRecord, Record

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
"""When a callback is called. `before_record` and `after_record` see every record, also calls; the others their own."""

Callback: TypeAlias = Callable[[Record], Record | None]
"""Takes a record. At `before_record`, a record it returns replaces the one it got; otherwise the result is ignored."""

POINTS: Final[tuple[str, ...]] = get_args(Point)
REGISTERED: Final[dict[str, list[_Registration]]] = {}
"""The callbacks of each point that has any."""
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
    """Call `callback` at `point`; return a function that removes it again.

    Callbacks run by priority, highest first, then in the order of registration. `kinds` selects records by event or
    message type, for other records by kind (`session`, `timestep`, `call`, ...). A callback that raises is logged and
    changes nothing.

    Raises:
        ValueError: `point` is unknown.
        TypeError: `callback` is a coroutine function. Callbacks are called in synchronous code too.

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
    insort(entries, entry, key=_rank)
    REGISTERED[point] = entries
    return lambda: _remove(entry)


def call(point: Point, record: _R) -> _R:
    """Call the callbacks of `point`; return the record, or the replacement of a `before_record` callback."""
    for entry in REGISTERED.get(point, ()):
        if entry.kinds is not None and _kind(record) not in entry.kinds:
            continue
        with fail_open(f"run a {point} callback"):
            returned = entry.callback(record)
            if point == "before_record" and isinstance(returned, type(record)):
                record = _as_kind(type(record), returned)
    return record


def _as_kind(kind: type[_R], record: _R) -> _R:
    """Return a record of a subclass as one of its kind, without further fields: processors know the kinds only."""
    if type(record) is kind:
        return record
    return kind(**{name: getattr(record, name) for name in kind.__struct_fields__})


def _rank(entry: _Registration) -> tuple[int, int]:
    return entry.rank


def _kind(record: Record) -> str:
    if isinstance(record, EventRecord):
        return record.event_type
    if isinstance(record, MessageRecord):
        return record.message_type
    return str(type(record).__struct_config__.tag)


def _remove(entry: _Registration) -> None:
    left = [other for other in REGISTERED.get(entry.point, ()) if other is not entry]
    if left:
        REGISTERED[entry.point] = left
    else:
        REGISTERED.pop(entry.point, None)
