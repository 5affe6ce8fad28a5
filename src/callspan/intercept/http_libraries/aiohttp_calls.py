"""aiohttp: observes what its sessions send, with redirects, and how their answers are read.

`ClientSession._request` sends each request. What it sends is known once it has made a `ClientRequest`, before it
connects. All methods of a response, and of the stream that is its `content`, take bytes from the stream by one
function and wait for them by another, which are observed. The stream may outlive its response, and cannot be weakly
referenced: its buffer stands for it. A cancelled read is no end: another one may follow.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from callspan import private_names as names
from callspan.agent.call_ids import remember_result
from callspan.intercept.foreign_objects import StateByObject
from callspan.intercept.hooks import HOOK_CONTEXT, HookSteps
from callspan.intercept.http_libraries import wire_calls
from callspan.intercept.http_libraries.exchanges import Answer, BodyCopy, Headers, SentRequest, is_compressed, url_of
from callspan.intercept.http_libraries.wire_calls import WireCall, WireObserver
from callspan.intercept.responses import CURRENT_CALL, OBSERVERS
from callspan.observe.call import failure
from callspan.providers import wires
from callspan.providers.error_kinds import FIRST_ERROR
from callspan.providers.rate_limits import relevant_headers
from callspan.record.call import ErrorInfo, Outcome, StreamEnd
from callspan.runtime.fail_open import fail_open

_SEND: Final = fail_open("observe a request of aiohttp")
_READ: Final = fail_open("observe an answer of aiohttp")
_POST: Final = "POST"
_FIRST_REDIRECT: Final = 300


class _Sending:
    """A request while `_request` runs, and its call, if it is one."""

    __slots__ = ("_outer", "call", "context", "decompresses", "is_made")

    def __init__(self, *, decompresses: bool) -> None:
        self.context: Context = otel_context.get_current()
        """The context of the code that sends it: tracing of the session may set another one meanwhile."""
        self.decompresses = decompresses
        self.call: AiohttpCall | None = None
        self.is_made = False
        """Whether its `ClientRequest` was made, which a redirect follows."""
        self._outer: _Sending | None = None

    def enter(self) -> None:
        """Make it the one whose `ClientRequest` is made next."""
        self._outer = _SENDING.get()
        _SENDING.set(self)

    def leave(self) -> None:
        """Undo `enter`. May be repeated."""
        if _SENDING.get() is self:
            _SENDING.set(self._outer)

    def made(self, request: Any) -> None:
        """Start the call if the request is one."""
        self.is_made = True
        body = getattr(request, "body", None)
        content = getattr(body, names.PAYLOAD_VALUE.name, None)  # that of others than bytes is read while it is sent
        body = bytes(content) if isinstance(content, bytes | bytearray | memoryview) else body
        sent = SentRequest(request.method, str(request.url), request.headers, body)
        opened = wire_calls.opened(sent, AiohttpCall, self.context)
        if isinstance(opened, AiohttpCall):
            opened.decompresses = self.decompresses
            self.call = opened
            opened.enter()

    def answered(self, response: Any) -> None:
        """End the call whose answer was read, or observe the answer while it is read."""
        self.leave()
        if self.call is not None:
            self.call.answered(response)

    def fail(self, error: BaseException) -> None:
        """End the call with the exception that is raised to the caller, or with an interrupt. May be repeated."""
        self.leave()
        if self.call is not None:
            self.call.fail(error)

    def abandon(self, error: BaseException | None) -> None:
        """End the call without what callspan has failed to observe. May be repeated."""
        self.leave()
        if self.call is not None:
            self.call.abandon(error)


_SENDING: Final[ContextVar[_Sending | None]] = ContextVar("callspan_aiohttp_sending", default=None)
"""The request that this task sends; a task that it has started sees it too, and makes no `ClientRequest` of it."""


class AiohttpCall(WireCall):
    """A call while `_request` runs."""

    __slots__ = ("decompresses",)
    decompresses: bool
    """Whether the session decompresses answers."""

    def answered(self, response: Any) -> None:
        """End a call whose answer was read, or observe the answer while it is read."""
        remember_result(response, self.call.id_cell)
        content = getattr(response, names.READ_BODY.name, None)
        if content is None and _buffer_of(response.content) is None and response.content.at_eof():  # there is none
            content = b""
        sent = response.request_info if response.history else None
        super().answered(
            Answer(
                response, response.status, Headers(response.headers, response.raw_headers), content,
                None if sent is None else SentRequest(sent.method, str(sent.url), sent.headers),
            )
        )  # fmt: skip

    def observe(self, response: Any) -> None:
        """Observe an open answer while it is read."""
        observer = _Observer(self, response.response, response.status_code, is_open=False)
        stream = response.response.content
        if (buffer := _buffer_of(stream)) is None:
            self.call.mark_unread()
            observer.raw_ended()
            observer.release()
            return
        reader = _Reader(observer, response.headers, buffer, decompresses=self.decompresses)
        STREAMS.put(buffer, reader, observer.lost)
        observer.release()
        stream.on_eof(reader.arrived)


def _buffer_of(stream: object) -> object:
    return getattr(stream, names.STREAM_BUFFER.name, None)


class _Observer(WireObserver):
    """Observes an open answer."""

    __slots__ = ("_broken_at", "_interruption", "is_waiting")

    def __init__(self, opened: WireCall, response: Any, status: int, *, is_open: bool) -> None:
        super().__init__(opened, response, status, is_open=is_open)
        self.is_waiting = False
        """Whether a task waits for bytes, which reports its end itself."""
        self._interruption: tuple[StreamEnd | None, Outcome, ErrorInfo] | None = None
        """How the call ends if no read follows one that was cancelled. The exception itself would keep the stream."""
        self._broken_at: int | None = None
        """The `id()` of the traceback of the exception that the next read raises; None if there is none."""

    def waited(self, _: object = None) -> None:
        """Report that the task waits no longer."""
        self.is_waiting = False

    def interrupted(self, error: BaseException) -> None:
        """Report the exception of a read that another one may follow."""
        self._interruption = failure(error)

    def goes_on(self) -> None:
        """Report another read."""
        self._interruption = None

    def broken(self, error: BaseException) -> None:
        """Report the exception that the next read will raise, if there is one."""
        if self._broken_at is None:
            self._broken_at = id(error.__traceback__)

    def left(self, error: BaseException | None) -> None:
        """Report that the response is closed or released, with the exception that each read raises."""
        if self.is_waiting:
            return
        if self._interruption is not None:
            self._end(partial(self.call.end, *self._interruption))
        elif error is not None and self._broken_at not in (None, id(error.__traceback__)):  # a read has raised it
            self.failed(error)
        else:
            self.closed()


class _Reader:
    """Copies the bytes of an answer while they are read."""

    __slots__ = ("_buffer", "_copy", "_has_arrived", "_is_compressed", "observer")

    def __init__(self, observer: _Observer, headers: Headers, buffer: Any, *, decompresses: bool) -> None:
        self.observer, self._copy = observer, BodyCopy(observer, headers)
        self._is_compressed = not decompresses and is_compressed(headers)
        self._buffer: weakref.ref[Any] = weakref.ref(buffer)
        self._has_arrived = False

    def add(self, piece: bytes) -> None:
        """Add what was read."""
        self.observer.goes_on()
        self._copy.add(piece, is_compressed=self._is_compressed)
        if self._has_arrived:
            self._complete()

    def arrived(self) -> None:
        """Report that the last byte has arrived, which may have been read already."""
        with _READ:
            self._has_arrived = True
            self._complete()

    def _complete(self) -> None:
        if not self._buffer():
            self._copy.completed()


STREAMS: Final[StateByObject[_Reader]] = StateByObject()
"""The readers of streams by their buffers."""


def _sending(args: tuple[Any, ...], method: Any, kwargs: dict[str, Any]) -> _Sending | None:
    """Return a request that may be a call; None if it is none, or is sent within a call.

    One that is none hides the request that it is sent for, as tracing of a session does, from its own `ClientRequest`.
    """
    is_call = _may_be_call(method, args[2])
    if not is_call and _SENDING.get() is None:
        return None
    decompresses = kwargs.get("auto_decompress")
    sending = _Sending(decompresses=args[0].auto_decompress if decompresses is None else decompresses)
    sending.is_made = not is_call
    return sending


def _may_be_call(method: Any, address: object) -> bool:
    if not HOOK_CONTEXT.http_calls or (method != _POST and str(method).upper() != _POST):
        return False
    try:
        url = url_of(str(address))
    except ValueError:  # aiohttp will say so
        return False
    is_of = not url.host or wires.are_of(url.sent_path, url.host)  # the session completes a relative one
    return is_of and not wire_calls.is_within_call()


def _answering(args: tuple[Any, ...], _: object, __: object) -> AiohttpCall | None:
    """Record the start of an attempt of a call that a middleware of the session repeats; None for others' answers."""
    opened, response = CURRENT_CALL.get(), args[0]
    if type(opened) is not AiohttpCall or not opened.is_sending or response.method != _POST:
        return None
    url = url_of(str(response.url))
    if not wires.are_of(url.sent_path, url.host):
        return None
    if opened.call.attempts.is_over:
        opened.call.attempts.started(request=opened.call.attempts.request)
    return opened


def _attempted(opened: AiohttpCall, response: Any) -> None:
    """Record the answer to an attempt. A redirect is none."""
    if not _FIRST_REDIRECT <= response.status < FIRST_ERROR:
        opened.call.attempts.headers_received(response.status, relevant_headers(response.raw_headers))


def _making(args: tuple[Any, ...], _: object, __: object) -> tuple[_Sending, Any] | None:
    """Return a request with its `ClientRequest`, which is made now; None for others."""
    sending = _SENDING.get()
    return None if sending is None or sending.is_made else (sending, args[0])


def _made(state: tuple[_Sending, Any], _: object) -> None:
    sending, request = state
    if request.method == _POST:  # tracing of the session may send a request of its own
        sending.made(request)


def _reader_of(args: tuple[Any, ...], _: object, __: object) -> _Reader | None:
    return STREAMS.get(_buffer_of(args[0])) if STREAMS.states else None


def _waiting(args: tuple[Any, ...], _: object, __: object) -> _Observer | None:
    reader = _reader_of(args, _, __)
    if reader is None or reader.observer.is_waiting:  # a second task is refused
        return None
    reader.observer.goes_on()
    reader.observer.is_waiting = True
    return reader.observer


def _wait_failed(observer: _Observer, error: BaseException) -> None:
    observer.waited()
    if isinstance(error, Exception):
        observer.failed(error)
    else:
        observer.interrupted(error)


def _taken(_: object, __: object) -> None:
    """Do nothing: `TAKE` has copied the pieces."""


def _read_failed(reader: _Reader, error: BaseException) -> None:
    """Report that the time is over, which is seen before buffered bytes are read."""
    reader.observer.failed(error)


def _breaking(args: tuple[Any, ...], error: Any, _: object) -> None:
    # Without a stream no function is called: this runs for each response of any server.
    reader = _reader_of(args, error, _) if STREAMS.states else None
    if reader is not None and isinstance(error, BaseException):
        reader.observer.broken(error)


def _closing(args: tuple[Any, ...], _: object, __: object) -> tuple[_Observer, BaseException | None] | None:
    """Return the observer of a response, and the exception that its reads raise before it is closed."""
    if not STREAMS.states:
        return None
    observer = OBSERVERS.get(id(args[0]))
    return (observer, args[0].content.exception()) if isinstance(observer, _Observer) else None


def _closed(state: tuple[_Observer, BaseException | None], _: object) -> None:
    observer, error = state
    observer.left(error)


SEND: Final = HookSteps(
    step=_SEND, before=_sending, enter=_Sending.enter, on_return=_Sending.answered, on_error=_Sending.fail,
    on_failure=_Sending.abandon,
)  # fmt: skip
"""Observes requests that are calls, around `ClientSession._request`."""
MAKE: Final = HookSteps(step=_SEND, before=_making, on_return=_made)
"""Shows what is sent, around the constructor of `ClientRequest`."""
START: Final = wire_calls.within_call(HookSteps(step=_SEND, before=_answering, on_return=_attempted))
"""Observes the attempts of a call, around `ClientResponse.start`, which reads the head of an answer."""
TAKE: Final = HookSteps(step=_READ, before=_reader_of, on_return=_Reader.add)
"""Copies the bytes that are taken from a stream, around `StreamReader._read_nowait_chunk`."""
TAKE_IN_TIME: Final = HookSteps(step=_READ, before=_reader_of, on_return=_taken, on_error=_read_failed)
"""Reports the end of the time for the whole exchange, around `StreamReader._read_nowait`."""
WAIT: Final = HookSteps(
    step=_READ, before=_waiting, on_return=_Observer.waited, on_error=_wait_failed, on_failure=_Observer.waited,
)  # fmt: skip
"""Reports how a wait for bytes ends, around `StreamReader._wait`."""
BREAK: Final = HookSteps(step=_READ, before=_breaking)
"""Notes the exception that the next read raises, around `StreamReader.set_exception`."""
CLOSE: Final = HookSteps(step=_READ, before=_closing, on_return=_closed, on_error=_closed)
"""Reports that a response was closed or released, around `ClientResponse.close` and `release`."""
