"""Callbacks: plain callables of the application around sessions, timesteps, events and records."""

from __future__ import annotations

import inspect
from bisect import insort
from collections.abc import Callable, Collection
from itertools import count
from typing import Final, Literal, TypeAlias, get_args

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
"""Takes a record. At `before_record` a record it returns takes the place of the one it got; else ignored."""

POINTS: Final[tuple[str, ...]] = get_args(Point)


class _Registration(msgspec.Struct, frozen=True, kw_only=True, order=False):
    point: Point
    callback: Callback
    kinds: frozenset[str] | None
    rank: tuple[int, int]


_registered: dict[str, list[_Registration]] = {}
"""Only points that have callbacks."""
_numbers: Final = count()


def add_callback(
    point: Point, callback: Callback, *, kinds: Collection[str] | None = None, priority: int = 0
) -> Callable[[], None]:
    """Call `callback` at `point`; return a callable that takes it away again.

    Higher priority first, then in the order of registration. `kinds` keeps only records whose event or
    message type, else whose kind (`session`, `timestep`, `call`, ...), is among them. A callback that raises is
    logged and harms nothing. Raises ValueError for an unknown point, and TypeError for a coroutine function:
    callbacks are called where nothing can be awaited, in synchronous code too.
    """
    if point not in POINTS:
        raise ValueError(f"no callback point {point!r}; one of {', '.join(POINTS)}")
    if inspect.iscoroutinefunction(callback):
        raise TypeError(
            f"{callback!r}: a callback cannot be awaited; let it start a task of its own, or hand to a queue"
        )
    entry = _Registration(
        point=point,
        callback=callback,
        kinds=None if kinds is None else frozenset(kinds),
        rank=(-priority, next(_numbers)),
    )
    # A new list: another thread may be going through the one there is.
    entries = list(_registered.get(point, ()))
    insort(entries, entry, key=_rank)
    _registered[point] = entries
    return lambda: _take_away(entry)


def any_at(*points: Point) -> bool:
    """Return whether there are callbacks at one of these points."""
    return bool(_registered) and any(point in _registered for point in points)


def fire(point: Point, record: Record) -> Record:
    """Call the callbacks of `point`; return the record, or what a `before_record` callback put in its place."""
    if not _registered:
        return record
    for entry in _registered.get(point, ()):
        if entry.kinds is not None and _kind(record) not in entry.kinds:
            continue
        with fail_open(f"run a {point} callback"):
            returned = entry.callback(record)
            if point == "before_record" and isinstance(returned, type(record)):
                record = returned
    return record


def treated(record: Record, treat: Callable[[Record], Record], point: Point | None = None) -> Record:
    """Return what of the record may be shown and kept, after the callbacks of `point` and those before every record.

    Hooks see what the policy `treat` has left; what one puts in its place goes through the policy too.
    """
    shown = treat(record)
    if point is not None:
        fire(point, shown)
    kept = fire("before_record", shown)
    return kept if kept is shown else treat(kept)


def write_and_tell(record: Record, write: Callable[[Record], None]) -> None:
    """Write a treated record, then call the callbacks after every record."""
    write(record)
    fire("after_record", record)


def _rank(entry: _Registration) -> tuple[int, int]:
    return entry.rank


def _kind(record: Record) -> str:
    if isinstance(record, EventRecord):
        return record.event_type
    if isinstance(record, MessageRecord):
        return record.message_type
    return str(type(record).__struct_config__.tag)


def _take_away(entry: _Registration) -> None:
    left = [other for other in _registered.get(entry.point, ()) if other is not entry]
    if left:
        _registered[entry.point] = left
    else:
        _registered.pop(entry.point, None)
