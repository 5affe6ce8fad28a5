"""Spans: makes records of calls from spans of other instrumentations, in this process or received by OTLP.

A call may have several spans: callspan's own, one of an instrumentation of the SDK, one of a framework around both.
Only one of them is a record. Spans arrive after their children, so the innermost decides.
"""

from __future__ import annotations

from typing import Final

from callspan.lock_free import LRUCache
from callspan.record.call import CallRecord
from callspan.semconv.call import CALL_ID
from callspan.semconv.records_from_spans import ForeignSpan, call_of

_MAX_SPANS: Final = 4096


class SpanReader:
    """Makes the records of spans. Not thread-safe. Reading a span again gives the same result."""

    def __init__(self) -> None:
        self._around_calls: LRUCache[str, object] = LRUCache(_MAX_SPANS)
        """The spans around those of recorded calls."""
        self._span_of_answer: LRUCache[str, str] = LRUCache(_MAX_SPANS)
        """The span that has an answer, by trace and id of the answer; servers repeat ids, but not within a trace."""

    def call_of(self, span: ForeignSpan) -> CallRecord | None:
        """Return the record of a call; None for other spans, and if another span has the same call."""
        record, is_own = call_of(span), CALL_ID in span.attributes
        if is_own or self._around_calls.get(_key(span.trace_id, span.span_id)) is not None:
            if span.parent_span_id is not None:
                self._around_calls.put(_key(span.trace_id, span.parent_span_id), span)
            if is_own and record is not None:
                self._has_answer(span, record)
            return None
        return record if record is None or self._has_answer(span, record) else None

    def _has_answer(self, span: ForeignSpan, record: CallRecord) -> bool:
        """Return whether no other span had the answer of a call before."""
        answer_id = None if record.response is None else record.response.id
        return answer_id is None or span.span_id == self._span_of_answer.setdefault(
            _key(span.trace_id, answer_id), span.span_id
        )


def _key(trace_id: str, ident: str) -> str:
    return f"{trace_id} {ident}"
