"""Span ids: completes the ids of records written without a tracer provider, which lack a trace, or all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final, TypeAlias

from msgspec.structs import replace

from callspan.record.call import CallRecord
from callspan.record.events import (
    RUN_TYPES,
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    first_ns,
    record_key,
)
from callspan.record.interrupted import run_key

_SCOPES: Final = frozenset({*RUN_TYPES, *RUN_TYPES.values(), "guardrail", "handoff", "environment"})
"""Types of events that have their own span in a process with a tracer provider, if they have a duration."""
_WithSpan: TypeAlias = CallRecord | SessionRecord | TimestepRecord | EventRecord | RewardRecord


def with_derived_ids(records: Sequence[Record]) -> list[Record]:
    """Return the records, with all ids of their spans for those written without a tracer provider.

    Derived ids are deterministic. The parent is the recorded one, else the span of the timestep, else of the session.
    """
    spans: dict[str | None, tuple[str, str]] = {}
    found = [*records]
    for index in sorted(range(len(found)), key=lambda number: _outermost_first(records[number])):
        record = records[index]
        if isinstance(record, MessageRecord):
            continue
        has_own = _has_own_id(record)
        if not (has_own and record.trace_id is not None) and (has_own or _should_have_span(record, spans)):
            record = _with_derived_ids(record, spans)
        if record.trace_id is not None and record.span_id is not None:
            spans[record_key(record)[1]] = spans[record.span_id] = record.trace_id, record.span_id
        found[index] = record
    return found


def _outermost_first(record: Record) -> tuple[int, int]:
    order = (SessionRecord, TimestepRecord)
    return order.index(type(record)) if isinstance(record, order) else len(order), first_ns(record)


def _has_own_id(record: _WithSpan) -> bool:
    # The no-op tracer of OpenTelemetry's API gives each span the ids of its parent.
    return record.span_id is not None and record.span_id != record.parent_span_id


def _should_have_span(record: Record, spans: dict[str | None, tuple[str, str]]) -> bool:
    match record:
        case EventRecord():
            return record.event_type in _SCOPES and (record.duration_ns is not None or record.event_type in RUN_TYPES)
        case RewardRecord():
            return record.session_id is None and record.call_id in spans
        case _:
            return True


def _with_derived_ids(record: _WithSpan, spans: dict[str | None, tuple[str, str]]) -> _WithSpan:
    own, span_id, above = run_key(record), record.span_id, record.parent_span_id
    enclosing = next((spans[one] for one in enclosing_ids(record) if one in spans), None)
    trace_id, parent = enclosing or (record.trace_id or _digest(own, 32), above)
    if _has_own_id(record):
        parent = above or parent  # of which only its own process may have known
    else:
        span_id = _digest(own, 16)
    sampled = True if record.sampled is None else record.sampled
    return replace(record, trace_id=trace_id, span_id=span_id, parent_span_id=parent, sampled=sampled)


def enclosing_ids(record: Record) -> Iterator[str | None]:
    """Yield the ids of what is around a record, innermost first: its parent span, its call or timestep, its session."""
    place = record.place if isinstance(record, CallRecord) else record
    yield getattr(record, "parent_span_id", None)
    match place:
        case SessionRecord():
            yield place.parent_session_id
            return
        case TimestepRecord():
            yield place.parent_timestep_id
        case RewardRecord():
            yield place.call_id
            yield place.timestep_id
        case _:
            yield place.timestep_id
    yield place.session_id


def _digest(text: str, digits: int) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:digits]
