"""Interrupted records: recognizes records without an end, and ends them if their process is gone."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, TypeVar

from msgspec.structs import replace

from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.events import (
    RUN_TYPES,
    EventRecord,
    Record,
    SessionRecord,
    TimestepRecord,
    end_of,
    record_key,
    start_id,
)

INTERRUPTED: Final[Literal["interrupted"]] = "interrupted"
UNKNOWN: Final[Literal["unknown"]] = "unknown"
"""The outcome of a record without an end if its process cannot be seen and showed no sign of life for long."""
UNENDED: Final = (INTERRUPTED, UNKNOWN)
"""Outcomes that readers show, and no process has recorded."""
Unended: TypeAlias = Literal["interrupted", "unknown"]
_ERROR: Final = ErrorInfo(type=INTERRUPTED, kind="unknown", message="Its process ended before it did.")
_START: Final = start_id("")
_R = TypeVar("_R", bound=Record)


def is_open(record: Record) -> bool:
    """Return whether a record describes something that has not ended."""
    match record:
        case CallRecord():
            return record.outcome == "in_progress" or (record.outcome in UNENDED and record.part != "ended")
        case EventRecord():
            return record.event_type in RUN_TYPES
        case SessionRecord() | TimestepRecord():
            return record.end_ns is None
        case _:
            return False


def end_unended(record: _R, last_ns: int, outcome: Unended) -> _R:
    """Return an open record as ended at its last sign of life with this outcome; others unchanged.

    What is `interrupted` has an error. The duration of a call, and whether it can be repeated, remain unknown.
    """
    if not is_open(record):
        return record
    error = _ERROR if outcome == INTERRUPTED else None
    last_ns = max(last_ns, end_of(record))
    match record:
        case CallRecord():
            return replace(record, part="ended", outcome=outcome, error=error and replace(error, retryable=None))
        case EventRecord():
            ident, kind = record.event_id.removesuffix(_START), RUN_TYPES[record.event_type]
            duration_ns = last_ns - record.time_ns
            return replace(record, event_id=ident, event_type=kind, error=error, duration_ns=duration_ns)
        case SessionRecord() | TimestepRecord():
            return replace(record, end_ns=last_ns, outcome=outcome, error=error)
        case _:
            return record


def run_key(record: Record) -> str:
    """Return a key that the start and the end of a run share."""
    kind, ident = record_key(record)
    return f"{kind} {ident.removesuffix(_START)}"
