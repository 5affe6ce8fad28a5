"""Responses: connects an HTTP response to its call, and decides when it ends the call.

1. The first end counts. Ends are the end of the reader, an exception in it, a close, and the collection of the reader
   or the response. `break` is no end: the caller may continue to read.
2. A response belongs to the caller once `request` has returned it; until then its first end waits. If a middleware has
   replaced it, the end waits forever, and data read from it belongs to no call.
3. A finalizer may report the collection of a reader or response on any thread and under any lock. It is queued.
4. A stream that has signalled its end (finish reasons, `message_stop`) is complete, even if it is then closed or
   collected. One that ends normally without that signal is `cut_off`. The call's accumulator recognises the signal.

Nothing is attached to objects the caller sees: observers are found by `id()` of the response while it exists. They
refer to the response and its reader weakly, so that these can be collected.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, ClassVar, Final

from opentelemetry.trace import get_current_span

from callspan.intercept.body_parsers import EventParser, Parser, error_at_end, last_event, starts_page
from callspan.observe.call import Call, failure
from callspan.record.call import ErrorInfo
from callspan.runtime.fail_open import fail_open, value_of
from callspan.runtime.nothing import nothing

if TYPE_CHECKING:
    from callspan.intercept.open_call import OpenCall

_END: Final = fail_open("end a call")
OBSERVERS: Final[dict[int, ResponseObserver]] = {}
"""The observers by `id()` of their response; changed only by `ResponseObserver`."""
CURRENT_CALL: Final[ContextVar[OpenCall | None]] = ContextVar("callspan_current_call", default=None)
"""The call whose request is sent in this context, or was by the code that has started this task; not set while its
stream is read."""
READING: Final[ContextVar[Reading | None]] = ContextVar("callspan_reading", default=None)
"""The call that is reading its response, if a middleware may send further requests for it meanwhile."""
_EVENT_STARTS: Final = (b"data:", b"event:", b":")
_PAGE: Final = "The body of the response is a web page."
_NOT_JSON: Final = "The body of the response is not JSON."


def is_below_whole_call() -> bool:
    """Return whether the running code sends the request of a call that has all requests below it in it."""
    open_call = CURRENT_CALL.get()
    return open_call is not None and open_call.is_whole and open_call.is_sending and not open_call.shared_path


class Reading:
    """A call after the return of its `request`, for the requests that a middleware sends while its answer is read."""

    __slots__ = ("built", "built_retries", "call", "context", "inject", "received")
    is_sent_by_http_library: ClassVar[bool] = True
    body_seen = True

    def __init__(self, opened: OpenCall) -> None:
        self.built, self.built_retries, self.received = None, opened.built_retries, opened.received
        self.call, self.context, self.inject = opened.call, opened.context, opened.inject


def send_trace(opened: OpenCall | Reading, headers: MutableMapping[str, str]) -> None:
    """Add `traceparent` to the headers of an attempt.

    Nothing else: the application's baggage, and what others put into `tracestate`, are not for the provider.
    """
    if (span := get_current_span(opened.context).get_span_context()).is_valid:
        headers["traceparent"] = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


class ResponseObserver:
    """Observes one response of a call. Methods raise nothing but interrupts, unless documented."""

    ends_with_last_event: ClassVar[bool] = False
    """Whether nothing above its bytes can fail once its last event was read, so that the call ends there."""

    __slots__ = (
        "_held_end", "_identity", "_is_held", "_is_open", "_is_replaced", "call", "flush_copied_bytes",
        "is_read_by_sdk", "on_data", "reader", "reading", "response", "tail", "tail_is_whole",
    )  # fmt: skip

    def __init__(self, call: Call, response: object, *, is_open: bool) -> None:
        """Register as the observer of the response until it is collected.

        A closed response was already read: its collection is no end. Raises TypeError for an object that cannot be
        weakly referenced.
        """
        self.call = call
        self.on_data: Callable[[object], object] = call.chunk if call.streaming else call.take_body
        """Takes each parsed body or chunk; bound once, because it is called for every chunk."""
        self.reader: weakref.ref[Any] | None = None
        """The iterator that reads the response: its stream, once started, or its bytes."""
        self.is_read_by_sdk = False
        """Whether the SDK's stream reads the bytes of the response, so that they need not be observed."""
        self.reading: Reading | None = None
        """Its call, if a middleware made the response."""
        self.tail = bytearray()
        """The last bytes of a stream that the SDK reads."""
        self.tail_is_whole = True
        """Whether they are all of its bytes."""
        self.flush_copied_bytes: Callable[[], None] | None = None
        """Passes on data that a copying reader still holds, because a call may end while the reader waits."""
        self._is_replaced = False
        """Whether another response has replaced this one."""
        self._is_held = True
        self._held_end: Callable[[], object] | None = None
        """The first end, while it is held."""
        self._is_open, self._identity = is_open, id(response)
        self.response = weakref.ref(response, self._collected)
        """Returns the response; None if it was collected."""
        OBSERVERS[self._identity] = self

    def _collected(self, reference: object, observers: dict[int, ResponseObserver] = OBSERVERS) -> None:
        # The argument keeps a reference to the observers for interpreter shutdown, when module globals are cleared.
        del reference
        if observers.get(self._identity) is self:
            del observers[self._identity]
        if self._is_open:
            self.lost()

    def detach(self) -> None:
        """Disconnect a replaced response from the call."""
        self._is_held = self._is_replaced = True
        self.on_data = nothing

    def take_body(self, body: object) -> None:
        """Record a complete body received instead of a stream, unless another response has replaced this one."""
        if not self._is_replaced:
            self.call.take_body(body)

    def parser(self) -> Parser:
        """Return a new parser of its stream."""
        return EventParser()

    def unparsed(self, start: bytes) -> ErrorInfo | None:
        """Report that an answer, which begins so, has neither JSON nor an event; return its error."""
        del start
        return None

    def hold(self) -> None:
        """Make the first end wait for `release`."""
        self._is_held = True

    def release(self) -> None:
        """End the call if the response has ended meanwhile; otherwise its first end will."""
        self._is_held = False
        held_end, self._held_end = self._held_end, None
        if held_end is not None:
            self._end(held_end)

    def completed(self, error: ErrorInfo | None = None) -> None:
        """Report the normal end of the reader; `error` is the error of a completely read body, such as invalid JSON."""
        if (ignored_error := self._error_at_end()) is not None:
            self._end(partial(self.call.end, "error", error=ignored_error))
        else:
            self._end(partial(self.call.end, error=error))

    def _error_at_end(self) -> ErrorInfo | None:
        """Return the error in the last bytes of a stream, which the SDK has ignored."""
        if self.tail.find(b"error") < 0:
            return None
        with _END:
            error_body = error_at_end(bytes(self.tail), is_whole=self.tail_is_whole)
            return None if error_body is None else self.call.endpoint.response_info(error_body).error
        return None

    def _take_refused_chunk(self) -> None:
        """Record what an event states beside an error, such as usage: the SDK raises that and passes on nothing."""
        if self.tail.find(b"error") < 0 or self._is_replaced:
            return
        with _END:
            event = last_event(bytes(self.tail), is_whole=self.tail_is_whole)
            self.tail.clear()  # a helper above the stream may report it again
            if isinstance(event, dict) and event.pop("error", None) and not event.keys() <= {"type"}:
                self.call.refused_chunk(event)

    def failed(self, error: BaseException) -> None:
        """Report the exception of the reader."""
        self._take_refused_chunk()
        self._end(partial(self.call.end, *failure(error)))

    def failed_above(self, error: BaseException) -> None:
        """Report an exception of the helper that reads the stream; it replaces a waiting end of the stream."""
        self._is_held, self._held_end = False, None
        self.failed(error)

    def closed(self) -> None:
        """Report that the response was closed. A running reader reports its own end."""
        iterator = None if self.reader is None else self.reader()
        if self.reader is not None and iterator is None:
            # The garbage collector clears weak references before it closes generators, whose `finally` closes the
            # response: this code may run in a finalizer.
            self.lost()
        elif not is_running(iterator):
            self._end(self.call.leave)

    def raw_begun(self) -> bool:
        """Report that raw bytes are read; return whether `iter_bytes`, which is observed, does not read them."""
        if self.reader is not None or self.is_read_by_sdk or self.call.ended:
            return False
        self.call.mark_unread()
        return True

    def raw_passed(self, piece: bytes) -> None:
        """Report raw bytes."""

    def raw_ended(self) -> None:
        """Report that all raw bytes were read."""
        self._end(self.call.end)

    def lost(self) -> None:
        """Report that the reader was closed or collected, or the response collected. Safe in a finalizer."""
        self._end(self.call.lost)

    def _end(self, end: Callable[[], object]) -> None:
        if self._is_held:
            self._held_end = self._held_end or end
        elif not self.call.ended:
            with _END:
                if self.flush_copied_bytes is not None:
                    self.flush_copied_bytes()
                    self.flush_copied_bytes = None
                end()

    def is_reading(self) -> bool:
        """Return whether the reader is running."""
        return self.reader is not None and is_running(self.reader())


def is_running(reader: object) -> bool:
    """Return whether a generator, or an async reader of callspan, is running."""
    return any(getattr(reader, name, None) is True for name in ("running", "gi_running", "ag_running"))


def observer_of(response: object) -> ResponseObserver | None:
    """Return the observer of a response, or None."""
    return OBSERVERS.get(id(response))


def body_of(result: object, response: Any) -> object:
    """Return the JSON of a finished call that the SDK has not parsed: from the response, else from the result."""
    if isinstance(result, str):
        return value_of(partial(json.loads, _encoded(result)))
    if hasattr(response, "json") and getattr(response, "is_closed", False):
        return value_of(response.json)
    dumped = value_of(partial(methodcaller("to_dict"), result))
    return dumped if isinstance(dumped, dict) else None


def body_error(result: object, response: Any) -> ErrorInfo | None:
    """Return the error of a body that was read and is not JSON; None if it is valid or was not read.

    The SDKs return such a body as text unless its content type is JSON; the caller of a raw response sees it later.
    """
    if isinstance(result, str):
        return parsing_error(_encoded(result))
    response = result if response is None else response
    content = value_of(lambda: response.content) if getattr(response, "is_closed", False) else None
    return parsing_error(content) if isinstance(content, bytes) else None


def _encoded(text: str) -> bytes:
    """Return the bytes of a text, because the standard library accepts a byte order mark only in bytes."""
    return text.encode("utf-8", "surrogatepass")


def parsing_error(content: bytes) -> ErrorInfo | None:
    """Return the error of a body that is not JSON; None for JSON, an empty body, and server-sent events.

    Events are returned as text if `extra_body` requests a stream in a call that is plain for the SDK.
    """
    start = content.lstrip()
    if not start or content.startswith(_EVENT_STARTS):
        return None
    try:
        json.loads(content)
    except ValueError as error:
        message = _PAGE if starts_page(start) else _NOT_JSON
        return ErrorInfo(kind="parsing", type=type(error).__name__, message=message)
    except RecursionError:
        return None
    return None
