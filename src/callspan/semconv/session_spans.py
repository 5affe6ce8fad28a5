"""Session spans: rebuilds the spans of a session from its records.

Records written without a tracer provider lack a trace, or all ids: those are completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final, TypeAlias, TypeGuard

import msgspec
from msgspec.structs import replace

from callspan.record.call import CallRecord
from callspan.record.events import (
    AGENT_START,
    RUN_TYPES,
    SCOPE_TYPES,
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    ScopeRecord,
    SessionRecord,
    TimestepRecord,
    end_of,
    first_ns,
    record_key,
)
from callspan.record.interrupted import run_key
from callspan.record.messages import Conversation
from callspan.semconv import session as semconv
from callspan.semconv.call import Projection, SpanEvent
from callspan.semconv.conversations import note_conversation
from callspan.semconv.scope_messages import exchange_in
from callspan.semconv.spans import (
    ScopeSpan,
    ScopeSpanOptions,
    Span,
    evaluation,
    scope_end_ns,
    scope_start_ns,
    span_of,
    span_of_call,
)

_AGENTS: Final = frozenset({AGENT_START, "agent"})
_EXCHANGES: Final = frozenset({AGENT_START, "agent", "environment"})
"""Types of events with data that is input or output of the enclosing scope; a tool's is not."""

_WithSpan: TypeAlias = CallRecord | SessionRecord | TimestepRecord | EventRecord | RewardRecord


class _OpenScope:
    """A scope that is being read from its records."""

    __slots__ = ("events", "excluded_from_io", "final", "parent", "span")

    def __init__(self, final: ScopeRecord, parent: _OpenScope | None, options: ScopeSpanOptions) -> None:
        self.final = final
        self.parent = parent
        self.excluded_from_io = isinstance(final, EventRecord) and final.event_type not in _AGENTS
        self.events: list[SpanEvent] = []
        self.span = ScopeSpan(options, _start_record(final))

    def add(self, record: Record) -> None:
        """Add what is in this scope: an event, or the input or output of a scope inside."""
        if _has_scope(record):
            if isinstance(record, EventRecord) and record.event_type in _EXCHANGES:
                self.observe(record)
        elif isinstance(record, EventRecord | MessageRecord | RewardRecord):
            self.events += self.span.events(record, record.time_ns)
            self.observe(record)

    def observe(self, record: Record, conversation: Conversation | None = None) -> None:
        """Add the record's input or output to this scope and the enclosing ones."""
        scope: _OpenScope | None = self
        while scope is not None and not scope.excluded_from_io:
            messages = scope.span.messages
            if messages is not None and (exchange := exchange_in(record, conversation, messages.room)) is not None:
                messages.add(exchange)
            scope = scope.parent


class SpanRebuilder:
    """The spans of a session's records, or of records outside of sessions."""

    def __init__(
        self,
        projection: Projection,
        options: ScopeSpanOptions,
        conversations: Callable[[CallRecord], Conversation | None],
        response_id: Callable[[str], str | None] | None = None,
    ) -> None:
        """`conversations` returns the messages of a call that may be exported, if any.

        `response_id` returns the provider's response id for a call id; it is set on the spans of rewards.
        """
        self._projection, self._options, self._conversations = projection, options, conversations
        self._response_id = response_id
        self._open: dict[str, _OpenScope] = {}
        self._workflow: str | None = None

    def of(self, records: Iterable[Record]) -> Iterator[Span]:
        """Yield the spans of a session's records, children before their parents; open scopes have no span yet.

        The records must be the last versions of all records of the session.
        """
        parts = [*records]
        for record in sorted(parts, key=lambda item: scope_start_ns(item) or 0):
            self._begin(record)
        starts = [_start_record(item) for item in parts if isinstance(item, EventRecord) and item.event_type == "agent"]
        for record in sorted([*starts, *parts], key=end_of):
            yield from self._end(record)
        for scope in reversed({id(item): item for item in self._open.values()}.values()):
            if (span := self._span(scope)) is not None:
                yield span

    def _begin(self, record: Record) -> None:
        if isinstance(record, SessionRecord):
            self._workflow = record.name
            note_conversation(record)
        if _has_scope(record):
            scope = _OpenScope(record, self._enclosing(record), self._options)
            self._open[record_key(record)[1]] = scope
            is_agents = isinstance(record, SessionRecord) and record.span_id in self._open
            if record.span_id is not None and not is_agents:
                self._open[record.span_id] = scope

    def _enclosing(self, record: Record) -> _OpenScope | None:
        return next((self._open[name] for name in enclosing_ids(record) if name in self._open), None)

    def _end(self, record: Record) -> Iterator[Span]:
        scope = self._enclosing(record)
        if isinstance(record, CallRecord):
            conversation = self._conversations(record)
            if scope is not None and conversation is not None:
                scope.observe(record, conversation)
            span = span_of_call(record, self._projection, conversation) if record.sampled else None
        elif isinstance(record, EventRecord | RewardRecord) and record.span_id is not None and not _has_scope(record):
            span = self._evaluation(record) if record.sampled else None
        else:
            span = None
            if scope is not None:
                scope.add(record)
        if span is not None:
            yield span

    def _evaluation(self, record: EventRecord | RewardRecord) -> Span | None:
        call_id = record.call_id if isinstance(record, RewardRecord) else None
        response_id = None if call_id is None or self._response_id is None else self._response_id(call_id)
        rating = evaluation(record, response_id, self._options)
        if rating is None:
            return None
        return span_of(
            record, name=rating.name, start_ns=rating.event.time_ns, end_ns=rating.end_ns, attributes=rating.attributes,
            events=[rating.event],
        )  # fmt: skip

    def _span(self, scope: _OpenScope) -> Span | None:
        record = scope.final
        start_ns, end_ns = scope_start_ns(record), scope_end_ns(record)
        is_open = isinstance(record, EventRecord) and record.event_type in RUN_TYPES
        if isinstance(record, SessionRecord) and record.span_id and self._open[record.span_id] is not scope:
            return None  # a turn of an agent's conversation: the agent has the span
        if is_open or not record.sampled or start_ns is None or end_ns is None:
            return None
        workflow = self._workflow if isinstance(record, TimestepRecord) else None
        attributes = semconv.start_attributes(_start_record(record), llm=self._options.llm, workflow=workflow)
        end = scope.span.end(record, end_ns)
        return span_of(
            record, name=semconv.span_name(record), start_ns=start_ns, end_ns=end_ns,
            attributes=attributes | end.attributes, events=[*scope.events, *end.events], failure=end.failure,
        )  # fmt: skip


def _has_scope(record: Record) -> TypeGuard[ScopeRecord]:
    """Return whether a record has a span with a duration; an event without one is a span event, or a late reward."""
    if isinstance(record, EventRecord):
        return record.span_id is not None and (record.duration_ns is not None or record.event_type in RUN_TYPES)
    return isinstance(record, SCOPE_TYPES)


def _start_record(record: ScopeRecord) -> ScopeRecord:
    """Return the record with which the span of a scope started."""
    if not isinstance(record, EventRecord) or record.event_type not in _AGENTS:
        return record
    data = record.data if isinstance(record.data, dict) else {}
    agent_input = {name: value for name, value in data.items() if name == "input"}
    return msgspec.structs.replace(record, event_type=AGENT_START, data=agent_input or None, duration_ns=None)


def with_derived_ids(records: Sequence[Record]) -> list[Record]:
    """Return the records, with all ids of their spans for those written without a tracer provider.

    Derived ids are deterministic. The parent is the recorded one, else the span of the timestep, else of the session.
    """
    spans: dict[str | None, tuple[str, str]] = {}
    result = [*records]
    for index in sorted(range(len(result)), key=lambda number: _outermost_first(records[number])):
        record = records[index]
        if isinstance(record, MessageRecord):
            continue
        has_own = _has_own_id(record)
        if not (has_own and record.trace_id is not None) and (has_own or _should_have_span(record, spans)):
            record = _with_derived_ids(record, spans)
        if record.trace_id is not None and record.span_id is not None:
            spans[record_key(record)[1]] = spans[record.span_id] = record.trace_id, record.span_id
        result[index] = record
    return result


def _outermost_first(record: Record) -> tuple[int, int]:
    order = (SessionRecord, TimestepRecord)
    return order.index(type(record)) if isinstance(record, order) else len(order), first_ns(record)


def _has_own_id(record: _WithSpan) -> bool:
    # The no-op tracer of OpenTelemetry's API gives each span the ids of its parent.
    return record.span_id is not None and record.span_id != record.parent_span_id


def _should_have_span(record: Record, spans: dict[str | None, tuple[str, str]]) -> bool:
    match record:
        case EventRecord():
            return record.event_type in semconv.OPERATIONS and (
                record.duration_ns is not None or record.event_type in RUN_TYPES
            )
        case RewardRecord():
            return record.session_id is None and record.call_id in spans
        case _:
            return True


def _with_derived_ids(record: _WithSpan, spans: dict[str | None, tuple[str, str]]) -> _WithSpan:
    own_key, span_id, recorded_parent = run_key(record), record.span_id, record.parent_span_id
    enclosing = next((spans[ident] for ident in enclosing_ids(record) if ident in spans), None)
    trace_id, parent = enclosing or (record.trace_id or _digest(own_key, 32), recorded_parent)
    if _has_own_id(record):
        parent = recorded_parent or parent  # of which only its own process may have known
    else:
        span_id = _digest(own_key, 16)
    sampled = True if record.sampled is None else record.sampled
    return replace(record, trace_id=trace_id, span_id=span_id, parent_span_id=parent, sampled=sampled)


def enclosing_ids(record: Record) -> Iterator[str | None]:
    """Yield the ids of what is around a record, innermost first: its parent span, its call or timestep, its session."""
    holder = record.place if isinstance(record, CallRecord) else record
    yield getattr(record, "parent_span_id", None)
    match holder:
        case SessionRecord():
            yield holder.parent_session_id
            return
        case TimestepRecord():
            yield holder.parent_timestep_id
        case RewardRecord():
            yield holder.call_id
            yield holder.timestep_id
        case _:
            yield holder.timestep_id
    yield holder.session_id


def _digest(text: str, digits: int) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:digits]
