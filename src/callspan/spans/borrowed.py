"""Borrowed spans: spans of other libraries that show a call, and that their owners may never end.

Where an LLM span of a framework is current, the call has no span of its own. An owner that forgets its span, as some
do with a stream that is left early, would leave the call without any. So the span is watched from the call's end on,
without being kept alive: where it is collected, or not ended in time, a span of callspan with its ids is exported.
"""

from __future__ import annotations

import atexit
import sys
import time
import weakref
from typing import Any, Final

from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from callspan import private_names as names
from callspan.background import AtomicFlag, PutOff
from callspan.fail_open import fail_open
from callspan.forks import in_child, late_import
from callspan.record.call import CallRecord
from callspan.semconv import gen_ai

_SDK: Final = "opentelemetry.sdk.trace"
_SCOPE: Final = "opentelemetry.sdk.util.instrumentation"
_WATCH: Final = fail_open("watch for the end of another instrumentation's span")
_EXPORT: Final = fail_open("export a span in place of one that was never ended")
_MAKE: Final = fail_open("make a span of the SDK in place of one that was never ended")
_AT_EXIT: Final = fail_open("export spans of others that were never ended")
_DELAY_S: Final = 5.0


class BorrowedSpans:
    """The borrowed spans whose calls have ended and whose owners have not ended them yet. Takes no lock."""

    def __init__(self, delay_s: float = _DELAY_S) -> None:
        """`delay_s`: seconds that an owner has to end its span after the call's end."""
        self.delay_s = delay_s
        self._put_off = PutOff("callspan-borrowed-spans")
        self._exit_registered = False
        self._begin()
        in_child(self, BorrowedSpans._begin)

    def _begin(self) -> None:
        # What was open in the parent of a fork is the parent's to export.
        self._watched: dict[int, _Watched] = {}
        self._next_look = 0.0
        self._exiting = False

    def borrow(self) -> None:
        """Note that a call begins to use a span: its provider is there, and at exit must come after us."""
        if not self._exit_registered:
            self._exit_registered = True
            atexit.register(self._at_exit)

    def watch(self, span: Span, record: CallRecord, version: str) -> None:
        """See to it that a span, ours or its owner's, is exported for a call that has just ended."""
        with _WATCH:
            watched = _Watched.of(span, record, version, self)
            if watched is None:
                return
            now = time.monotonic()
            watched.due = now + self.delay_s
            self._watched[id(watched)] = watched
            watched.put_on(span)
            if self._exiting:
                watched.stand_in()
            elif not now < self._next_look <= watched.due:
                # After the entry was made: a look that is still to come sees it.
                self._look_at(watched.due)

    def collected(self, key: int) -> None:
        """Export in place of a span that was collected, on a background thread. Safe in a finalizer."""
        if (watched := self._watched.get(key)) is not None:
            self._put_off.put(watched.stand_in)

    def forget(self, watched: _Watched) -> None:
        """Watch no more."""
        self._watched.pop(id(watched), None)

    def export_all(self, timeout_s: float) -> None:
        """Export in place of every span that has not been ended: the process is about to end."""
        for watched in list(self._watched.values()):
            watched.stand_in()
        self._put_off.drain(timeout_s)

    def _at_exit(self) -> None:
        with _AT_EXIT:
            self._exiting = True
            self.export_all(self.delay_s)

    def _look_at(self, when: float) -> None:
        self._next_look = when
        self._put_off.put_later(when - time.monotonic(), self._look)

    def _look(self) -> None:
        now, following = time.monotonic(), None
        for watched in list(self._watched.values()):
            if watched.due <= now:
                watched.stand_in()
            else:
                following = watched.due if following is None else min(following, watched.due)
        if following is not None:
            self._look_at(following)


class _Watched:
    """Stands before the span processor of one span, and lets through whichever end comes first: its owner's or ours."""

    _processor: Any = None

    def __init__(self, span: Any, record: CallRecord, version: str, of: BorrowedSpans) -> None:  # noqa: ANN401
        self.due = 0.0
        self._of = of
        self._processor = getattr(span, names.SPAN_PROCESSOR.name)
        self._version = version
        self._name = gen_ai.span_name(record)
        self._start_ns = record.timing.start_ns
        self._end_ns = record.timing.start_ns + (record.timing.duration_ns or 0)
        self._status = _status(record)
        self._limits = getattr(span, names.LIMITS.name, None)
        # The rest of the span once it is collected; the attributes are a view that shows later ones too.
        self._context, self._parent, self._resource = span.context, span.parent, span.resource
        self._attributes, self._links, self._events = span.attributes, span.links, span.events
        # What clears it exports.
        self._unexported = AtomicFlag(is_set=True)
        key = id(self)
        self._span = weakref.ref(span, lambda _: of.collected(key))

    @classmethod
    def of(cls, span: Any, record: CallRecord, version: str, of: BorrowedSpans) -> _Watched | None:  # noqa: ANN401
        """Return what watches `span`; None where it has ended, or is not of the SDK's make."""
        make = getattr(sys.modules.get(_SDK), "Span", None)
        # By the type: a proxy may be collected long before the span behind it.
        if not isinstance(make, type) or not issubclass(type(span), make) or not span.is_recording():
            return None
        processor = getattr(span, names.SPAN_PROCESSOR.name, None)
        return None if processor is None or isinstance(processor, cls) else cls(span, record, version, of)

    def put_on(self, span: Span) -> None:
        """Stand before the processor of `span` from now on."""
        setattr(span, names.SPAN_PROCESSOR.name, self)
        if not span.is_recording():
            # Its owner ends it at this moment: past us or through us, it is exported.
            self._of.forget(self)

    def on_end(self, span: Any) -> None:  # noqa: ANN401 - as span processors are called
        """Pass on the end by the span's owner, unless a span of callspan replaces it already."""
        if self._take():
            self._processor.on_end(span)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Everything else is the processor's own."""
        return getattr(self._processor, name)

    def stand_in(self) -> None:
        """Export a span of callspan with the ids of the one that was never ended, unless one was exported."""
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
        """Return a span that was started without a processor; its end goes to the processors, `_on_ending` included."""
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


def _status(record: CallRecord) -> Status:
    if record.error is not None and record.outcome in ("error", "timeout"):
        return Status(StatusCode.ERROR, record.error.message or record.error.type)
    return Status(StatusCode.UNSET)


BORROWED: Final = BorrowedSpans()
