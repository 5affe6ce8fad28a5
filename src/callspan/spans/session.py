"""Session spans: spans of sessions, timesteps and operations, with their events as span events; evaluations."""

from __future__ import annotations

import time
from typing import Final

import msgspec
from opentelemetry.context import Context, get_current
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

from callspan.fail_open import fail_open
from callspan.process.processed import Processed
from callspan.process.processors import with_span
from callspan.record.call import Place
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord
from callspan.semconv import session as semconv
from callspan.semconv.scope_spans import (
    Evaluation,
    ScopeSpan,
    ScopeSpanOptions,
    evaluation,
    scope_end_ns,
    scope_start_ns,
)
from callspan.spans.call import add_event, context_of, put_attributes, trace_of
from callspan.spans.log_events import EvaluationLog

# Named: `isinstance(record, A | B)` would make a new object each time, which takes twice as long as the check.
_EVENTS: Final = (EventRecord, MessageRecord, RewardRecord)
_HANDOFF: Final = "handoff"
_EVENT: Final = fail_open("show an event on a span")
_END: Final = fail_open("show the end of a session, timestep or tool")


class SessionSpan:
    """The span of one session, timestep or tool. No method raises; events after the end are ignored."""

    __slots__ = (
        "_evaluations", "_of", "_span", "messages", "parent_span_id", "sampled", "span_id", "trace", "trace_id",
    )  # fmt: skip

    def __init__(
        self, span: Span, of: ScopeSpan, evaluations: Evaluations | None, *, above: SpanContext = INVALID_SPAN_CONTEXT,
        link: SpanContext | None = None,
    ) -> None:  # fmt: skip
        """`above` is the parent of the span, `link` what it is linked to."""
        context = span.get_span_context()
        self._span = span
        self._of = of
        self.messages = of.messages
        self._evaluations = evaluations
        self.sampled: bool | None = context.trace_flags.sampled if context.is_valid else None
        self.trace_id: str | None = context.trace_id.to_bytes(16, "big").hex() if context.is_valid else None
        self.span_id: str | None = context.span_id.to_bytes(8, "big").hex() if context.is_valid else None
        self.parent_span_id: str | None = above.span_id.to_bytes(8, "big").hex() if above.is_valid else None
        self.trace = trace_of(context, above, link)

    def within(self, context: Context) -> Context:
        """Return `context` with this span as the current one; unchanged without tracing."""
        return set_span_in_context(self._span, context) if self.trace_id is not None else context

    @property
    def context(self) -> SpanContext:
        """The ids of this span."""
        return self._span.get_span_context()

    def is_elsewhere(self, context: Context) -> bool:
        """Return whether this is a valid span of another trace than that of `context`."""
        here, there = get_current_span(context).get_span_context(), self.context
        return there.is_valid and there.trace_id != here.trace_id

    def event(self, processed: Processed[Record]) -> Processed[Record]:
        """Add the record as a span event at its own time; an environment's reward also as an evaluation.

        A reward of a span that has ended or belongs to another process is exported as its child: the returned record
        has the ids of that span.
        """
        record = processed.record
        own = self._add_event(record) if isinstance(record, _EVENTS) else None
        return processed if own is None else with_span(processed, own)

    def _add_event(self, record: EventRecord | MessageRecord | RewardRecord) -> SessionSpan | None:
        """Show an event; return the span that it has of its own."""
        with _EVENT:
            if self._span.is_recording():
                for event in self._of.events(record, record.time_ns):
                    add_event(self._span, event.name, event.attributes or {}, event.time_ns)
                self._also_log(record)
            elif self._evaluations is not None and not isinstance(record, MessageRecord):
                return self._evaluations.late(record, self.context)
        return None

    def end(self, processed: Processed[Record]) -> None:
        """Set the final attributes on the span and end it; with an error, set its status to error."""
        record = processed.record
        end_ns = scope_end_ns(record) or time.time_ns()
        if self._span.is_recording():
            with _END:
                self._show_end(record, end_ns)
            self._span.end(end_ns)

    def _show_end(self, record: Record, end_ns: int) -> None:
        end = self._of.end(record, end_ns)
        self.messages = None
        put_attributes(self._span, end.attributes)
        for event in end.events:
            add_event(self._span, event.name, event.attributes or {}, event.time_ns)
        if isinstance(record, EventRecord):
            self._also_log(record)
            if record.event_type == _HANDOFF:  # to whom may be known at the end only
                self._span.update_name(semconv.span_name(record))
        if end.failure is not None:
            self._span.set_status(Status(StatusCode.ERROR, end.failure))

    def _also_log(self, record: EventRecord | MessageRecord | RewardRecord) -> None:
        if self._evaluations is not None:
            self._evaluations.also_log(record, self.context)


NO_SPAN: Final = SessionSpan(INVALID_SPAN, ScopeSpan(ScopeSpanOptions(), None), None)
"""Replaces a span that does not exist or could not be started; records are made anyway."""


class SpanRef(msgspec.Struct, frozen=True, kw_only=True):
    """The place and span of a session, timestep or call, for rewards after its end."""

    trace_id: str | None = None
    """32 hex digits; None where it had no span."""
    span_id: str | None = None
    sampled: bool = True
    place: Place = Place()
    """The session and timestep it belongs to, as far as known."""
    response_id: str | None = None
    """The provider's id of a call's response; None if unknown, or if it is not a call."""
    request_id: str | None = None
    """The provider's id of a call's last request; None as above."""


def span_ref(span: SessionSpan, place: Place) -> SpanRef:
    """Return where the span of a scope is."""
    return SpanRef(trace_id=span.trace_id, span_id=span.span_id, sampled=span.sampled is not False, place=place)


class SessionSpans:
    """Starts the spans of sessions, timesteps and operations."""

    def __init__(
        self,
        tracer: Tracer,
        options: ScopeSpanOptions | None = None,
        log: EvaluationLog | None = None,
    ) -> None:
        """`log` is the log that rewards are emitted to as events; None: no log."""
        self._tracer = tracer
        self._options = options or ScopeSpanOptions()
        self._evaluations = Evaluations(self._tracer, self._options, log)

    def start(
        self,
        processed: Processed[Record],
        *,
        parent: Context,
        link: SessionSpan | None = None,
        root: bool = False,
        workflow: str | None = None,
    ) -> SessionSpan:
        """Start the span of a session, timestep or tool event from its first record.

        `root` starts a new trace. Linked to `link`, in another trace.
        `workflow` is the processed name of a step's session.
        """
        record, context = processed.record, parent
        # An explicit invalid parent: without one the tracer would use the current span as the parent.
        if root:
            context = set_span_in_context(INVALID_SPAN, context)
        linked = link.context if link is not None and link.is_elsewhere(context) else None
        options = self._options
        span = self._tracer.start_span(
            semconv.span_name(record),
            context,
            SpanKind.INTERNAL,
            semconv.start_attributes(
                record, llm=options.llm, workflow=workflow
            ),
            links=None if linked is None else [Link(linked)],
            start_time=scope_start_ns(record),
        )  # fmt: skip
        # Of a span of the SDK: five calls less than from the context.
        above = getattr(span, "parent", None) or get_current_span(context).get_span_context()
        of = ScopeSpan(self._options, record if span.is_recording() else None)
        return SessionSpan(span, of, self._evaluations, above=above, link=linked)

    def joined(self, trace_id: str, span_id: str, *, sampled: bool = True) -> SessionSpan:
        """Return a handle for a span of another process, used only as a parent; its ids are hexadecimal."""
        span = NonRecordingSpan(context_of(trace_id, span_id, sampled=sampled))
        return SessionSpan(span, ScopeSpan(self._options, None), self._evaluations)

    def evaluated(self, processed: Processed[Record], of: SpanRef | None) -> Processed[Record]:
        """Export a reward given by id as a child of its target span; None: the span is unknown.

        Return the record with the ids of that span.
        """
        record, own = processed.record, None
        if isinstance(record, RewardRecord):
            with _EVENT:
                judged = None
                if of is not None and of.trace_id is not None and of.span_id is not None:
                    judged = context_of(of.trace_id, of.span_id, sampled=of.sampled)
                own = self._evaluations.late(record, judged, None if of is None else of.response_id)
        return processed if own is None else with_span(processed, own)


class Evaluations:
    """Exports rewards that have no open span: as log events if there is a log, else as separate spans."""

    def __init__(self, tracer: Tracer, options: ScopeSpanOptions, log: EvaluationLog | None) -> None:
        self._tracer = tracer
        self._options = options
        self.log = log
        """The log that rewards are emitted to; None: no log."""

    def also_log(self, record: EventRecord | MessageRecord | RewardRecord, of: SpanContext) -> None:
        """Also emit a reward that is on a span as a log event, if there is a log."""
        if self.log is not None and not isinstance(record, MessageRecord):
            self._emit(self.log, record, set_span_in_context(NonRecordingSpan(of)), None)

    def late(
        self, record: EventRecord | RewardRecord, of: SpanContext | None, response_id: str | None = None
    ) -> SessionSpan | None:
        """Export a reward as a child of its target span or, if that is unknown, of the current span.

        Emits one log event or one span, which is returned; an unsampled span gets no children.
        """
        context = get_current() if of is None else set_span_in_context(NonRecordingSpan(of))
        if self.log is not None and self._emit(self.log, record, context, response_id):
            return None
        if of is None or of.trace_flags.sampled:
            found = evaluation(record, response_id, self._options, content=self._options.content)
            return None if found is None else self._span(found, context)
        return None

    def _span(self, found: Evaluation, context: Context) -> SessionSpan:
        # The evaluator may run elsewhere, days later: its own trace is linked, not joined.
        judge, judged = get_current_span().get_span_context(), get_current_span(context).get_span_context()
        link, event = judge if judge.is_valid and judge != judged else None, found.event
        span = self._tracer.start_span(
            found.name,
            context,
            SpanKind.INTERNAL,
            found.attributes,
            links=None if link is None else [Link(link)],
            start_time=event.time_ns,
        )
        span.add_event(event.name, event.attributes, event.time_ns)
        span.end(found.end_ns)
        return SessionSpan(span, ScopeSpan(self._options, None), self, above=judged, link=link)

    def _emit(
        self, log: EvaluationLog, record: EventRecord | RewardRecord, context: Context, response_id: str | None
    ) -> bool:
        # The record is processed: it has only what may be exported. The event has its content whatever spans have.
        found = evaluation(record, response_id, self._options, content=True)
        return found is not None and log.emit(found.event.attributes or {}, record.time_ns, context)
