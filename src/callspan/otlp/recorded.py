"""Recorded spans: the spans of a store's records, as their processes would have sent them, session by session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from importlib import metadata
from typing import Final, NamedTuple, TypeVar

import msgspec

from callspan.cost.price_table import PROVIDER
from callspan.fail_open import value_of
from callspan.otlp.encoding import encode_resource, encode_scope, encode_span
from callspan.otlp.interrupted import OUTCOME, ended
from callspan.otlp.limits import limits_in_force
from callspan.otlp.sending import EncodedSpan, Envelope
from callspan.record.call import CallRecord
from callspan.record.events import (
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
)
from callspan.record.messages import Conversation
from callspan.semconv import gen_ai
from callspan.semconv.call import Projection
from callspan.semconv.content_attributes import Attributes
from callspan.semconv.scope_spans import ScopeSpanOptions
from callspan.semconv.session_spans import SessionSpans
from callspan.semconv.spans import Span, spans_of_attempts
from callspan.settings import Settings
from callspan.stores.aggregates import is_gone
from callspan.stores.base import CallFilter, Reader, SessionSummary

_UNENDED: Final = frozenset({"started", "in_progress"})
_LOOSE_AT_ONCE: Final = 100
"""Calls outside of sessions in one group."""
_UNKNOWN_SERVICE: Final = "unknown_service"
"""What OpenTelemetry has for a service without a name."""
_R = TypeVar("_R", bound=Record)


class Group(NamedTuple):
    """Spans that lie together: those of a session, or of what is outside of sessions."""

    calls: int
    """How many calls were read for them."""
    spans: list[EncodedSpan]
    keys: list[str]
    """A key for each span."""
    version: str | None
    """A key that changes when anything in the session does; None: no session."""


class _Process(NamedTuple):
    service: str | None
    host: str | None
    pid: int | None


class RecordedSpans:
    """Makes the sampled, final spans of a store's sessions and calls. One session is in memory at a time."""

    def __init__(self, reader: Reader, settings: Settings, which: CallFilter, *, is_filtered: bool) -> None:
        """`settings` say what spans show; `which` selects calls: their sessions, and those outside of sessions.

        `is_filtered`: whether some records of the store are left out by it.
        """
        self._reader, self._settings, self._which = reader, settings, which
        self._is_filtered = is_filtered
        self._projection, self._options = Projection(settings), ScopeSpanOptions.of(settings)
        self._limits = limits_in_force()

    def sessions(self) -> Iterator[SessionSummary]:
        """Yield the sessions that have such a call; without a filter all."""
        which = self._which
        return self._reader.sessions(since_ns=which.since_ns, which=which)

    def version(self, summary: SessionSummary) -> str:
        """Return a key that changes when anything in the session does."""
        return f"session {sha256(msgspec.json.encode(summary)).hexdigest()}"

    def of_session(self, summary: SessionSummary) -> Group:
        """Return the spans of a session and all in it."""
        ident = summary.session.session_id
        last_ns = summary.last_ns or 0
        is_left = summary.session.outcome == OUTCOME and summary.session.end_ns is None

        def end(record: _R) -> _R:
            return ended(record, last_ns) if is_left else record

        session = end(summary.session)
        steps = {step.timestep_id: end(step) for step in self._reader.timesteps(ident)}
        traces = {ident: getattr(step, "trace_id", None) for ident, step in steps.items()}
        events = [_in_trace(end(event), traces) for event in self._reader.events(ident)]
        calls = [*self._calls(CallFilter(session_id=ident, newest_first=False), last_ns)]
        records = [session, *steps.values(), *events, *calls]
        return self._group(records, _process(summary.session), len(calls), self.version(summary))

    def outside_sessions(self) -> Iterator[Group]:
        """Yield the spans of what is in no session: calls, some at a time, and what belongs to them."""
        if self._which.session_id is not None:
            return
        scopes: dict[str, EventRecord] = {}
        for event in self._reader.events(None):
            if isinstance(event, EventRecord) and event.span_id is not None:
                scopes[event.span_id] = event
        inside: dict[str | None, list[str]] = defaultdict(list)
        alone: list[CallRecord] = []
        for call in self._calls(msgspec.structs.replace(self._which, in_session=False, newest_first=False)):
            if (scope := scopes.get(call.parent_span_id or "")) is not None:
                inside[scope.trace_id].append(call.call_id)
            else:
                alone.append(call)
            if len(alone) == _LOOSE_AT_ONCE:
                yield self._group(alone, None, len(alone))
                alone = []
        yield self._group(alone, None, len(alone))
        yield from self._loose_scopes(scopes.values(), inside)

    def _loose_scopes(self, scopes: Iterable[EventRecord], inside: Mapping[str | None, list[str]]) -> Iterator[Group]:
        """Yield the spans of each trace with tools and agents outside of sessions, and the calls `inside` of these."""
        traces: dict[str | None, list[Record]] = defaultdict(list)
        for scope in scopes:
            traces[scope.trace_id].append(scope)
        for trace_id, events in traces.items():
            calls = [call for ident in inside.get(trace_id, ()) if (call := self._reader.call(ident)) is not None]
            if calls or not self._is_filtered:
                yield self._group([*events, *map(self._shown, calls)], None, len(calls))

    def rewards(self) -> Iterator[tuple[Group, str | None]]:
        """Yield the span of each reward outside of sessions that has one, and the key of the span that it judges."""
        for event in self._reader.events(None) if self._which.session_id is None else ():
            if isinstance(event, RewardRecord) and event.span_id is not None and event.trace_id is not None:
                judged = None if event.parent_span_id is None else key_of(event.trace_id, event.parent_span_id)
                yield self._group([event], None, 0), judged

    def _calls(self, which: CallFilter, last_ns: int = 0) -> Iterator[CallRecord]:
        """Yield the final calls; those that their process left are ended at `last_ns`, Unix time."""
        content = "all" if self._options.content else "none"
        for call in self._reader.calls(msgspec.structs.replace(which, content=content)):
            if call.part == "started" and is_gone(call.host, call.pid):
                call = ended(call, last_ns)  # noqa: PLW2901
            # The lines of a batch name the span of its creation: they have none of their own.
            if call.outcome not in _UNENDED and call.batch_id is None:
                yield self._shown(call)

    def _shown(self, call: CallRecord) -> CallRecord:
        """Return a call with the cost that its span had."""
        is_computed = call.cost is not None and call.cost.source != PROVIDER
        return msgspec.structs.replace(call, cost=None) if is_computed and not self._settings.span_cost else call

    def _conversation(self, call: CallRecord) -> Conversation | None:
        return call.conversation if self._options.content and call.content_level == "full" else None

    def _response_id(self, call_id: str) -> str | None:
        found = next((one.record for one in self._reader.stored("call", [call_id])), None)
        return found.response.id if isinstance(found, CallRecord) and found.response is not None else None

    def _group(
        self, records: Iterable[Record], process: _Process | None, calls: int, version: str | None = None
    ) -> Group:
        known = [*records]
        of_call = {call.span_id: _process(call) for call in known if isinstance(call, CallRecord)}
        spans = [*SessionSpans(self._projection, self._options, self._conversation, self._response_id).of(known)]
        if self._settings.attempt_spans:
            sampled = (record for record in known if isinstance(record, CallRecord) and record.sampled)
            spans += [span for record in sampled for span in spans_of_attempts(record)]
        above = (of_call.get(span.span_id) or of_call.get(span.parent_span_id) for span in spans)
        processes = [found or process or _Process(None, None, None) for found in above]
        encoded = [self._encoded(span, of) for span, of in zip(spans, processes, strict=True)]
        return Group(calls, encoded, [key_of(span.trace_id, span.span_id) for span in spans], version)

    def _encoded(self, span: Span, process: _Process) -> EncodedSpan:
        service = process.service or self._settings.service or _UNKNOWN_SERVICE
        return EncodedSpan(span.trace_id, encode_span(span, self._limits), _envelope(process._replace(service=service)))


def key_of(trace_id: str, span_id: str) -> str:
    """Return the key of a span."""
    return f"{trace_id} {span_id}"


@lru_cache
def _envelope(process: _Process) -> Envelope:
    names = ("service.name", "host.name", "process.pid")
    attributes: Attributes = {"telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry"}
    attributes |= {name: value for name, value in zip(names, process, strict=True) if value is not None}
    version = value_of(lambda: metadata.version("callspan")) or "unknown"
    return Envelope(encode_resource(attributes), "", encode_scope("callspan", version), gen_ai.SCHEMA_URL)


def _process(record: CallRecord | SessionRecord) -> _Process:
    return _Process(record.service, record.host, record.pid)


def _in_trace(record: Record, traces: dict[str, str | None]) -> Record:
    """Return an event with the trace of its timestep, with which stores keep it."""
    if isinstance(record, MessageRecord) or record.span_id is None or record.trace_id is not None:
        return record
    timestep_id = None if isinstance(record, CallRecord) else getattr(record, "timestep_id", None)
    return msgspec.structs.replace(record, trace_id=traces.get(timestep_id or ""))
