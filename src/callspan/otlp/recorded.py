"""Recorded spans: the spans of a store's records, as their processes would have exported them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import metadata
from itertools import islice
from typing import Final, TypeVar

from msgspec.structs import replace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SdkEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from callspan.record.call import NO_BODY, CallRecord
from callspan.record.codec import encodable
from callspan.record.events import (
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    Totals,
    end_of,
    record_key,
)
from callspan.record.interrupted import UNENDED, UNKNOWN, Unended, end_unended, is_open, run_key
from callspan.record.messages import Conversation
from callspan.runtime.fail_open import value_of
from callspan.semconv import gen_ai
from callspan.semconv.call import Projection
from callspan.semconv.content_attributes import Attributes
from callspan.semconv.session_spans import SpanRebuilder, with_derived_ids
from callspan.semconv.span_messages import SPAN_MESSAGES
from callspan.semconv.spans import ScopeSpanOptions, Span, spans_of_attempts
from callspan.service import instance_id
from callspan.settings import Settings
from callspan.spans.call import context_of
from callspan.stores.base import Event, SessionSummary
from callspan.stores.query.filters import CallFilter
from callspan.stores.query.reader import Reader
from callspan.stores.tables.payloads import without_run

_AT_ONCE: Final = 100
"""Number of records outside of sessions that get their spans together."""
_UNKNOWN_SERVICE: Final = "unknown_service"
"""OpenTelemetry's name for a service without one."""
_R = TypeVar("_R", bound=Record)


class RecordedSpans:
    """Creates the spans of a store's records. Only one session is in memory at a time."""

    def __init__(self, reader: Reader, settings: Settings) -> None:
        """`settings` determine the contents of spans."""
        self.reader, self._settings = reader, settings
        self.unsampled: set[str] = set()
        """Keys of records read so far with a span that was not sampled."""
        self.unended: set[str] = set()
        """Keys of records read so far that have not ended."""
        self.silent: set[str] = set()
        """Ids of the traces and spans of records read so far that are sent as `unknown`."""
        self._silent_runs: set[str] = set()
        self._projection, self._options = Projection(settings), ScopeSpanOptions.of(settings)

    def of_session(self, summary: SessionSummary, since_ns: int = 0) -> list[ReadableSpan]:
        """Return the spans of a session and its records. Open spans of an exited process end at the last known time.

        `since_ns`: only spans that began at this Unix time or later.
        """
        session, last_ns = summary.session, summary.last_ns or 0
        ident = session.session_id
        records: list[Record] = [*self.reader.timesteps(ident), *self.reader.events(ident, since_ns=since_ns)]
        may_run = session.outcome is None and session.end_ns is None and session.seen_ns > 0
        if session.outcome in UNENDED and session.end_ns is None:
            session = replace(session, totals=_totals(summary))
            outcome: Unended = "unknown" if session.outcome == UNKNOWN else "interrupted"
            records = [self._end(record, last_ns, outcome) for record in (session, *records)]
        else:
            records.append(session)
        calls = self.calls(CallFilter(session_id=ident, since_ns=since_ns, newest_first=False))
        records += (self._ended(call, is_around_open=may_run) for call in calls)
        return self._spans(records, self._resource(session), since_ns)

    def outside(self, records: Iterable[CallRecord | Event]) -> Iterator[list[ReadableSpan]]:
        """Yield the spans of calls, tools, agents and rewards outside of sessions, in batches."""
        remaining = iter(records)
        while batch := list(islice(remaining, _AT_ONCE)):
            records_by_key = {record_key(record): record for record in (*self._related_calls(batch), *batch)}
            yield self._spans([self._ended(record) for record in records_by_key.values()])

    def calls(self, selection: CallFilter) -> Iterator[CallRecord]:
        """Yield calls with the content that their spans require."""
        calls = self.reader.calls(replace(selection, content="all" if self._options.content else "none"))
        return map(_without_stated, map(without_run, calls))  # as the process knew them

    def _ended(self, record: _R, *, is_around_open: bool = False) -> _R:
        """Return a call of an exited or silent process as ended; any other record unchanged.

        `is_around_open`: its session still shows signs of life, so that a silent call may run.
        """
        if not isinstance(record, CallRecord) or record.outcome not in UNENDED:
            return record
        if record.outcome == UNKNOWN:
            return record if is_around_open else self._end(record, 0, "unknown")
        return self._end(record, 0, "interrupted")

    def _end(self, record: _R, last_ns: int, outcome: Unended) -> _R:
        if outcome == "unknown" and is_open(record):
            self._silent_runs.add(run_key(record))
        return end_unended(record, last_ns, outcome)

    def _related_calls(self, records: Sequence[CallRecord | Event]) -> Iterator[CallRecord]:
        """Yield the calls within agents and tools, and the targets of rewards."""
        for call_id in {
            record.call_id for record in records if isinstance(record, RewardRecord) and record.call_id is not None
        }:
            if (call := self.reader.call(call_id)) is not None:
                yield without_run(call)
        runs = [record for record in records if isinstance(record, EventRecord) and record.duration_ns is not None]
        traces, spans = ({run.trace_id for run in runs} - {None}, {run.span_id for run in runs} - {None})
        if runs:
            start_ns, end_ns = min(run.time_ns for run in runs), max(map(end_of, runs))
            selection = CallFilter(in_session=False, since_ns=start_ns, until_ns=end_ns, newest_first=False)
            yield from (
                call for call in self.calls(selection) if call.trace_id in traces or call.parent_span_id in spans
            )

    def _response_id(self, call_id: str) -> str | None:
        call = next(self.reader.stored(CallRecord, [call_id]), None)
        return None if call is None or call.response is None else call.response.id

    def _conversation(self, call: CallRecord) -> Conversation | None:
        return call.conversation if self._options.content and call.content_level == "full" else None

    def _spans(
        self, records: Sequence[Record], session_resource: Resource | None = None, since_ns: int = 0
    ) -> list[ReadableSpan]:
        identified = with_derived_ids(
            [record for record in records if not isinstance(record, CallRecord) or record.batch_id is None]
        )
        ended = [record for record in identified if not is_open(record)]
        self.unsampled |= {run_key(record) for record in ended if _is_unsampled(record)}
        self.unended |= {run_key(record) for record in identified if is_open(record)}
        silent = [
            record for record in ended if not isinstance(record, MessageRecord) and run_key(record) in self._silent_runs
        ]
        self.silent |= {f"{record.trace_id} {record.span_id}" for record in silent}
        calls = [record for record in ended if isinstance(record, CallRecord)]
        other_records = [record for record in identified if not isinstance(record, CallRecord)]
        make = SpanRebuilder(self._projection, self._options, self._conversation, self._response_id)
        spans = [*make.of([*other_records, *calls])]
        if self._settings.attempt_spans:
            shown = [self._projection.shown(call) for call in calls if call.sampled]
            spans += [span for call in shown for span in spans_of_attempts(call)]
        resources = {ident: self._resource(call) for call in calls for ident in (call.trace_id, call.span_id)}

        def resource_of(span: Span) -> Resource:
            resource = resources.get(span.span_id) or resources.get(span.parent_span_id) or session_resource
            return resource or resources.get(span.trace_id) or _resource(None, None, None, self._settings.service)

        return [readable(span, resource_of(span)) for span in spans if span.start_ns >= since_ns]

    def _resource(self, record: CallRecord | SessionRecord) -> Resource:
        return _resource(record.process, record.host, record.pid, record.service or self._settings.service)


def _without_stated(call: CallRecord) -> CallRecord:
    """Return a call without the messages that a span of another instrumentation has stated, which exports them."""
    if call.api != SPAN_MESSAGES:
        return call
    response = call.response and replace(call.response, body=NO_BODY)
    return replace(call, request=replace(call.request, body=NO_BODY), response=response)


def _is_unsampled(record: Record) -> bool:
    return not isinstance(record, MessageRecord) and record.span_id is not None and record.sampled is False


def _totals(summary: SessionSummary) -> Totals:
    """Return the sums of a session if its process did not write them."""
    names = ("calls", "errors", "timesteps", "input_tokens", "output_tokens", "reward")
    rewards = {objective: score.mean for objective, score in summary.scores.items()}
    return Totals(**{name: getattr(summary, name) for name in names}, rewards=rewards)


@lru_cache
def _resource(process: str | None, host: str | None, pid: int | None, service: str | None) -> Resource:
    attributes: Attributes = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "service.name": encodable(service or _UNKNOWN_SERVICE),
    }
    if host is not None:
        attributes["host.name"] = encodable(host)
    if pid is not None:
        attributes["process.pid"] = pid
        attributes["service.instance.id"] = instance_id(process, host, pid)
    return Resource(attributes)


_SCOPE: Final = InstrumentationScope(
    "callspan", value_of(lambda: metadata.version("callspan")) or "", gen_ai.SCHEMA_URL
)


def readable(span: Span, resource: Resource | None = None) -> ReadableSpan:
    """Return a span in the form of OpenTelemetry's exporters."""
    above = span.parent_span_id
    return ReadableSpan(
        span.name,
        context_of(span.trace_id, span.span_id, is_remote=False, state=span.trace_state),
        None if above is None else context_of(span.trace_id, above, is_remote=span.is_parent_remote),
        resource,
        span.attributes,
        [SdkEvent(event.name, event.attributes, event.time_ns) for event in span.events],
        [Link(context_of(link.trace_id, link.span_id, is_remote=link.is_remote)) for link in span.links],
        SpanKind.CLIENT if span.is_client else SpanKind.INTERNAL,
        None,
        Status() if span.failure is None else Status(StatusCode.ERROR, span.failure),
        span.start_ns,
        span.end_ns,
        _SCOPE,
    )
