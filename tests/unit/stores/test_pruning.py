"""Which records are deleted by age; the same for both kinds of file."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from callspan.records import EventRecord, Record, SessionRecord, TimestepRecord
from callspan.stores import DeletionResult
from callspan.stores.retention import prune
from callspan.stores.urls import open_store

from .conftest import MIDNIGHT_NS, SECOND, Holding, made

THEN = MIDNIGHT_NS + 10 * SECOND


def session(**fields: Any) -> SessionRecord:
    return SessionRecord(session_id="s", seen_ns=1, **fields)


def event(at: int, session_id: str | None = None) -> EventRecord:
    return EventRecord(event_id="e", event_type="x", time_ns=at, session_id=session_id)


def records_of(removed: DeletionResult) -> DeletionResult:
    """The numbers of records only: only SQLite has free bytes."""
    return msgspec.structs.replace(removed, free_bytes=None)


@pytest.mark.parametrize(
    ("records", "removed"),
    [
        ([made("c", 9)], DeletionResult(calls=1)),
        ([made("c", 10)], DeletionResult()),
        ([made("c", 9, duration_ns=5 * SECOND)], DeletionResult(calls=1)),
        ([session(start_ns=THEN - 1)], DeletionResult(sessions=1)),
        ([session(start_ns=THEN)], DeletionResult()),
        ([session(start_ns=1, end_ns=THEN)], DeletionResult()),
        ([session(start_ns=1, end_ns=THEN - 1)], DeletionResult(sessions=1)),
        ([session()], DeletionResult()),
        ([session(start_ns=1, end_ns=2), made("c", 99, session_id="s"), event(THEN * 2, "s")],
         DeletionResult(sessions=1, calls=1, events=1)),
        ([session(start_ns=THEN), made("c", 1, session_id="s")], DeletionResult(calls=1)),
        ([event(THEN - 1)], DeletionResult(events=1)),
        ([event(THEN)], DeletionResult()),
        ([TimestepRecord(timestep_id="t", session_id="x", seen_ns=1, index=0, start_ns=1)],
         DeletionResult(timesteps=1)),
        ([TimestepRecord(timestep_id="t", session_id="x", seen_ns=1, index=0)], DeletionResult()),
    ],
)  # fmt: skip
def test_which_records_are_from_before_a_time(holding: Holding, records: list[Record], removed: DeletionResult) -> None:
    reader = holding(*records)
    reader.close()
    assert records_of(prune(reader.name, THEN)) == removed
    assert records_of(prune(reader.name, THEN)) == DeletionResult()
    left = open_store(reader.name)
    assert left.count_calls() == sum(getattr(one, "call_id", None) == "c" for one in records) - removed.calls
    left.close()
