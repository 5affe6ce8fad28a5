"""Spans: the finished span of a record as plain data, derived from the record alone."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from callspan.record.call import CallRecord, SpanLink, Trace
from callspan.record.events import RewardRecord, ScopeRecord
from callspan.record.messages import Conversation
from callspan.semconv import call, gen_ai
from callspan.semconv.call import Projection, SpanEvent
from callspan.semconv.content_attributes import Attributes


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A finished span."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_span_id: str | None = None
    """16 hex digits; None for the root of a trace."""
    is_parent_remote: bool = False
    trace_state: str | None = None
    """The W3C `tracestate`; None if empty."""
    name: str
    is_client: bool
    """Whether the span's kind is `CLIENT`; else it is `INTERNAL`."""
    start_ns: int
    """Unix time in nanoseconds."""
    end_ns: int
    """Unix time in nanoseconds."""
    attributes: Attributes
    events: Sequence[SpanEvent] = ()
    links: Sequence[SpanLink] = ()
    failure: str | None = None
    """The description of the status `ERROR`; None if the status is unset."""


def span_of(record: CallRecord | ScopeRecord | RewardRecord, **fields: Any) -> Span | None:
    """Return the span of a record with these other fields; None if the record has no span."""
    if record.trace_id is None or record.span_id is None:
        return None
    trace = record.trace or Trace()
    return Span(
        trace_id=record.trace_id, span_id=record.span_id, parent_span_id=record.parent_span_id,
        is_parent_remote=trace.is_parent_remote, trace_state=trace.state, links=trace.links,
        is_client=isinstance(record, CallRecord), **fields,
    )  # fmt: skip


def span_of_call(record: CallRecord, projection: Projection, conversation: Conversation | None) -> Span | None:
    """Return the span of an ended call, with content if `conversation` is given; None if the call has no span."""
    end_ns = call.call_end_ns(record)
    return span_of(
        record,
        name=gen_ai.span_name(record),
        start_ns=record.timing.start_ns,
        end_ns=end_ns,
        attributes=projection.start(record) | projection.end(record, conversation),
        events=call.call_events(record, end_ns),
        failure=call.call_failure(record),
    )


def spans_of_attempts(record: CallRecord) -> list[Span]:
    """Return the span of each attempt, a child of the call's span; none if the call has no span.

    Their ids are derived from that of the call, so that they are the same each time.
    """
    trace_id, parent, start_ns = record.trace_id, record.span_id, record.timing.start_ns
    if trace_id is None or parent is None:
        return []
    return [
        Span(
            trace_id=trace_id,
            span_id=sha256(f"{trace_id}{parent}{attempt.number}".encode()).hexdigest()[:16],
            parent_span_id=parent,
            trace_state=None if record.trace is None else record.trace.state,
            name=call.ATTEMPT_SPAN_NAME,
            is_client=True,
            start_ns=start_ns + attempt.start_ns,
            end_ns=start_ns + call.attempt_end_ns(attempt),
            attributes=call.attempt_span_attributes(record, attempt),
            failure=attempt.error_type,
        )
        for attempt in record.attempts
    ]
