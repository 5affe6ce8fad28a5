"""Session JSON: a session with its steps and everything that happened in them, as the pieces of one JSON document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from callspan.cli.rows import call_row, session_row
from callspan.cli.session_tree import Item, step_of
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, TimestepRecord
from callspan.stores.base import Event, Reader, SessionSummary

_LISTS: Final = ("calls", "tools", "events", "messages", "rewards")
Encode: TypeAlias = Callable[[object], str]
_Lists: TypeAlias = defaultdict[str, list[str]]
"""JSON of entries, by the list that they belong to."""


def session_json(reader: Reader, summary: SessionSummary, entries: Iterable[Item], encode: Encode) -> Iterator[str]:
    """Yield the JSON of a session; `entries` are of it, by time, and `encode` gives the JSON of a value.

    Entries of a session without steps are not held. Of others only their JSON is, until their step is written.
    """
    steps = list(reader.timesteps(summary.session.session_id))
    yield f'{encode(session_row(summary))[:-1]},"steps":['
    if not steps:
        yield from _without_steps(entries, encode)
        return
    found = _by_step(steps, entries, encode)
    for number, step in enumerate(steps):
        lists = found.pop(step.timestep_id, None) or defaultdict(list)
        members = ",".join(f'"{name}":[{",".join(lists[name])}]' for name in _LISTS)
        yield f"{',' if number else ''}{encode(_step(step))[:-1]},{members}}}"
    yield "]"
    loose = found[None]
    yield from (f',"loose_{name}":[{",".join(loose[name])}]' for name in _LISTS)
    yield "}"


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


def _by_step(steps: Iterable[TimestepRecord], entries: Iterable[Item], encode: Encode) -> dict[str | None, _Lists]:
    """The JSON of entries by the id of their step; None: of no known step."""
    known = {step.timestep_id for step in steps}
    found: dict[str | None, _Lists] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        step_id = step_of(entry)
        name, value = _member(entry)
        found[step_id if step_id in known else None][name].append(encode(value))
    return found


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
