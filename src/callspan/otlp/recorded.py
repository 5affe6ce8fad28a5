"""Recorded spans: the spans of a store's records, as their processes would have exported them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import metadata
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from msgspec.structs import replace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SdkEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from callspan.fail_open import value_of
from callspan.record.call import CallRecord
from callspan.record.codec import encodable
from callspan.record.events import (
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Totals,
    latest_ns,
)
from callspan.record.interrupted import INTERRUPTED, ended, is_open, run_key
from callspan.record.messages import Conversation
from callspan.semconv import gen_ai
from callspan.semconv.call import Projection
from callspan.semconv.content_attributes import Attributes
from callspan.semconv.scope_spans import ScopeSpanOptions
from callspan.semconv.session_spans import SessionSpans
from callspan.semconv.span_ids import with_ids
from callspan.semconv.spans import Span, spans_of_attempts
from callspan.service import instance_id
from callspan.settings import Settings
from callspan.stores.aggregates import is_gone
from callspan.stores.base import CallFilter, Event, Reader, SessionSummary

_AT_ONCE: Final = 100
"""Records outside of sessions whose spans are made together."""
_UNKNOWN_SERVICE: Final = "unknown_service"
"""What OpenTelemetry has for a service without a name."""
_R = TypeVar("_R", bound=Record)


class RecordedSpan(NamedTuple):
    """A span, and what tells whether a receiver has it."""

    key: str
    version: int
    """Differs when it ended otherwise: what was interrupted may turn out to have gone on."""
    span: ReadableSpan


class Group(NamedTuple):
    """The spans of a session, or of some records outside of sessions."""

    spans: list[RecordedSpan]
    unsampled: set[str]
    """Keys of the records without a span because it was not sampled."""
    unended: set[str]
    """Keys of the records that have not ended."""
    ended: set[str]


class _Process(NamedTuple):
    service: str | None = None
    host: str | None = None
    pid: int | None = None


class RecordedSpans:
    """Makes the spans of a store's records. One session is in memory at a time."""

    def __init__(self, reader: Reader, settings: Settings) -> None:
        """`settings` say what spans show."""
        self._reader, self._settings = reader, settings
        self._projection, self._options = Projection(settings), ScopeSpanOptions.of(settings)

    def of_session(self, summary: SessionSummary, since_ns: int | None = None) -> Group:
        """Return the spans of a session and all in it; what its process left is ended where it was last heard of.

        `since_ns`: only those that began at this Unix time or later, of a session that goes on.
        """
        ident, last_ns = summary.session.session_id, summary.last_ns or 0
        is_left = summary.session.outcome == INTERRUPTED and summary.session.end_ns is None

        def end(record: _R) -> _R:
            return ended(record, last_ns) if is_left else record

        session = end(summary.session)
        if is_left:
            session = replace(session, totals=_totals(summary))
        events = [end(event) for event in self._reader.events(ident, since_ns=since_ns)]
        steps = [end(step) for step in self._reader.timesteps(ident)]
        calls = [*self.calls(CallFilter(session_id=ident, since_ns=since_ns, newest_first=False), last_ns)]
        records = [session, *steps, *_in_traces(events, steps), *calls]
        return self._group(records, _process(summary.session), since_ns or 0)

    def outside(self, calls: Iterable[CallRecord], events: Iterable[Event]) -> Iterator[Group]:
        """Yield the spans of calls, tools, agents and rewards that are in no session, some at a time."""
        for some in _chunks(calls):
            yield self._group(some)
        for chosen in _chunks(events):
            yield self._group([*chosen, *self._around(chosen)])

    def calls(self, which: CallFilter, last_ns: int = 0) -> Iterator[CallRecord]:
        """Yield calls with what their spans show; those that their process left are ended, at `last_ns` at least."""
        content = "all" if self._options.content else "none"
        for call in self._reader.calls(replace(which, content=content)):
            yield ended(call, last_ns) if call.part == "started" and is_gone(call.host, call.pid) else call

    def _around(self, events: Sequence[Event]) -> Iterator[Record]:
        """Yield the calls that ran in agents and tools, and those that rewards are for."""
        judged = {one.call_id for one in events if isinstance(one, RewardRecord) and one.call_id is not None}
        for call_id in judged:
            if (call := self._reader.call(call_id)) is not None:
                yield call
        runs = [one for one in events if isinstance(one, EventRecord) and one.duration_ns is not None]
        if not runs:
            return
        traces = {one.trace_id for one in runs if one.trace_id is not None}
        first, last = min(one.time_ns for one in runs), max(map(latest_ns, runs))
        within = CallFilter(in_session=False, since_ns=first, until_ns=last, newest_first=False)
        yield from (call for call in self.calls(within) if call.trace_id in traces and call.call_id not in judged)

    def _response_id(self, call_id: str) -> str | None:
        found = next((one.record for one in self._reader.stored("call", [call_id])), None)
        return found.response.id if isinstance(found, CallRecord) and found.response is not None else None

    def _conversation(self, call: CallRecord) -> Conversation | None:
        return call.conversation if self._options.content and call.content_level == "full" else None

    def _group(self, records: Sequence[Record], process: _Process | None = None, since_ns: int = 0) -> Group:
        known = with_ids([one for one in records if not isinstance(one, CallRecord) or one.batch_id is None])
        done = [one for one in known if not is_open(one)]
        shown = [one for one in known if not (isinstance(one, CallRecord) and is_open(one))]
        spans = [*SessionSpans(self._projection, self._options, self._conversation, self._response_id).of(shown)]
        if self._settings.attempt_spans:
            sampled = (one for one in done if isinstance(one, CallRecord) and one.sampled)
            spans += [span for one in sampled for span in spans_of_attempts(one)]
        of_call = {one.span_id: _process(one) for one in done if isinstance(one, CallRecord)}
        of_trace = {one.trace_id: _process(one) for one in done if isinstance(one, CallRecord)}
        return Group(
            [
                self._recorded(
                    span,
                    of_call.get(span.span_id) or of_call.get(span.parent_span_id) or process
                    or of_trace.get(span.trace_id) or _Process(),
                )
                for span in spans
                if span.start_ns >= since_ns
            ],
            {run_key(one) for one in done if _is_unsampled(one)},
            {run_key(one) for one in known if is_open(one)},
            {run_key(one) for one in done},
        )  # fmt: skip

    def _recorded(self, span: Span, process: _Process) -> RecordedSpan:
        version = 2 * span.end_ns + (span.failure is not None)
        made = readable(span, _resource(process, self._settings.service))
        return RecordedSpan(f"{span.trace_id} {span.span_id}", version, made)


def _is_unsampled(record: Record) -> bool:
    return not isinstance(record, MessageRecord) and record.span_id is not None and record.sampled is False


def _totals(summary: SessionSummary) -> Totals:
    """Return the sums of a session whose process wrote none at its end."""
    rewards = {objective: score.mean for objective, score in summary.scores.items()}
    return Totals(
        calls=summary.calls,
        errors=summary.errors,
        timesteps=summary.timesteps,
        input_tokens=summary.input_tokens,
        output_tokens=summary.output_tokens,
        reward=summary.reward,
        rewards=rewards,
    )


def _in_traces(events: Iterable[Event], steps: Iterable[TimestepRecord]) -> Iterator[Event]:
    """Yield events, each with the trace of its timestep, with which stores keep it."""
    traces = {step.timestep_id: step.trace_id for step in steps}
    for event in events:
        if isinstance(event, MessageRecord) or event.span_id is None or event.trace_id is not None:
            yield event
        else:
            yield replace(event, trace_id=traces.get(event.timestep_id or ""))


def _chunks(records: Iterable[_R]) -> Iterator[list[_R]]:
    left = iter(records)
    while some := list(islice(left, _AT_ONCE)):
        yield some


def _process(record: CallRecord | SessionRecord) -> _Process:
    return _Process(record.service, record.host, record.pid)


@lru_cache
def _resource(process: _Process, service: str | None) -> Resource:
    names = ("service.name", "host.name", "process.pid")
    values = process._replace(service=process.service or service or _UNKNOWN_SERVICE)
    attributes: Attributes = {"telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry"}
    for name, value in zip(names, values, strict=True):
        if value is not None:
            attributes[name] = encodable(value) if isinstance(value, str) else value
    if process.pid is not None:
        attributes["service.instance.id"] = instance_id(process.host, process.pid)
    return Resource(attributes)


def _scope() -> InstrumentationScope:
    return InstrumentationScope("callspan", value_of(lambda: metadata.version("callspan")) or "", gen_ai.SCHEMA_URL)


_SCOPE: Final = _scope()


def readable(span: Span, resource: Resource | None = None) -> ReadableSpan:
    """Return a span as OpenTelemetry's exporters take it."""
    above = span.parent_span_id
    return ReadableSpan(
        span.name,
        _context(span.trace_id, span.span_id, state=span.trace_state),
        None if above is None else _context(span.trace_id, above, is_remote=span.is_parent_remote),
        resource,
        span.attributes,
        [SdkEvent(event.name, event.attributes, event.time_ns) for event in span.events],
        [Link(_context(one.trace_id, one.span_id, is_remote=one.is_remote)) for one in span.links],
        SpanKind.CLIENT if span.is_client else SpanKind.INTERNAL,
        None,
        Status() if span.failure is None else Status(StatusCode.ERROR, span.failure),
        span.start_ns,
        span.end_ns,
        _SCOPE,
    )


def _context(trace_id: str, span_id: str, *, is_remote: bool = False, state: str | None = None) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote, flags, TraceState.from_header([state]) if state else None
    )
