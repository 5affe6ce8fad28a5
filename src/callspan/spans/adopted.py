"""Adopted spans: LLM spans of other libraries that represent a call, and that their owners may never end.

There must be one LLM span per call. If another library's LLM span is open, the call sets its attributes on that span
and creates none. OpenTelemetry's GenAI utilities mark the context for this, and callspan does so too if they are in
use; other spans are recognised by their attributes. No package is required.

Some frameworks never end their span if a stream is left early, and the call would have no span at all. So the span is
watched from the call's end on, by a weak reference: if it is garbage collected or not ended in time, callspan exports a
span with the same ids.
"""

from __future__ import annotations

import atexit
import sys
import time
import weakref
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.context import Context, get_value, set_value
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from callspan import private_names as names
from callspan.background import AtomicFlag, Worker
from callspan.fail_open import fail_open
from callspan.forks import in_child, late_import
from callspan.record.call import CallRecord
from callspan.semconv import call, gen_ai
from callspan.semconv.call import CALL_ID

_SDK: Final = "opentelemetry.sdk.trace"
_SCOPE: Final = "opentelemetry.sdk.util.instrumentation"
_WATCH: Final = fail_open("watch for the end of another instrumentation's span")
_EXPORT: Final = fail_open("export a span in place of one that was never ended")
_MAKE: Final = fail_open("make a span of the SDK in place of one that was never ended")
_AT_EXIT: Final = fail_open("export spans of others that were never ended")
_DELAY_S: Final = 5.0
_INFERENCE: Final = "opentelemetry.genai.client.inference.context"
_MARKS: Final = (_INFERENCE, "opentelemetry.genai.client.embedding.context")
_CALLS: Final = (
    ("gen_ai.operation.name", ("chat", "text_completion", "generate_content", "embeddings")),
    ("openinference.span.kind", ("LLM", "EMBEDDING")),
    ("llm.request.type", ("chat", "completion", "embedding")),
)
"""Attributes that identify the span of one call, of the conventions, OpenInference and OpenLLMetry."""
_OURS: Final = "callspan.inference"
UTIL: Final = "opentelemetry.util.genai.invocation"
_MARK: Final = fail_open("mark the span of a call for OpenTelemetry's utilities")


def outer_span(span: Span) -> Span | None:
    """Return the current span if it is an LLM span that represents this call, else None.

    A span represents one call: one that already has the attributes of another call is not used.
    """
    if not span.is_recording():
        return None
    attributes: Mapping[str, object] = getattr(span, "attributes", None) or {}
    return None if CALL_ID in attributes or not (_is_marked() or _is_call(attributes)) else span


def _is_marked() -> bool:
    ours = get_value(_OURS)
    return any((mark := get_value(name)) is not None and mark is not ours for name in _MARKS)


def _is_call(attributes: Mapping[str, object]) -> bool:
    return any(attributes.get(name) in values for name, values in _CALLS)


def marked(context: Context) -> Context:
    """Return `context` with callspan's LLM span marked as open, for libraries that check it; `UTIL` is imported."""
    with _MARK:
        data = sys.modules[UTIL].InferenceData()
        return set_value(_OURS, data, set_value(_INFERENCE, data, context))
    return context


class AdoptedSpans:
    """The adopted spans whose calls have ended and whose owners have not ended them yet. Takes no lock."""

    def __init__(self, delay_s: float = _DELAY_S) -> None:
        """`delay_s`: seconds after the call's end within which the owner must end its span."""
        self.delay_s = delay_s
        self._worker = Worker("callspan-adopted-spans")
        self._exit_registered = False
        self._begin()
        in_child(self, AdoptedSpans._begin)

    def _begin(self) -> None:
        # Spans that were open in the parent of a fork are exported by the parent.
        self._watched: dict[int, _EndGuard] = {}
        self._next_look = 0.0
        self._exiting = False

    def adopt(self) -> None:
        """Record that a call uses a span: its provider exists, and must be shut down after callspan at exit."""
        if not self._exit_registered:
            atexit.register(self._at_exit)
            self._exit_registered = True

    def watch(self, span: Span, record: CallRecord, version: str) -> None:
        """Ensure that one span, the owner's or callspan's, is exported for a call that has just ended."""
        with _WATCH:
            watched = _EndGuard.of(span, record, version, self)
            if watched is None:
                return
            now = time.monotonic()
            watched.due = now + self.delay_s
            self._watched[id(watched)] = watched
            watched.put_on(span)
            if self._exiting:
                watched.export_replacement()
            elif not now < self._next_look <= watched.due:
                # After adding the entry, so that a later check sees it.
                self._look_at(watched.due)

    def collected(self, key: int) -> None:
        """Export a replacement for a collected span, on a background thread. Safe in a finalizer."""
        if (watched := self._watched.get(key)) is not None:
            self._worker.put(watched.export_replacement)

    def forget(self, watched: _EndGuard) -> None:
        """Stop watching."""
        self._watched.pop(id(watched), None)

    def export_all(self, timeout_s: float) -> None:
        """Export a replacement for every span that was not ended, because the process is about to end."""
        for watched in list(self._watched.values()):
            watched.export_replacement()
        self._worker.drain(timeout_s)

    def _at_exit(self) -> None:
        with _AT_EXIT:
            self._exiting = True
            self.export_all(self.delay_s)

    def _look_at(self, when: float) -> None:
        self._next_look = when
        self._worker.put_later(when - time.monotonic(), self._look)

    def _look(self) -> None:
        now, following = time.monotonic(), None
        for watched in list(self._watched.values()):
            if watched.due <= now:
                watched.export_replacement()
            else:
                following = watched.due if following is None else min(following, watched.due)
        if following is not None:
            self._look_at(following)


class _EndGuard:
    """Wraps the span processor of one span and passes on only the first end: its owner's or callspan's."""

    _processor: Any = None

    def __init__(self, span: Any, record: CallRecord, version: str, of: AdoptedSpans) -> None:  # noqa: ANN401
        self.due = 0.0
        self._of = of
        self._processor = getattr(span, names.SPAN_PROCESSOR.name)
        self._version = version
        self._name = gen_ai.span_name(record)
        self._start_ns = record.timing.start_ns
        self._end_ns = call.call_end_ns(record)
        failure = call.call_failure(record)
        self._status = Status(StatusCode.UNSET) if failure is None else Status(StatusCode.ERROR, failure)
        self._limits = getattr(span, names.LIMITS.name, None)
        # Kept for the time after the span is collected; the attributes are a live view.
        self._context, self._parent, self._resource = span.context, span.parent, span.resource
        self._attributes, self._links, self._events = span.attributes, span.links, span.events
        # The thread that clears it exports.
        self._unexported = AtomicFlag(is_set=True)
        key = id(self)
        self._span = weakref.ref(span, lambda _: of.collected(key))

    @classmethod
    def of(cls, span: Any, record: CallRecord, version: str, of: AdoptedSpans) -> _EndGuard | None:  # noqa: ANN401
        """Return the wrapper that watches `span`; None if it has ended or is not a span of the SDK."""
        make = getattr(sys.modules.get(_SDK), "Span", None)
        # By type, because a proxy may be collected long before its span.
        if not isinstance(make, type) or not issubclass(type(span), make) or not span.is_recording():
            return None
        processor = getattr(span, names.SPAN_PROCESSOR.name, None)
        return None if processor is None or isinstance(processor, cls) else cls(span, record, version, of)

    def put_on(self, span: Span) -> None:
        """Wrap the processor of `span` from now on."""
        setattr(span, names.SPAN_PROCESSOR.name, self)
        if not span.is_recording():
            # Its owner is ending it right now, so it is exported either way.
            self._of.forget(self)

    def on_end(self, span: Any) -> None:  # noqa: ANN401 - as span processors are called
        """Pass on the end by the span's owner, unless callspan's span was already exported instead."""
        if self._take():
            self._processor.on_end(span)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Delegate everything else to the processor."""
        return getattr(self._processor, name)

    def export_replacement(self) -> None:
        """Export a span of callspan with the ids of the unended one, unless one was already exported."""
        with _EXPORT:
            if (span := self._span()) is not None and not span.is_recording():
                return  # its owner is about to export it
            fields = self._fields(span)
            made = self._span_of_the_sdk(fields)
            if self._take():
                if made is not None:
                    made.end(self._end_ns)
                else:
                    self._processor.on_end(self._readable_span(fields))

    def _take(self) -> bool:
        self._of.forget(self)
        return self._unexported.test_and_clear()

    def _fields(self, span: Any) -> dict[str, object]:  # noqa: ANN401
        scope = late_import(_SCOPE).InstrumentationScope("callspan", self._version, gen_ai.SCHEMA_URL)
        return {
            "name": self._name,
            "context": self._context,
            "parent": self._parent,
            "resource": self._resource,
            "attributes": dict(self._attributes or {}),
            "events": self._events if span is None else span.events,
            "links": self._links if span is None else span.links,
            "kind": SpanKind.CLIENT,
            "instrumentation_scope": scope,
        }

    def _span_of_the_sdk(self, fields: dict[str, object]) -> Any:  # noqa: ANN401
        """Return a span started without notifying processors; its end is passed to them, `_on_ending` included."""
        with _MAKE:
            sdk: Any = sys.modules[_SDK]
            make = getattr(sdk, names.SDK_SPAN.name, None)
            if make is None:
                return None
            limits = {} if self._limits is None else {"limits": self._limits}
            made = make(**fields, **limits, span_processor=sdk.SpanProcessor())
            made.start(self._start_ns)
            made.set_status(self._status)
            setattr(made, names.SPAN_PROCESSOR.name, self._processor)
            return made
        return None

    def _readable_span(self, fields: dict[str, object]) -> object:
        times = {"start_time": self._start_ns, "end_time": self._end_ns}
        return sys.modules[_SDK].ReadableSpan(**fields, **times, status=self._status)


ADOPTED_SPANS: Final = AdoptedSpans()
