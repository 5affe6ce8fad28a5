"""Session JSON: a session with its steps and everything that happened in them, as the pieces of one JSON document."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from callspan.cli.rows import call_row, session_row
from callspan.cli.session_tree import Item, step_of, when
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, TimestepRecord
from callspan.stores.base import Content, Event, Reader, SessionSummary

_LISTS: Final = ("calls", "tools", "events", "messages", "rewards")
Encode: TypeAlias = Callable[[object], str]
Read: TypeAlias = Callable[[Content], Iterable[Item]]
"""Reads the entries of a session, calls with these bodies."""
_Lists: TypeAlias = defaultdict[str, list[str]]
"""JSON of entries, by the list that they belong to."""


def session_json(reader: Reader, summary: SessionSummary, read: Read, encode: Encode) -> Iterator[str]:
    """Yield the JSON of a session; `read` reads its entries by time, and `encode` gives the JSON of a value.

    Entries of a session without steps are not held. Of others only their JSON is, until the last one of their step and
    of those before it was read.
    """
    steps = {step.timestep_id: encode(_step(step)) for step in reader.timesteps(summary.session.session_id)}
    yield f'{encode(session_row(summary))[:-1]},"steps":['
    if not steps:
        yield from _without_steps(read("response"), encode)
        return
    last = {step_of(entry): when(entry) for entry in read("none")}
    found: dict[str | None, _Lists] = defaultdict(lambda: defaultdict(list))
    waiting = deque(steps)
    for entry in read("response"):
        while waiting and last.get(waiting[0], -1) < when(entry):
            yield _written(steps, waiting, found)
        step_id = step_of(entry)
        name, value = _member(entry)
        found[step_id if step_id in steps else None][name].append(encode(value))
    while waiting:
        yield _written(steps, waiting, found)
    yield "]"
    loose = found[None]
    yield from (f',"loose_{name}":[{",".join(loose[name])}]' for name in _LISTS)
    yield "}"


def _written(steps: dict[str, str], waiting: deque[str], found: dict[str | None, _Lists]) -> str:
    """Return the first waiting step with its entries, and let go of them."""
    between = "," if len(waiting) < len(steps) else ""
    step_id = waiting.popleft()
    lists = found.pop(step_id, None) or defaultdict(list)
    members = ",".join(f'"{name}":[{",".join(lists[name])}]' for name in _LISTS)
    return f"{between}{steps[step_id][:-1]},{members}}}"


def _without_steps(entries: Iterable[Item], encode: Encode) -> Iterator[str]:
    """The rest of the document; calls as they come."""
    loose: _Lists = defaultdict(list)
    yield '],"loose_calls":['
    between = ""
    for entry in entries:
        name, value = _member(entry)
        if name == "calls":
            yield f"{between}{encode(value)}"
            between = ","
        else:
            loose[name].append(encode(value))
    yield "]"
    yield from (f',"loose_{name}":[{",".join(loose[name])}]' for name in _LISTS[1:])
    yield "}"


def _member(entry: Item) -> tuple[str, dict[str, object]]:
    """The list that an entry belongs to, and what it is there."""
    if isinstance(entry, CallRecord):
        return "calls", call_row(entry)
    if isinstance(entry, EventRecord):
        return ("tools" if entry.event_type == "tool" else "events"), _fields(entry)
    return ("messages" if isinstance(entry, MessageRecord) else "rewards"), _fields(entry)


def _fields(item: Event) -> dict[str, object]:
    """Every field, those too that a record leaves out where they say nothing."""
    return {"kind": item.__struct_config__.tag, **msgspec.structs.asdict(item)}


def _step(step: TimestepRecord) -> dict[str, object]:
    return {
        "timestep_id": step.timestep_id,
        "user_step_id": step.user_step_id,
        "index": step.index,
        "name": step.name,
        "outcome": step.outcome,
        "terminated": step.terminated,
        "truncated": step.truncated,
        "start_ns": step.start_ns,
        "end_ns": step.end_ns,
        "totals": step.totals,
    }
