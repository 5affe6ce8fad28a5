"""Attempt spans: what a call's span shows of the HTTP requests within it, as events or as spans of their own."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from callspan.record.call import Attempt, CallRecord
from callspan.semconv import call


def add_events(span: Span, record: CallRecord) -> None:
    """Put an event on the span for each failed attempt, and for every one where there were several.

    The time of the event is that of the answer's headers, or of the failure.
    """
    attempts, start_ns = record.attempts, record.timing.start_ns
    for attempt in attempts:
        if len(attempts) > 1 or attempt.error_type is not None:
            span.add_event(call.ATTEMPT_EVENT, call.ATTEMPT.of(attempt), start_ns + _known_ns(attempt))


def add_spans(tracer: Tracer, span: Span, record: CallRecord) -> None:
    """Make a CLIENT span of every attempt, a child of the call's span, with the attempt's own times.

    They are made when the call is over, so none of them is ever the current span.
    """
    parent = trace.set_span_in_context(span, Context())
    start_ns = record.timing.start_ns
    for attempt in record.attempts:
        child = tracer.start_span(
            call.ATTEMPT_SPAN_NAME,
            context=parent,
            kind=SpanKind.CLIENT,
            attributes=call.attempt_span_attributes(record, attempt),
            start_time=start_ns + attempt.start_ns,
        )
        if attempt.error_type is not None:
            child.set_status(Status(StatusCode.ERROR, attempt.error_type))
        child.end(start_ns + _last_ns((attempt.end_ns, attempt.headers_ns, attempt.start_ns)))


def _known_ns(attempt: Attempt) -> int:
    """When it was known how the attempt went."""
    if attempt.headers_ns is not None:
        return attempt.headers_ns
    return _last_ns((attempt.end_ns, attempt.start_ns))


def _last_ns(offsets: Iterable[int | None]) -> int:
    return max(offset for offset in offsets if offset is not None)
