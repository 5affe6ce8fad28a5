"""Spans: the finished span of a record of any kind as plain data, derived from the record alone."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from callspan.record.call import CallRecord, SpanLink, Trace
from callspan.record.events import (
    SCOPE_TYPES,
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    ScopeRecord,
)
from callspan.record.messages import Conversation
from callspan.runtime.fail_open import fail_open
from callspan.semconv import call, events, gen_ai, openinference, session
from callspan.semconv.call import EXCEPTION_EVENT, MIN_DURATION_NS, Projection, SpanEvent
from callspan.semconv.content_attributes import MAX_SPAN_BYTES, Attributes, ByteBudget, SpanContent
from callspan.semconv.scope_messages import ScopeMessages, messages_of
from callspan.settings import Settings

_CONTENT: Final = fail_open("set the content of a session on its span")
_KIB: Final = 1024


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
    end_ns, record = call.call_end_ns(record), projection.shown(record)
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

    Their ids are derived from the call's id, so that they are the same each time.
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


class ScopeSpanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that these spans depend on."""

    content: bool = True
    llm: bool = True
    openinference: bool = False
    attribute_bytes: int = 32 * _KIB

    @classmethod
    def of(cls, settings: Settings) -> ScopeSpanOptions:
        """Return the options of `settings`."""
        return cls(
            content=settings.content == "full" and settings.content_on_spans,
            llm="llm" in settings.vocabularies,
            openinference="openinference" in settings.vocabularies,
            attribute_bytes=settings.max_attribute_bytes,
        )

    def span_content(self) -> SpanContent:
        """Return the content of a span's events, or of its attributes: half of the span's bytes each."""
        half = MAX_SPAN_BYTES // 2
        return SpanContent(ByteBudget(min(self.attribute_bytes, half), half), has_content=self.content)


class ScopeEnd(NamedTuple):
    """The attributes, events and status that the end of a session, timestep or operation adds to its span."""

    attributes: Attributes
    events: list[SpanEvent]
    failure: str | None
    """The description of the status `ERROR`; None if the status is unset."""


class ScopeSpan:
    """Makes the events of one open span, and its attributes at its end."""

    __slots__ = ("_content", "_options", "messages")

    def __init__(self, options: ScopeSpanOptions, first: ScopeRecord | None) -> None:
        """`first` is the record with which the span started; None if the span does not record."""
        self._options = options
        self._content: SpanContent | None = None
        """The content of the events."""
        self.messages: ScopeMessages | None = None
        """Input and output, which the end sets on the span; None for a span without them."""
        if first is not None and options.content:
            self.messages = messages_of(first, options.attribute_bytes)

    def start_attributes(self, record: ScopeRecord) -> Attributes:
        """Return the attributes with which the span of an operation starts."""
        return session.start_attributes(record, llm=self._options.llm)

    def events(self, record: EventRecord | MessageRecord | RewardRecord, time_ns: int) -> list[SpanEvent]:
        """Return the span events of a record: one for itself, and an evaluation for an environment's reward."""
        self._content = content = self._content or self._options.span_content()
        event = SpanEvent(events.event_name(record), events.event_attributes(record, content), time_ns)
        return [event, *_evaluations(record, time_ns)]

    def end(self, record: ScopeRecord, end_ns: int) -> ScopeEnd:
        """Return the additions of the final record."""
        content, messages, error = self._options.span_content(), self.messages, record.error
        self.messages = None
        attributes = session.end_attributes(record, content)
        # Guarded: an error in the content must not prevent the end.
        with _CONTENT:
            if messages is not None:
                messages.close(record)
                attributes.update(messages.attributes(content.budget))
            if self._options.openinference:
                openinference.SCOPE_VALUES.put(attributes, record, content)
        span_events = _evaluations(record, end_ns)
        failure = None
        if error is not None:
            span_events.append(SpanEvent(EXCEPTION_EVENT, session.EXCEPTION.of(error, content), end_ns))
            failure = (error.message if content.has_content else None) or error.type
        return ScopeEnd(attributes, span_events, failure)


class Evaluation(NamedTuple):
    """The span of a reward for a target with a span that has ended or is unknown."""

    name: str
    attributes: Attributes
    event: SpanEvent
    end_ns: int


def evaluation(
    record: EventRecord | RewardRecord, response_id: str | None, options: ScopeSpanOptions
) -> Evaluation | None:
    """Return the span of a reward, or None for another record; `response_id` names the evaluated call's response."""
    if isinstance(record, EventRecord) and record.reward is None:
        return None
    attributes = events.EVALUATION_PLACE.of(record)
    if response_id is not None:
        attributes["gen_ai.response.id"] = response_id
    if isinstance(record, RewardRecord):
        name = record.objective
        attributes |= events.event_attributes(record, options.span_content())
    else:
        name = "reward"
        attributes |= events.EVALUATION.of(record)
    event = SpanEvent(gen_ai.EVALUATION_EVENT, attributes, record.time_ns)
    end_ns = record.time_ns + MIN_DURATION_NS
    return Evaluation(f"evaluation {name}", attributes | events.EVALUATOR.of(record), event, end_ns)


def scope_start_ns(record: Record) -> int | None:
    """Return the start of a session, timestep or operation, Unix nanoseconds; None if unknown."""
    if isinstance(record, EventRecord):
        return record.time_ns
    return record.start_ns if isinstance(record, SCOPE_TYPES) else None


def scope_end_ns(record: Record) -> int | None:
    """Return the end of the span of a session, timestep or operation, Unix nanoseconds; None if unknown."""
    if isinstance(record, EventRecord):
        return record.time_ns + max(record.duration_ns or 0, MIN_DURATION_NS)
    if not isinstance(record, SCOPE_TYPES) or record.end_ns is None:
        return None
    return record.end_ns if record.start_ns is None else max(record.end_ns, record.start_ns + MIN_DURATION_NS)


def _evaluations(record: Record, time_ns: int) -> list[SpanEvent]:
    """Return the evaluation event for an environment's reward, if there is one."""
    if not isinstance(record, EventRecord) or record.reward is None:
        return []
    return [SpanEvent(gen_ai.EVALUATION_EVENT, events.EVALUATION.of(record), time_ns)]
