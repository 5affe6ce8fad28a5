"""Call spans: one CLIENT span per call, started with the attributes for samplers and ended with the record.

If another library's LLM span is open, the call sets its attributes on that span instead of starting a second one. Some
libraries end their span before the stream ends; then the call starts a span of its own below it after all.
OpenTelemetry's GenAI utilities mark the context for this purpose, and so does callspan if they are imported; other
spans are recognised by their attributes. No package is required.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context, get_value, set_value
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    INVALID_SPAN_CONTEXT,
    Link,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
    TraceState,
)

from callspan import private_names as names
from callspan.observe.factory import CallSpanHandle
from callspan.process.processed import ProcessedRecord
from callspan.record.call import CallRecord, SpanLink, Trace
from callspan.record.ids import new_span_id
from callspan.record.messages import Conversation
from callspan.record.span_handle import FOREIGN_RUNS, OWN_SPAN, SCOPE_KEY, SpanHandle
from callspan.runtime.fail_open import fail_open
from callspan.semconv import call, gen_ai
from callspan.semconv.call import CALL_ID, Projection
from callspan.semconv.content_attributes import Attributes, AttributeValue
from callspan.semconv.spans import spans_of_attempts
from callspan.settings import Settings
from callspan.spans.log_events import CallLogEvents
from callspan.spans.preparing import prepare

_TRACER: Final = fail_open("get a tracer")
_START: Final = fail_open("start a span")
_PROJECT: Final = fail_open("set a record's attributes on its span")
_END: Final = fail_open("end a span")
_IDENTIFY: Final = fail_open("read the ids of a span")
_CURRENT: Final = fail_open("make a call's span the current one")
_LOOK: Final = fail_open("check the span around a call")
_ONE_STEP: Final = fail_open("set attributes on a span in one step")
_ABSENT: Final = object()
_NONE: Final[Attributes] = {}
_SDK: Final = "opentelemetry.sdk.trace"
_SDK_SAMPLING: Final = "opentelemetry.sdk.trace.sampling"
"""The module of samplers that decide by the parent or the trace's id alone."""
_SCALARS: Final = frozenset({str, bool, int, float})

_INFERENCE: Final = "opentelemetry.genai.client.inference.context"
_MARKS: Final = (_INFERENCE, "opentelemetry.genai.client.embedding.context")
_CALLS: Final = (
    ("gen_ai.operation.name", ("chat", "text_completion", "generate_content", "embeddings")),
    ("openinference.span.kind", ("LLM", "EMBEDDING")),
    ("llm.request.type", ("chat", "completion", "embedding")),
)
"""Attributes that identify the span of a call: the conventions', OpenInference's and OpenLLMetry's."""
_NAMED_BY: Final = {"openlit.otel.tracing": ("chat ", "text_completion ", "embeddings ")}
"""Beginnings of the names of the spans of calls, by the instrumentation that sets their attributes after the answer."""
_OWN_MARK: Final = "callspan.inference"
_UTIL: Final = "opentelemetry.util.genai.invocation"
_MARK: Final = fail_open("mark the span of a call for OpenTelemetry's utilities")


def trace_id() -> str | None:
    """Return the id of the current trace, 32 hexadecimal digits, for logs and responses; None outside a trace.

    Example:
        >>> with callspan.testing.capture(), callspan.session("chat"):
        ...     len(callspan.trace_id() or "")
        32
    """
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def set_ids(handle: SpanHandle, span: Span, parent: SpanContext, link: SpanContext | None = None) -> None:
    """Give a handle the ids of its span, of the span's parent, and of a link if it has one."""
    context = span.get_span_context()
    if context.is_valid:
        # Half the cost of an f-string with leading zeros.
        handle.trace_id = context.trace_id.to_bytes(16, "big").hex()
        handle.span_id = context.span_id.to_bytes(8, "big").hex()
        handle.sampled = context.trace_flags.sampled
    if parent.is_valid:
        handle.parent_span_id = parent.span_id.to_bytes(8, "big").hex()
    state, is_remote = context.trace_state, parent.is_remote
    # The comparison saves the call of a method; nearly all spans have this state.
    if (state is not DEFAULT_TRACE_STATE and state) or is_remote or link is not None:
        links = [] if link is None else [_link_to(link)]
        handle.trace = Trace(state=state.to_header() or None, is_parent_remote=is_remote, links=links)


def set_scope(handle: SpanHandle, scope: Any) -> None:
    """Give a handle the span of the scope around it, if other spans are between the two."""
    if (span_id := scope.span.span_id) is not None and span_id != handle.parent_span_id:
        handle.trace = replace(handle.trace or Trace(), scope_span_id=span_id)


def set_own_ids(handle: SpanHandle, context: Context) -> None:
    """Give a handle an id made by callspan, because there is no OpenTelemetry span; its parent is in `context`."""
    parent_id = context.get(OWN_SPAN)
    handle.span_id, handle.parent_span_id = new_span_id(), parent_id if isinstance(parent_id, str) else None


class CallSpan(CallSpanHandle):
    """The span of one call."""

    _begun: Attributes = _NONE
    """What it has set at its start on another library's span."""

    def __init__(
        self, spans: CallSpans, span: Span, parent: SpanContext, first: CallRecord, *, is_shared: bool = False,
        link: SpanContext | None = None, context: Context | None = None,
    ) -> None:  # fmt: skip
        """`first`: the record with which it began. `is_shared`: another library began it. `context`: around it."""
        self._spans = spans
        self._span = span
        self._first = first
        self._context = context if is_shared else None
        self.is_shared = is_shared
        if is_shared:
            self._add_at_start(first)
        self.wants_content = spans.content_elsewhere
        # Spans of other implementations may raise.
        try:
            set_ids(self, span, parent, link)
            if self.trace_id is None:
                set_own_ids(self, otel_context.get_current())
            elif context is not None:
                scope = context.get(SCOPE_KEY)
                if FOREIGN_RUNS and (run := FOREIGN_RUNS.get(parent.span_id)) is not None:
                    scope = run.nearest(scope)
                if scope is not None:
                    set_scope(self, scope)
            self.wants_content = (spans.content and span.is_recording()) or spans.content_elsewhere
        except Exception as error:
            _IDENTIFY.report(error)

    def within(self, context: Context) -> Context:
        """Return `context` with this span as the current one."""
        try:
            inner = trace.set_span_in_context(self._span, context)
            if self.trace_id is None and self.span_id is not None:
                inner = otel_context.set_value(OWN_SPAN, self.span_id, inner)
            return _with_mark(inner) if _UTIL in sys.modules else inner
        except Exception as error:
            _CURRENT.report(error)
            return context

    def still_open(self) -> CallSpan:
        """Return this span; if it is another library's and has ended, a new one below it."""
        if not self.is_shared:
            return self
        try:
            if self._span.is_recording():
                return self
            span = self._spans.start_below(self._span, self._first)
            return CallSpan(self._spans, span, self._span.get_span_context(), self._first, context=self._context)
        except Exception as error:
            _START.report(error)
            return self

    def end(self, processed: ProcessedRecord[CallRecord], conversation: Conversation | None) -> None:
        """Set the record's attributes on the span and end it at the record's end time."""
        record, end_ns = processed.record, call.call_end_ns(processed.record)
        self._show(record, conversation, end_ns)
        if self._spans.events is not None:
            self._spans.events.emit(record, conversation, self._span)
        if not self.is_shared:
            try:
                self._span.end(end_ns)
            except Exception as error:
                _END.report(error)

    def _show(self, record: CallRecord, conversation: Conversation | None, end_ns: int) -> None:
        span, spans = self._span, self._spans
        try:
            if not span.is_recording():
                return
            record = spans.projection.shown(record)
            for event in call.call_events(record, end_ns, exception=not self.is_shared):
                span.add_event(event.name, event.attributes, event.time_ns)
            if record.error is not None and not self.is_shared and (failure := call.call_failure(record)) is not None:
                span.set_status(Status(StatusCode.ERROR, failure))
            asked, known = record.request, self._first.request
            if asked.model != known.model or asked.stream is not known.stream:
                self._name_again(record)
            attributes = spans.projection.end(record, conversation if spans.content else None)
            put_attributes(span, self._free(attributes) if self.is_shared else attributes)
            if spans.attempt_spans:
                _add_attempt_spans(spans.tracer, span, record)
        except Exception as error:
            _PROJECT.report(error)

    def _name_again(self, record: CallRecord) -> None:
        """Set the name, and the attributes of the start that the body of the request has changed."""
        if not self.is_shared:
            self._span.update_name(gen_ai.span_name(record))
        known, attributes = (self._spans.projection.start(of, is_read=True) for of in (self._first, record))
        if self.is_shared:
            changed = {name: value for name, value in attributes.items() if known.get(name) != value}
            self._span.set_attributes(self._free(changed))
            return
        present = getattr(self._span, "attributes", None) or {}
        # All in their order, as in a span that is made of the record; what a processor has set since stays.
        kept = {name: present[name] for name in attributes if name in present and present[name] != known.get(name)}
        self._span.set_attributes(attributes | kept)

    def _add_at_start(self, first: CallRecord) -> None:
        with _START:
            self._begun = self._free(self._spans.projection.start(first))
            self._span.set_attributes(self._begun)

    def _free(self, attributes: Attributes) -> Attributes:
        """Return the attributes that another library's span, which this is, has not itself."""
        present, begun = getattr(self._span, "attributes", None) or {}, self._begun
        return {
            name: value
            for name, value in attributes.items()
            if name not in present or (name in begun and begun[name] == present[name])
        }


def tracer_of(version: str, provider: TracerProvider | None) -> Tracer:
    """Return callspan's tracer, by default from the global provider; a no-op tracer if the provider raises."""
    with _TRACER:
        return trace.get_tracer("callspan", version, provider, gen_ai.SCHEMA_URL)
    return NoOpTracer()


class CallSpans:
    """Starts the spans of calls. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        tracer_provider: TracerProvider | None,
        version: str,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        # The global provider is looked up late, because an application may set it after `instrument()`.
        self.tracer = tracer_of(version, tracer_provider)
        # Behind a proxy, as before the application sets its provider, the sampler is not known.
        self._is_start_read = not _ignores_attributes(getattr(self.tracer, "sampler", None))
        self.attempt_spans = settings.attempt_spans
        self.content = settings.content == "full" and settings.content_on_spans
        self.projection = Projection(settings)
        self._is_prepared = False
        has_full_content = settings.content == "full"
        self.events = CallLogEvents(settings, logger_provider, version) if settings.log_events else None
        self.content_elsewhere = has_full_content and self.events is not None

    def start(self, processed: ProcessedRecord[CallRecord]) -> CallSpan:
        """Start the span of a call in the current context."""
        outer, parent_context = None, INVALID_SPAN_CONTEXT
        # Passed on, because OpenTelemetry would otherwise look it up four times.
        context: Context | None = None
        try:
            context = otel_context.get_current()
            parent = trace.get_current_span(context)
            if parent is not trace.INVALID_SPAN:
                outer, parent_context = _outer_span(parent), parent.get_span_context()
        except Exception as error:
            _LOOK.report(error)
            outer = None
        if outer is not None:
            return CallSpan(self, outer, _parent_of(outer), processed.record, is_shared=True, context=context)
        try:
            span = self._start(processed.record, context)
        except Exception as error:
            _START.report(error)
            span = trace.INVALID_SPAN
        return CallSpan(self, span, parent_context, processed.record, context=context)

    def start_later(
        self, processed: ProcessedRecord[CallRecord], context: Context, call: SpanContext | None
    ) -> CallSpan | None:
        """Start the span of a finished call in `context`, linked to the span of the `call` that it completes.

        Returns None if that fails.
        """
        try:
            parent = trace.get_current_span(context).get_span_context()
            span = self._start(processed.record, context, [] if call is None else [Link(call)])
            return CallSpan(self, span, parent, processed.record, link=call)
        except Exception as error:
            _START.report(error)
            return None

    def start_below(self, parent: Span, record: CallRecord) -> Span:
        """Start the span of a call below another library's, at the time when the call began."""
        return self._start(record, trace.set_span_in_context(parent))

    def _start(self, record: CallRecord, context: Context | None, links: Sequence[Link] = ()) -> Span:
        span = self.tracer.start_span(
            gen_ai.span_name(record),
            context=context,
            kind=SpanKind.CLIENT,
            attributes=self.projection.start(record, is_read=self._is_start_read),
            links=links,
            start_time=record.timing.start_ns,
        )
        if not self._is_prepared and span.is_recording():
            self._is_prepared = True
            prepare(self.projection.end_tables)
        return span


def _ignores_attributes(sampler: object) -> bool:
    """Return whether a sampler and the samplers behind it are OpenTelemetry's own, which read no attribute."""
    if type(sampler).__module__ != _SDK_SAMPLING:
        return False
    inner = (value for value in vars(sampler).values() if hasattr(value, "should_sample"))
    return all(map(_ignores_attributes, inner))


def _link_to(to: SpanContext) -> SpanLink:
    return SpanLink(trace_id=f"{to.trace_id:032x}", span_id=f"{to.span_id:016x}", is_remote=to.is_remote)


def context_of(
    trace_id: str, span_id: str, *, sampled: bool | None = True, is_remote: bool = True, state: str | None = None
) -> SpanContext:
    """Return the span context with these ids."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    states = TraceState.from_header([state]) if state else None
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, flags, states)


def _parent_of(span: Span) -> SpanContext:
    parent = getattr(span, "parent", None)
    return parent if isinstance(parent, SpanContext) else INVALID_SPAN_CONTEXT


def _add_attempt_spans(tracer: Tracer, span: Span, record: CallRecord) -> None:
    """Add a CLIENT span for each attempt of a finished call, as a child of the call's span."""
    parent = trace.set_span_in_context(span, Context())
    for attempt_span in spans_of_attempts(record):
        child = tracer.start_span(
            attempt_span.name,
            parent,
            SpanKind.CLIENT,
            attributes=attempt_span.attributes,
            start_time=attempt_span.start_ns,
        )
        if attempt_span.failure is not None:
            child.set_status(Status(StatusCode.ERROR, attempt_span.failure))
        child.end(attempt_span.end_ns)


def put_attributes(span: Span, attributes: Attributes) -> None:
    """Set `attributes` with non-empty names; uses the span's own method if the fast path does not apply."""
    try:
        room = _room(getattr(span, names.ATTRIBUTES.name, None), attributes)
        if room is not None and span.is_recording():
            # Atomic under the GIL, so that no other thread's attribute is lost.
            room.update(attributes)
            return
    except Exception as error:
        _ONE_STEP.report(error)
        room = None
    span.set_attributes(attributes)


def add_event(span: Span, name: str, attributes: Attributes, time_ns: int | None) -> None:
    """Add an event with `attributes`, which have non-empty names."""
    with _ONE_STEP:
        if _try_add_event(span, name, attributes, time_ns):
            return
    span.add_event(name, attributes, time_ns)


def _try_add_event(span: Span, name: str, attributes: Attributes, time_ns: int | None) -> bool:
    """Add an event as the SDK does; return False, without adding it, if the SDK would change the attributes."""
    # If the SDK is not imported, the span is not an SDK span.
    sdk: Any = sys.modules.get(_SDK)
    if sdk is None or type(span).add_event is not sdk.Span.add_event:
        return False
    make: Any = getattr(sdk, names.EVENT.name, None)
    add: Any = getattr(span, names.ADD_EVENT.name, None)
    limits: Any = getattr(span, names.LIMITS.name, None)
    if make is None or add is None or limits is None:
        return False
    event_attributes = BoundedAttributes(limits.max_event_attributes, None, True, limits.max_attribute_length)
    room = _room(event_attributes, attributes)
    if room is None:
        return False
    room.update(attributes)
    add(make(name, event_attributes, time_ns))
    return True


def _room(bounded: object, attributes: Attributes) -> dict[str, AttributeValue] | None:
    """Return the dictionary inside the SDK's attributes if the SDK would store the new ones unchanged, else None."""
    if type(bounded) is not BoundedAttributes or getattr(bounded, names.MAX_VALUE_LEN.name, _ABSENT) is not None:
        return None
    room = getattr(bounded, names.BOUNDED_DICT.name, None)
    limit = getattr(bounded, names.MAXLEN.name, _ABSENT)
    if type(room) is not dict:
        return None
    if limit is not None and not (isinstance(limit, int) and len(room) + len(attributes) <= limit):
        return None
    for value in attributes.values():
        kind = type(value)
        if kind is str or kind is int or kind in _SCALARS:  # most are one of the first two
            continue
        if not (type(value) is tuple and _SCALARS.issuperset(map(type, value))):
            return None
    return room


def _outer_span(span: Span) -> Span | None:
    """Return the current span if it is an LLM span that can represent this call, else None.

    A span represents only one call: a span that already has the attributes of a call is not used.
    """
    if not span.is_recording():
        return None
    attributes: Mapping[str, object] = getattr(span, "attributes", None) or {}
    is_of_call = _is_marked() or _is_call(attributes) or _is_named_as_call(span)
    return span if is_of_call and CALL_ID not in attributes else None


def _is_marked() -> bool:
    own_mark = get_value(_OWN_MARK)
    return any((mark := get_value(name)) is not None and mark is not own_mark for name in _MARKS)


def _is_call(attributes: Mapping[str, object]) -> bool:
    return any(attributes.get(name) in values for name, values in _CALLS)


def _is_named_as_call(span: Span) -> bool:
    scope, name = getattr(span, "instrumentation_scope", None), getattr(span, "name", None)
    beginnings = _NAMED_BY.get(getattr(scope, "name", ""), ())
    return isinstance(name, str) and name.startswith(beginnings)


def _with_mark(context: Context) -> Context:
    """Return `context` marked as inside an LLM span, for libraries that check it; `_UTIL` must be imported."""
    with _MARK:
        data = sys.modules[_UTIL].InferenceData()
        return set_value(_OWN_MARK, data, set_value(_INFERENCE, data, context))
    return context
