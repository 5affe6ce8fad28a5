"""Entries: the calls and events of a session: when each began and ended, and in which step."""

from __future__ import annotations

from typing import TypeAlias

from callspan.record.call import CallRecord
from callspan.record.events import EventRecord
from callspan.stores.base import Event

Entry: TypeAlias = CallRecord | Event
"""The records in a session."""


def start_of(entry: Entry) -> int:
    """Return the start of a call or event in Unix nanoseconds."""
    return entry.timing.start_ns if isinstance(entry, CallRecord) else entry.time_ns


def duration_of(entry: Entry) -> int | None:
    """Return the duration in nanoseconds; None for an instant, or an entry that still runs."""
    if isinstance(entry, CallRecord):
        return entry.timing.duration_ns
    return entry.duration_ns if isinstance(entry, EventRecord) else None


def end_of(entry: Entry) -> int:
    """Return the end in Unix nanoseconds; of an entry without a duration its start."""
    return start_of(entry) + (duration_of(entry) or 0)


def step_of(entry: Entry) -> str | None:
    """Return the id of the timestep an entry belongs to; None: it belongs to the session itself."""
    return entry.place.timestep_id if isinstance(entry, CallRecord) else entry.timestep_id
