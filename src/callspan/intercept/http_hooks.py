"""HTTP hooks: the attempts of a call, the end of its streams, and responses whose bytes the caller reads.

All users of the HTTP library call `send`: anything but the SDK's request for the current call passes straight through.
Requests that are not attempts (token exchange, middleware) lack the SDKs' `x-stainless-lang` header.

The SDK's reader of a stream (`Stream.__stream__`) and the stream object are not replaced. Newer readers close their
response in a `finally` at every end; observing this close is enough, without a wrapper between the reader and the
caller. Wrappers for other cases are in `stream_readers`.

`with_raw_response` returns a body that is already read; `with_streaming_response` an unread one with seven ways to read
it, which all use `iter_bytes`, as does a caller who reads the response of a stream directly. A copy of the bytes is
parsed as the SDK would do, up to a size limit; server-sent events are parsed as defined in the HTML standard.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Final

from opentelemetry import propagate

from callspan.fail_open import fail_open, reported, value_of
from callspan.intercept.body_parsers import EventParser, file_body_of
from callspan.intercept.hooks import Function, HookContext, HookSteps, argument, guarded
from callspan.intercept.request import CURRENT_CALL, OpenCall
from callspan.intercept.response_observer import OBSERVERS, HttpResponse, ResponseObserver, observer_of, parsing_error
from callspan.intercept.response_state import Event
from callspan.intercept.sdk_readers import end_in_frames, frame_of, has_read_done
from callspan.intercept.stream_readers import observed_reader
from callspan.providers import registry
from callspan.providers.rate_limits import relevant_headers
from callspan.record.call import ErrorInfo

_ATTEMPT: Final = fail_open("observe an attempt")
_MARK: Final = b"x-stainless-lang"
_COUNT: Final = b"x-stainless-retry-count"
_CLOSED: Final = fail_open("see who closed a response")
_OBSERVE_STREAM: Final = fail_open("observe a stream")
_CAP_BYTES: Final = 8 << 20
_COPY: Final = fail_open("read a copy of a raw response")
_OBSERVE_BYTES: Final = fail_open("observe the bytes of a response")
_DONE: Final = b"[DONE]"


def observe_send(hook_context: HookContext, original: Function, *, is_async: bool = False) -> Function:
    """Return a replacement of `Client.send` or `AsyncClient.send` that observes the attempts of calls."""
    del hook_context
    at, request_of = argument(original, "request", 1)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        opened = CURRENT_CALL.get()
        if opened is None:
            return None
        return _begun(opened, args[at] if len(args) > at else request_of(args, kwargs))

    return guarded(
        original, HookSteps(step=_ATTEMPT, begin=begin, returned=_response_received, raised=_failed), is_async=is_async
    )


def _begun(opened: OpenCall, request: Any) -> OpenCall | None:  # noqa: ANN401 - httpx or httpx2
    """Record the start of an attempt; return None for a request that does not belong to the call."""
    attempts = opened.call.attempts
    if request is opened.built and opened.built_retries is not None:
        attempts.started(opened.call.offset_ns())
        attempts.sdk_retries = opened.built_retries
    else:
        # Raw headers are read once, because httpx decodes all of them for each lookup by name.
        sent = {name.lower(): value for name, value in request.headers.raw}
        if _MARK not in sent:
            return None
        attempts.started(opened.call.offset_ns())
        count = sent.get(_COUNT)
        attempts.sent_retries(None if count is None else count.decode("latin-1"))
    # The attempt has started even if the following code fails.
    try:
        if opened.inject:
            propagate.inject(request.headers, context=opened.context)
        if not opened.body_seen:
            opened.body_seen = True
            opened.call.sent(request.content, registry.decoded(request.content))
    except reported(_ATTEMPT):
        return opened
    return opened


def _failed(opened: OpenCall, error: BaseException) -> None:
    opened.call.attempts.failed(opened.call.offset_ns(), type(error).__name__)


def _response_received(opened: OpenCall, response: Any) -> None:  # noqa: ANN401 - httpx or httpx2
    call = opened.call
    offset_ns = call.offset_ns()
    headers = relevant_headers(response.headers.raw)
    call.attempts.headers_received(offset_ns, response.status_code, headers, lambda: response.content)


def observe_reader(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of `Stream.__stream__` (sync or async) with the same items, which reports the end."""
    del hook_context

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - a stream of either SDK
        del kwargs
        return args[0]

    def returned(stream: Any, inner: Any) -> Any:  # noqa: ANN401
        response, opened = stream.response, CURRENT_CALL.get()
        observer = observer_of(response)
        if observer is not None or opened is None:
            return observed_reader(inner, response, observer)
        # The open call may get its response later, if a middleware replaces it.
        return opened.early_reader(inner, response)

    return guarded(original, HookSteps(step=_OBSERVE_STREAM, begin=begin, returned=returned))


def observe_close(hook_context: HookContext, original: Function, *, is_async: bool = False) -> Function:
    """Return a replacement of `Response.close` or `aclose` that reports the end of an observed call."""
    del hook_context

    def closed(response: HttpResponse, result: object) -> None:
        del result
        _on_close(response, None)

    return guarded(
        original,
        HookSteps(step=_CLOSED, begin=_observed_response, returned=closed, raised=_on_close),
        is_async=is_async,
    )


def _observed_response(args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpResponse | None:
    del kwargs
    response: HttpResponse = args[0]
    return response if id(response) in OBSERVERS else None


def _on_close(response: HttpResponse, error: BaseException | None) -> None:
    """Report that the response was closed; `error` is the exception the close raised."""
    observer = observer_of(response)
    if observer is None or observer.call.ended:
        return
    if getattr(response, "is_stream_consumed", False) and not observer.pulling:
        reader = observer.call.byte_reader
        if reader is not None:
            reader.read_elsewhere()
    found = _end_by_close(observer, error)
    if found is None:
        return
    event, failure = found
    if failure is None:
        observer.on(event)
    else:
        observer.failed(failure)


def _end_by_close(observer: ResponseObserver, error: BaseException | None) -> tuple[Event, BaseException | None] | None:
    """Return the end that a close of the response means; None if its reader is executing and will report its own end.

    The HTTP library also closes a response at the end of its bytes, when its reader may have items left.
    """
    reader = observer.reader
    if observer.pulling:
        return None
    if reader is None:
        return Event.CLOSED, None
    iterator = reader.get()
    if iterator is None:
        # The garbage collector clears weak references before it closes generators, whose `finally` closes the
        # response: this code may run in a finalizer.
        return Event.READER_GONE, None
    if not reader.is_running():
        return Event.CLOSED, None
    if not reader.closes_response or reader.waits_for_bytes():
        return None
    found = end_in_frames(iterator, error)
    if found == (Event.COMPLETED, None) and not observer.call.stream_complete and has_read_done(frame_of(iterator)):
        observer.call.signalled_end()
    return found


def observe_bytes(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of `Response.iter_bytes` or `aiter_bytes` that copies the raw responses of calls."""
    del hook_context
    return guarded(original, HookSteps(step=_OBSERVE_BYTES, begin=_begin, returned=_replacement))


def _begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ResponseObserver | None:
    """Return the observer of a response when reading starts; None if its bytes need not be observed."""
    del kwargs
    observer = OBSERVERS.get(id(args[0]))
    return None if observer is None or observer.is_read_by_sdk() or observer.call.ended else observer


def _replacement(observer: ResponseObserver, pieces: Any) -> Iterator[bytes] | AsyncIterator[bytes] | None:  # noqa: ANN401 - sync or async
    """Return an observed iterator over `pieces`; None: use the pieces directly, because the SDK's stream reads them."""
    is_async = isinstance(pieces, AsyncIterator)
    if not is_async and not isinstance(pieces, Iterator):
        return None
    if observer.call.byte_reader is None:
        if observer.reader is not None and observer.reader.is_running():
            observer.reader.reads(pieces)
            return None
        # `streaming`: the caller reads the response of an SDK's stream directly.
        if not (observer.path.raw or observer.call.streaming):
            return None
    return _observed_async(pieces, observer) if is_async else _observed(pieces, observer)


def _observed(pieces: Iterator[bytes], observer: ResponseObserver) -> Iterator[bytes]:
    """Yield the pieces, and pass each to what takes them."""
    add, completed = _takers(observer)
    try:
        observer.pulling = True
        for piece in pieces:
            observer.pulling = False
            add(piece)
            yield piece
            observer.pulling = True
    except BaseException as error:
        _broken_off(observer, error)
        raise
    observer.pulling = False
    completed()


async def _observed_async(pieces: AsyncIterator[bytes], observer: ResponseObserver) -> AsyncIterator[bytes]:
    """As `_observed`."""
    add, completed = _takers(observer)
    try:
        observer.pulling = True
        async for piece in pieces:
            observer.pulling = False
            add(piece)
            yield piece
            observer.pulling = True
    except BaseException as error:
        _broken_off(observer, error)
        raise
    observer.pulling = False
    completed()


def _takers(observer: ResponseObserver) -> tuple[Callable[[bytes], None], Callable[[], None]]:
    """Return what takes each piece that is read, and what is called after the last one."""
    if (reader := observer.call.byte_reader) is not None:
        return reader.add, observer.completed
    copy = _Copy(observer)
    return copy.add, copy.completed


def _broken_off(observer: ResponseObserver, error: BaseException) -> None:
    observer.pulling = False
    if isinstance(error, GeneratorExit):
        observer.on(Event.READER_GONE)
    else:
        observer.failed(error)


class _Copy:
    """The data read so far: pieces of one body, or server-sent events, which are passed on as they arrive."""

    __slots__ = ("_events", "_file", "_held", "_observer", "_parsed_by_sdk", "_passed", "_size", "_waiting")

    def __init__(self, observer: ResponseObserver) -> None:
        self._observer = observer
        self._events = EventParser()
        self._file = None if observer.call.streaming else file_body_of(observer.path.endpoint, observer.response())
        self._held: list[bytes] = []
        self._parsed_by_sdk = False
        """The caller lets the SDK parse the data, so that each chunk is already observed."""
        self._passed = 0
        """Number of chunks of the call when the last payload was passed on."""
        self._size = 0
        self._waiting: list[bytes] = []
        observer.pass_rest = self.pass_rest

    def add(self, piece: bytes) -> None:
        """Add a piece, unless the SDK's stream reads the response, where the chunks are observed."""
        if self._observer.is_read_by_sdk() or self._parsed_by_sdk or self._size > _CAP_BYTES:
            return
        with _COPY:
            if self._file is not None:
                self._file.add(piece)
                return
            self._size += len(piece)
            if not self._observer.call.streaming:
                self._held.append(piece)
            elif payloads := self._events.feed(piece):
                self._size = 0
                self._take(payloads)

    def completed(self) -> None:
        """Report that the last piece was read."""
        observer = self._observer
        observer.pass_rest = None
        if observer.is_read_by_sdk():
            return
        error: ErrorInfo | None = None
        with _COPY:
            if self._file is not None:
                observer.data(self._file.body())
            elif observer.call.streaming:
                self._take(self._events.end())
                self._take([])
            elif self._size <= _CAP_BYTES:
                body = b"".join(self._held)
                self._parse([body])
                error = None if observer.call.has_body else parsing_error(body)
        if self._size > _CAP_BYTES:
            observer.call.mark_partially_observed()
        if not self._parsed_by_sdk or observer.call.stream_complete:
            observer.completed(error)

    def pass_rest(self) -> None:
        """Pass on what was read of a response that is read no further."""
        with _COPY:
            if self._waiting:
                self._take([])
            if self._file is not None:
                self._observer.data(self._file.body(complete=False))

    def _take(self, payloads: list[bytes]) -> None:
        call = self._observer.call
        if not self._observer.path.raw:
            # The caller may let the SDK parse what it reads from a stream's response: each payload waits for the next.
            self._parsed_by_sdk = self._parsed_by_sdk or call.chunks > self._passed
            payloads, self._waiting = ([] if self._parsed_by_sdk else self._waiting), payloads
        self._parse(payloads)
        self._passed = call.chunks

    def _parse(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            if payload.startswith(_DONE):
                self._observer.call.signalled_end()
            elif payload.strip():
                with _COPY:
                    # Invalid JSON is an error of the provider, which the reader sees, not one of callspan.
                    data = value_of(partial(json.loads, payload))
                    if data is not None:
                        self._observer.data(data)
