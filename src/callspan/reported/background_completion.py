"""Background completion: answers and ends of background responses complete the calls that requested them, once."""

from __future__ import annotations

import msgspec
from opentelemetry.context import Context

from callspan.agent.runtime import SPAN_REFS, known_level
from callspan.observe import background_responses
from callspan.observe.ports import CallInfo, CallSpanHandle, Clock
from callspan.process.processed import Processed
from callspan.record.call import CallRecord
from callspan.reported.claims import later
from callspan.reported.look_ups import LookUps, is_before
from callspan.reported.reports import FixedReport, Known, Report, Reports, Spans, span_context
from callspan.settings import Content


class BackgroundCompletion:
    """Completes the calls of background responses. Safe from any thread."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports

    def fetched(self, level: Content, record: CallRecord, context: Context) -> None:
        """Complete a call with the answer that a fetch has found; `record` is that of the fetch, unprocessed."""
        self.reports.report(_Answer(self.reports, level, record, context))

    def ended(
        self, clock: Clock, level: Content, server: CallInfo, response_id: str, status: str, at_ns: int | None
    ) -> None:
        """Record the end of a background response, reported by a webhook; its answer is fetched later."""
        at_ns = clock.wall_ns() if at_ns is None else at_ns
        record = background_responses.end_of(server, response_id, status, at_ns)
        if record is not None:
            self.reports.report(FixedReport(self.reports, level, record.call_id, later("ended"), record))

    def answered(self, record: CallRecord) -> None:
        """Note that a background response has ended with its request: it needs no fetch."""
        self.reports.claims.take(record.call_id, None, later("answered"))


class _Answer(Report):
    """The answer of a background response."""

    is_end = has_tools = True

    def __init__(self, of: Reports, level: Content, fetched: CallRecord, context: Context) -> None:
        super().__init__(of, level, fetched.call_id, later("answered"))
        self._call_id, self._fetched, self._context = fetched.call_id, fetched, context

    def local(self) -> Known:
        """Return what this process knows of the call."""
        return Known(where=SPAN_REFS["call"].get(self._call_id), level=known_level("call", self._call_id))

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what the stores know of the call."""
        where = look_ups.find("call", self._call_id)
        if where is None:
            return known
        is_complete = where.complete and is_before(where.seen_ns, self.version(self._fetched).seen_ns)
        is_stored = is_complete and (where.has_answer or known.level is not None)
        return msgspec.structs.replace(
            known, where=known.where or where, level=known.level or where.level, is_complete=is_complete,
            is_stored=is_stored,
        )  # fmt: skip

    def build(self, known: Known) -> CallRecord:
        """Return the record of the fetch, in the session of the call."""
        return self._fetched if known.where is None else msgspec.structs.replace(self._fetched, place=known.where.place)

    def version(self, record: CallRecord) -> CallRecord:
        return background_responses.completion(record)

    def start_span(self, spans: Spans, begun: Processed[CallRecord], known: Known) -> CallSpanHandle | None:
        """Start the span of the fetch, linked to that of the call."""
        return spans.start_fetch_span(begun, self._context, span_context(known.where))
