"""Fetches: `responses.retrieve`, `cancel` and webhooks complete the calls of background responses, once.

A fetch is observed as a call is, without span or record of its own until it finds a response that has ended.
"""

from __future__ import annotations

from typing import Any

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, TraceFlags

from callspan.agent.runtime import SPAN_REFS, SpanRef, known_level
from callspan.observe import background_responses
from callspan.observe.factory import CallFactory, nowhere
from callspan.observe.ports import CallInfo, CallSpanHandle, RequestObserver
from callspan.process.processed import Processed
from callspan.record.call import CallRecord
from callspan.record.ids import is_of_response
from callspan.record.merging import ANSWER_VERSION, ENDED_VERSION
from callspan.record.span_handle import SpanHandle
from callspan.reported.claims import higher
from callspan.reported.look_ups import LookUps, is_before
from callspan.reported.reports import FixedReport, Known, Report, Reports, Spans
from callspan.settings import Content


class Fetches:
    """Completes the calls of background responses. Safe from any thread."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports

    def factory(self, calls: CallFactory, level: Content) -> CallFactory:
        """Return the factory that observes fetches, with the settings of `calls`, at a content level."""
        return calls.without_records(lambda _: _Fetch(self.reports, level), surroundings=nowhere)

    def ended(
        self, calls: CallFactory, level: Content, server: CallInfo, response_id: str, status: str, at_ns: int | None
    ) -> None:
        """Record the end of a background response, reported by a webhook; its answer is fetched later."""
        at_ns = calls.clock.wall_ns() if at_ns is None else at_ns
        record = background_responses.end_of(server, response_id, status, at_ns)
        if record is not None:
            self.reports.report(FixedReport(self.reports, level, record.call_id, higher(ENDED_VERSION), record))

    def created(self, record: CallRecord) -> None:
        """Note a call's record: a background response that ended with its request needs no fetch."""
        if is_of_response(record.call_id) and record.outcome != background_responses.IN_PROGRESS:
            self.reports.claims.take(record.call_id, None, higher(ANSWER_VERSION))


class _Answer(Report):
    """The answer of a background response."""

    is_end = True

    def __init__(self, of: Reports, level: Content, fetched: CallRecord, context: Context) -> None:
        super().__init__(of, level, fetched.call_id, higher(ANSWER_VERSION))
        self._call_id, self._fetched, self._context = fetched.call_id, fetched, context

    def local(self) -> Known:
        """Return what this process knows of the call."""
        return Known(where=SPAN_REFS["call"].get(self._call_id), level=known_level("call", self._call_id))

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what the stores know of the call."""
        where = look_ups.find("call", self._call_id)
        if where is None:
            return known
        is_complete = where.complete and is_before(where.read_ns, self.version(self._fetched).read_ns)
        is_stored = is_complete and (where.has_answer or known.level is not None)
        return msgspec.structs.replace(
            known, where=known.where or where, level=known.level or where.level, is_complete=is_complete,
            is_stored=is_stored,
        )  # fmt: skip

    def build(self, known: Known) -> CallRecord:
        """Return the record of the fetch, in the session of the call."""
        return self._fetched if known.where is None else msgspec.structs.replace(self._fetched, place=known.where.place)

    def version(self, record: CallRecord) -> CallRecord:
        """Return the version of the call's record with the answer."""
        return background_responses.completion(record)

    def start_span(self, spans: Spans, begun: Processed[CallRecord], known: Known) -> CallSpanHandle | None:
        """Start the span of the fetch, linked to that of the call."""
        return spans.of_fetch(begun, self._context, span_context(known.where))


class _Fetch(RequestObserver):
    """Observes a fetch: it is reported only if the fetched response has ended."""

    __slots__ = ("_context", "_level", "_reports")

    def __init__(self, reports: Reports, level: Content) -> None:
        self._reports, self._level = reports, level
        self._context: Context = otel_context.get_current()

    def ended(self, record: CallRecord) -> None:
        """Complete the call if this fetch found its answer."""
        if background_responses.has_ended(record):
            self._reports.report(_Answer(self._reports, self._level, record, self._context))


def span_context(span: SpanHandle[Any, Any] | SpanRef | None) -> SpanContext | None:
    """Return the span context for a link; None if there is no span."""
    if span is None or span.trace_id is None or span.span_id is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if span.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(span.trace_id, 16), int(span.span_id, 16), is_remote=True, trace_flags=flags)
