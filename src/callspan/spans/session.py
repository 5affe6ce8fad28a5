"""Session spans: starts and ends the spans of sessions, timesteps and operations, and exports late rewards."""

from __future__ import annotations

import time
from typing import Final

import msgspec
from opentelemetry.context import Context, get_current, set_value
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from callspan.process.processed import ProcessedRecord
from callspan.process.processors import with_span
from callspan.record.call import Place
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, ScopeRecord
from callspan.record.span_handle import FOREIGN_RUNS, OWN_SPAN, SCOPE_KEY, SpanHandle
from callspan.runtime.fail_open import fail_open
from callspan.semconv import session as semconv
from callspan.semconv.spans import (
    ScopeSpan,
    ScopeSpanOptions,
    evaluation,
    scope_end_ns,
    scope_start_ns,
)
from callspan.spans.call import add_event, context_of, put_attributes, set_ids, set_own_ids, set_scope

_EVENTS: Final = (EventRecord, MessageRecord, RewardRecord)
_EVENT: Final = fail_open("add an event to a span")
_END: Final = fail_open("end the span of a session, timestep or tool")


class SessionSpan(SpanHandle):
    """The span of one session, timestep or tool. Events after the end are ignored."""

    def __init__(
        self, span: Span, source: ScopeSpan, spans: SessionSpans | None, *,
        parent: SpanContext = INVALID_SPAN_CONTEXT, link: SpanContext | None = None,
    ) -> None:  # fmt: skip
        self._span = span
        self._source = source
        self.messages = source.messages
        self._spans = spans
        set_ids(self, span, parent, link)

    def within(self, context: Context) -> Context:
        """Return `context` with this span as the current one, or with its own id."""
        if self.trace_id is not None:
            return set_span_in_context(self._span, context)
        return context if self.span_id is None else set_value(OWN_SPAN, self.span_id, context)

    @property
    def context(self) -> SpanContext:
        """The span context of this span."""
        return self._span.get_span_context()

    def is_in_other_trace(self, context: Context) -> bool:
        """Return whether this span is valid and `context` has a different trace."""
        current, own_context = get_current_span(context).get_span_context(), self.context
        return own_context.is_valid and own_context.trace_id != current.trace_id

    def event(self, processed: ProcessedRecord[Record]) -> ProcessedRecord[Record]:
        """Add the record as a span event at its own time, and an environment's reward also as an evaluation.

        If this span has ended or belongs to another process, a reward gets its own span as a child: the returned record
        has its ids.
        """
        record = processed.record
        reward_span = self._add_event(record) if isinstance(record, _EVENTS) else None
        return processed if reward_span is None else with_span(processed, reward_span)

    def _add_event(self, record: EventRecord | MessageRecord | RewardRecord) -> SessionSpan | None:
        """Add an event to the span; return the separate span of a late reward."""
        with _EVENT:
            if self._span.is_recording():
                for event in self._source.events(record, record.time_ns):
                    add_event(self._span, event.name, event.attributes or {}, event.time_ns)
            elif self._spans is not None and not isinstance(record, MessageRecord):
                return self._spans.export(record, self.context)
        return None

    def end(self, processed: ProcessedRecord[ScopeRecord], *, named_late: bool = False) -> None:
        """Set the final attributes and status on the span, and end it.

        `named_late` sets its name and the attributes of its start again, from the final record.
        """
        record = processed.record
        end_ns = scope_end_ns(record) or time.time_ns()
        if self._span.is_recording():
            with _END:
                if named_late:
                    self._span.update_name(semconv.span_name(record))
                    put_attributes(self._span, self._source.start_attributes(record))
                self._set_final(record, end_ns)
            self._span.end(end_ns)

    def _set_final(self, record: ScopeRecord, end_ns: int) -> None:
        end = self._source.end(record, end_ns)
        self.messages = None
        put_attributes(self._span, end.attributes)
        for event in end.events:
            add_event(self._span, event.name, event.attributes or {}, event.time_ns)
        if end.failure is not None:
            self._span.set_status(Status(StatusCode.ERROR, end.failure))


NO_SPAN: Final = SessionSpan(INVALID_SPAN, ScopeSpan(ScopeSpanOptions(), None), None)
"""Stands in for a span that does not exist or could not be started; records are written anyway."""


class SpanRef(msgspec.Struct, frozen=True, kw_only=True):
    """The place and span of a session, timestep or call, for rewards after its end."""

    trace_id: str | None = None
    """32 hex digits; None without a span."""
    span_id: str | None = None
    sampled: bool = True
    place: Place = Place()
    """Its session and timestep, as far as known."""
    response_id: str | None = None
    """The provider's id of a call's response."""
    created: int | None = None
    """When the response was created by the provider's clock, Unix seconds."""
    is_bought: bool = True
    """Whether no cache served the answer of a call; one that did repeats its ids."""
    request_id: str | None = None
    """The provider's id of a call's last request."""


def span_ref(span: SessionSpan, place: Place) -> SpanRef:
    """Return a reference to the span of a scope."""
    return SpanRef(trace_id=span.trace_id, span_id=span.span_id, sampled=span.sampled is not False, place=place)


class SessionSpans:
    """Starts the spans of sessions, timesteps and operations."""

    def __init__(self, tracer: Tracer, options: ScopeSpanOptions | None = None) -> None:
        self._tracer = tracer
        self._options = options or ScopeSpanOptions()

    def start(
        self,
        processed: ProcessedRecord[ScopeRecord],
        *,
        parent: Context,
        link: SessionSpan | None = None,
        root: bool = False,
        workflow: str | None = None,
    ) -> SessionSpan:
        """Start the span of a session, timestep or operation from its first record.

        `root` starts a new trace. The span is linked to `link` if that belongs to another trace. `workflow` is the
        processed name of a timestep's session.
        """
        record, context = processed.record, parent
        # An explicit invalid parent: otherwise the tracer would use the current span as the parent.
        if root:
            context = set_span_in_context(INVALID_SPAN, context)
        linked = link.context if link is not None and link.is_in_other_trace(context) else None
        options = self._options
        span = self._tracer.start_span(
            semconv.span_name(record),
            context,
            SpanKind.INTERNAL,
            semconv.start_attributes(record, llm=options.llm, workflow=workflow),
            links=None if linked is None else [Link(linked)],
            start_time=scope_start_ns(record),
        )  # fmt: skip
        # The SDK's spans know their parent: five function calls less than from the context.
        parent_context = getattr(span, "parent", None) or get_current_span(context).get_span_context()
        source = ScopeSpan(self._options, record if span.is_recording() else None)
        session_span = SessionSpan(span, source, self, parent=parent_context, link=linked)
        if session_span.trace_id is None:
            set_own_ids(session_span, context)
        elif not root:
            scope = context.get(SCOPE_KEY)
            if FOREIGN_RUNS and (run := FOREIGN_RUNS.get(parent_context.span_id)) is not None:
                scope = run.nearest(scope)
            if scope is not None:
                set_scope(session_span, scope)
        return session_span

    def remote(self, ref: SpanRef | None) -> SessionSpan | None:
        """Return a handle for a span that another process has or that has ended, usable only as a parent or link."""
        if ref is None or ref.trace_id is None or ref.span_id is None:
            return None
        span = NonRecordingSpan(context_of(ref.trace_id, ref.span_id, sampled=ref.sampled))
        return SessionSpan(span, ScopeSpan(self._options, None), self)

    def export_reward(
        self, processed: ProcessedRecord[RewardRecord], target: SpanRef | None
    ) -> ProcessedRecord[RewardRecord]:
        """Export a reward as a child of its target's span, if known; return the record with the ids of its span."""
        reward_span = None
        with _EVENT:
            context = None
            if target is not None and target.trace_id is not None and target.span_id is not None:
                context = context_of(target.trace_id, target.span_id, sampled=target.sampled)
            reward_span = self.export(processed.record, context, None if target is None else target.response_id)
        return processed if reward_span is None else with_span(processed, reward_span)

    def export(
        self, record: EventRecord | RewardRecord, target: SpanContext | None, response_id: str | None = None
    ) -> SessionSpan | None:
        """Export a reward as a child of its target's span or, if that is unknown, of the current span.

        Returns the span of the reward; None without a reward, or if the target's span is not sampled.
        """
        evaluation_span = evaluation(record, response_id, self._options)
        if evaluation_span is None or (target is not None and not target.trace_flags.sampled):
            return None
        # The evaluator may run elsewhere, days later: the span is linked to the evaluator's trace.
        evaluator = get_current_span().get_span_context()
        target = evaluator if target is None else target
        link, event = evaluator if evaluator.is_valid and evaluator != target else None, evaluation_span.event
        span = self._tracer.start_span(
            evaluation_span.name,
            set_span_in_context(NonRecordingSpan(target), get_current()),
            SpanKind.INTERNAL,
            evaluation_span.attributes,
            links=None if link is None else [Link(link)],
            start_time=event.time_ns,
        )
        span.add_event(event.name, event.attributes, event.time_ns)
        span.end(evaluation_span.end_ns)
        return SessionSpan(span, ScopeSpan(self._options, None), self, parent=target, link=link)
