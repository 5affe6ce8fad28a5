"""Session spans: spans of sessions, timesteps and operations, with their events as span events; evaluations."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from opentelemetry.context import Context, get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from callspan.agent.runtime import ScopeSpanHandle, SpanRef
from callspan.background import SPAN, Tokens, run_reentrant
from callspan.fail_open import fail_open
from callspan.process.processed import Processed
from callspan.record.call import ErrorInfo
from callspan.record.events import (
    SCOPE_TYPES,
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
)
from callspan.semconv import events, gen_ai, openinference
from callspan.semconv import session as semconv
from callspan.semconv.content import Attributes, ByteBudget
from callspan.semconv.scope_messages import ScopeMessages, messages_of
from callspan.spans.call import SHORTEST_NS, add_event, put_attributes
from callspan.spans.log_events import EvaluationLog

_MAX_FRAMES: Final = 20
# Named: `isinstance(record, A | B)` would make a new object each time, which takes twice as long as the check.
_EVENTS: Final = (EventRecord, MessageRecord, RewardRecord)
_WITH_ERROR: Final = (SessionRecord, TimestepRecord, EventRecord)
_EVENT: Final = fail_open("show an event on a span")
_END: Final = fail_open("show the end of a session, timestep or tool")
_CONTENT: Final = fail_open("show content of a session on a span")

_Content: TypeAlias = Callable[[Record, ByteBudget], Attributes]
_KIB: Final = 1024


class SessionSpan:
    """The span of one session, timestep or tool. No method raises; events after the end are ignored."""

    __slots__ = (
        "_budget", "_evaluations", "_options", "_shows_content", "_span", "messages", "sampled", "span_id",
        "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        span: Span,
        options: SessionSpanOptions,
        evaluations: Evaluations,
        *,
        ours: bool = True,
        messages: ScopeMessages | None = None,
    ) -> None:
        context = span.get_span_context()
        self._span = span
        self._evaluations = evaluations
        self._options = options
        self._budget: ByteBudget | None = None
        self._shows_content = options.content and ours
        self.messages = messages
        self.sampled = context.trace_flags.sampled
        self.trace_id: str | None = format_trace_id(context.trace_id) if context.is_valid else None
        self.span_id: str | None = format_span_id(context.span_id) if context.is_valid else None

    def within(self, context: Context) -> Context:
        """Return `context` with this span as the current one; unchanged without tracing."""
        return set_span_in_context(self._span, context) if self.trace_id is not None else context

    def link(self) -> Link:
        """Return a link to this span."""
        return Link(self._span.get_span_context())

    def is_elsewhere(self, context: Context) -> bool:
        """Return whether this is a valid span of another trace than that of `context`."""
        here, there = get_current_span(context).get_span_context(), self._span.get_span_context()
        return there.is_valid and there.trace_id != here.trace_id

    def event(self, processed: Processed[Record]) -> None:
        """Add the record as a span event at its own time; an environment's reward also as an evaluation.

        A reward of a span that has ended or belongs to another process is exported as its child.
        """
        record = processed.record
        if isinstance(record, _EVENTS):
            run_reentrant(SessionSpan._add_event, self, record)

    def _add_event(self, record: EventRecord | MessageRecord | RewardRecord) -> None:
        with _EVENT:
            if not self._span.is_recording():
                if not isinstance(record, MessageRecord):
                    self._evaluations.late(record, self._span.get_span_context())
                return
            attributes = events.event_attributes(record)
            self._add_content(attributes, events.event_content, record)
            add_event(self._span, events.event_name(record), attributes, record.time_ns)
            if isinstance(record, RewardRecord):
                self._evaluations.also_log(record, self._span.get_span_context())
            else:
                self._add_evaluation(record, record.time_ns)

    def end(self, processed: Processed[Record], error: BaseException | None, tokens: Tokens) -> None:
        """Set the final attributes on the span and end it; with an error, set its status to error."""
        run_reentrant(partial(self._end, tokens), processed.record, error)

    def _end(self, tokens: Tokens, record: Record, error: BaseException | None) -> None:
        end_ns = _end_ns(record)
        if self._span.is_recording():
            with _END:
                if tokens.pop(SPAN, False):
                    self._show_end(record, error, end_ns)
            # Without a token too: interrupted after it was taken, the span has not ended.
            self._span.end(end_ns)

    def _add_content(self, attributes: Attributes, content: _Content, record: Record) -> None:
        # Guarded separately: a failure with content must not prevent the event or the end.
        if self._shows_content:
            with _CONTENT:
                self._budget = self._budget or self._options.budget(reserved=self.messages is not None)
                attributes.update(content(record, self._budget))

    def _add_exchange(self, attributes: Attributes, record: Record) -> None:
        messages, self.messages = self.messages, None
        if messages is not None:
            with _CONTENT:
                messages.close(record)
                attributes.update(messages.attributes(self._options.rest(self._budget)))

    def _add_evaluation(self, record: Record, time_ns: int | None) -> None:
        evaluation = events.evaluation_attributes(record)
        if evaluation is not None and isinstance(record, EventRecord):
            add_event(self._span, gen_ai.EVALUATION_EVENT, evaluation, time_ns)
            self._evaluations.also_log(record, self._span.get_span_context())

    def _show_end(self, record: Record, error: BaseException | None, end_ns: int | None) -> None:
        attributes = semconv.end_attributes(record)
        self._add_content(attributes, semconv.span_content, record)
        self._add_exchange(attributes, record)
        put_attributes(self._span, attributes)
        self._add_evaluation(record, end_ns)
        info = record.error if isinstance(record, _WITH_ERROR) else None
        if info is not None:
            self._span.add_event("exception", self._exception(info, error), end_ns)
            self._span.set_status(Status(StatusCode.ERROR, info.message if self._options.content else info.type))

    def _exception(self, info: ErrorInfo, error: BaseException | None) -> Attributes:
        attributes = semconv.exception_attributes(info, content=self._options.content)
        if error is not None:
            # Frames only: the last line of a traceback has the message, which the processors may have removed.
            frames = traceback.format_list(traceback.extract_tb(error.__traceback__, -_MAX_FRAMES))
            attributes[semconv.EXCEPTION_STACKTRACE] = "".join(frames)
        return attributes


class SessionSpans:
    """Starts the spans of sessions, timesteps and operations; implements `callspan.agent.runtime.SpanStarter`."""

    def __init__(
        self, tracer: Tracer, options: SessionSpanOptions | None = None, log: EvaluationLog | None = None
    ) -> None:
        """`log` is the log that rewards are emitted to as events; None: no log."""
        self._tracer = tracer
        self._options = options or SessionSpanOptions()
        self._evaluations = Evaluations(tracer, self._options, log)

    def start(
        self,
        processed: Processed[Record],
        *,
        parent: Context | None,
        link: ScopeSpanHandle | None = None,
        root: bool = False,
        workflow: str | None = None,
    ) -> SessionSpan:
        """Start the span of a session, timestep or tool event from its first record.

        `parent` None means the current context. `root` starts a new trace. Linked to `link`, in another trace.
        `workflow` is the processed name of a step's session.
        """
        record, context = processed.record, get_current() if parent is None else parent
        # An explicit invalid parent: without one the tracer would use the current span as the parent.
        if root:
            context = set_span_in_context(INVALID_SPAN, context)
        span = self._tracer.start_span(
            semconv.span_name(record),
            context,
            SpanKind.INTERNAL,
            semconv.start_attributes(
                record, compatibility=self._options.compatibility, llm=self._options.llm, workflow=workflow
            ),
            links=[link.link()] if isinstance(link, SessionSpan) and link.is_elsewhere(context) else None,
            start_time=_start_ns(record),
        )
        messages = None
        if self._options.content and span.is_recording():
            messages = messages_of(record, self._options.attribute_bytes)
        return SessionSpan(span, self._options, self._evaluations, messages=messages)

    def joined(self, trace_id: str, span_id: str, *, sampled: bool = True) -> SessionSpan:
        """Return a handle for a span of another process, used only as a parent; its ids are hexadecimal."""
        span = NonRecordingSpan(_context_of(trace_id, span_id, sampled=sampled))
        return SessionSpan(span, self._options, self._evaluations, ours=False)

    def evaluated(self, processed: Processed[Record], of: SpanRef | None) -> None:
        """Export a reward given by id as a child of its target span; None: the span is unknown."""
        record = processed.record
        if isinstance(record, RewardRecord):
            run_reentrant(self._evaluated, record, of)

    def _evaluated(self, record: RewardRecord, of: SpanRef | None) -> None:
        with _EVENT:
            judged = None
            if of is not None and of.trace_id is not None and of.span_id is not None:
                judged = _context_of(of.trace_id, of.span_id, sampled=of.sampled)
            self._evaluations.late(record, judged, None if of is None else of.response_id)


def _context_of(trace_id: str, span_id: str, *, sampled: bool) -> SpanContext:
    return SpanContext(
        trace_id=int(trace_id, 16),
        span_id=int(span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT),
    )


def _start_ns(record: Record) -> int | None:
    if isinstance(record, EventRecord):
        return record.time_ns
    return record.start_ns if isinstance(record, SCOPE_TYPES) else None


def _end_ns(record: Record) -> int | None:
    if isinstance(record, EventRecord):
        return record.time_ns + max(record.duration_ns or 0, SHORTEST_NS)
    if not isinstance(record, SCOPE_TYPES) or record.end_ns is None:
        return None
    return record.end_ns if record.start_ns is None else max(record.end_ns, record.start_ns + SHORTEST_NS)


class SessionSpanOptions:
    """Options of session spans: content or not, `llm.meta.*`, compatibility names, byte limits."""

    __slots__ = ("attribute_bytes", "compatibility", "content", "llm", "span_bytes")

    def __init__(
        self,
        *,
        content: bool = True,
        compatibility: bool = True,
        llm: bool = True,
        attribute_bytes: int = 32 * _KIB,
        span_bytes: int = 128 * _KIB,
    ) -> None:
        self.content = content
        self.compatibility = compatibility
        self.llm = llm
        self.attribute_bytes = attribute_bytes
        self.span_bytes = span_bytes

    def budget(self, *, reserved: bool = False) -> ByteBudget:
        """Return the byte budget of a new span's content; `reserved` excludes the share of its input and output."""
        return ByteBudget(self.attribute_bytes, self.span_bytes - (self._reserve if reserved else 0))

    def rest(self, used: ByteBudget | None) -> ByteBudget:
        """Return the budget left for input and output, after `used` by the span's other content."""
        left = self.span_bytes if used is None else used.left + self._reserve
        return ByteBudget(self.attribute_bytes, left)

    @property
    def _reserve(self) -> int:
        return min(2 * self.attribute_bytes, self.span_bytes // 2)


class Evaluations:
    """Exports rewards that have no open span: as log events if there is a log, else as separate spans."""

    def __init__(self, tracer: Tracer, options: SessionSpanOptions, log: EvaluationLog | None) -> None:
        self._tracer = tracer
        self._options = options
        self._log = log

    def also_log(self, record: EventRecord | RewardRecord, of: SpanContext) -> None:
        """Also emit a reward that is on a span as a log event, if there is a log."""
        if self._log is not None:
            self._emit(self._log, record, set_span_in_context(NonRecordingSpan(of)), None)

    def late(self, record: EventRecord | RewardRecord, of: SpanContext | None, response_id: str | None = None) -> None:
        """Export a reward as a child of its target span or, if that is unknown, of the current span.

        Emits one log event or one span; an unsampled span gets no children.
        """
        context = get_current() if of is None else set_span_in_context(NonRecordingSpan(of))
        if self._log is not None and self._emit(self._log, record, context, response_id):
            return
        if of is None or of.trace_flags.sampled:
            attributes = events.late_evaluation(record, response_id)
            if attributes is not None:
                self._span(record, attributes, context)

    def _span(self, record: EventRecord | RewardRecord, attributes: Attributes, context: Context) -> None:
        options = self._options
        if options.content and isinstance(record, RewardRecord):
            attributes |= events.event_content(record, options.budget())
        # The evaluator may run elsewhere, days later: its own trace is linked, not joined.
        judge, judged = get_current_span().get_span_context(), get_current_span(context).get_span_context()
        span = self._tracer.start_span(
            events.evaluation_span_name(record),
            context,
            SpanKind.INTERNAL,
            attributes | openinference.EVALUATION_START.of(record) if options.compatibility else attributes,
            links=[Link(judge)] if judge.is_valid and judge != judged else None,
            start_time=record.time_ns,
        )
        span.add_event(gen_ai.EVALUATION_EVENT, attributes, record.time_ns)
        span.end(record.time_ns + SHORTEST_NS)

    def _emit(
        self, log: EvaluationLog, record: EventRecord | RewardRecord, context: Context, response_id: str | None
    ) -> bool:
        attributes = events.late_evaluation(record, response_id)
        if attributes is None:
            return False
        # The record is processed: it has only what may be exported.
        attributes |= events.event_content(record, self._options.budget()) if isinstance(record, RewardRecord) else {}
        return log.emit(attributes, record.time_ns, context)
