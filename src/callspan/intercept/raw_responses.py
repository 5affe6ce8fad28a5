"""Raw responses: calls whose caller reads the bytes himself, or never parses them.

`with_raw_response` hands over a body that is already read; `with_streaming_response` one that is not,
to be read in any of seven ways, which all go through `iter_bytes`; so does a caller who reads the response of a
stream himself. A copy of what passes there is read as the SDK would have, up to a cap.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, Final

from callspan.fail_open import fail_open, ours, value_of
from callspan.intercept.event_lines import EventLines
from callspan.intercept.guarded import Function, HookSteps, guarded
from callspan.intercept.hook_context import HookContext
from callspan.intercept.response_observer import ResponseObserver, observer_of
from callspan.record.call import ErrorInfo

_CAP_BYTES: Final = 8 << 20
_COPY: Final = fail_open("read a copy of a raw response")
_FOLLOW: Final = fail_open("follow the bytes of a stream")
_DONE: Final = b"[DONE]"
_EVENT_STARTS: Final = (b"data:", b"event:", b":")
_RAW_HEADER: Final = "x-stainless-raw-response"


def wants_raw(options: Any) -> bool:  # noqa: ANN401 - FinalRequestOptions of either SDK
    """True where the caller asked for the raw response."""
    headers = getattr(options, "headers", None)
    return isinstance(headers, dict) and any(str(name).lower() == _RAW_HEADER for name in headers)


def body_of(result: object, response: Any) -> object:  # noqa: ANN401 - httpx, httpx2 or anything else
    """Return the JSON of a finished call nobody has parsed: of the read response, else of the result itself."""
    if isinstance(result, str):
        return value_of(partial(json.loads, _as_sent(result)))
    if hasattr(response, "json") and getattr(response, "is_closed", False):
        return value_of(response.json)
    for name in ("to_dict", "model_dump"):
        method = getattr(result, name, None)
        if callable(method):
            dumped = value_of(method)
            return dumped if isinstance(dumped, dict) else None
    return None


def flaw_of(result: object, response: Any) -> ErrorInfo | None:  # noqa: ANN401 - httpx, httpx2 or anything else
    """Return what is wrong with a body that was read and is not JSON; None: nothing, or it was not read.

    The SDKs return such a body as text where its content type does not say that it is JSON; the caller of a raw
    response learns it later.
    """
    if isinstance(result, str):
        return _parsing_error(_as_sent(result))
    response = result if response is None else response
    content = value_of(lambda: response.content) if getattr(response, "is_closed", False) else None
    return _parsing_error(content) if isinstance(content, bytes) else None


def _as_sent(text: str) -> bytes:
    """The bytes of a text; the standard library reads a byte order mark only there."""
    return text.encode("utf-8", "surrogatepass")


def _parsing_error(content: bytes) -> ErrorInfo | None:
    """Return the error of a body that is not JSON, however it was read; None for JSON, no body, and a stream's events.

    Events come as text where a stream was requested by `extra_body` of a call the SDK takes for a plain one.
    """
    if not content or content.startswith(_EVENT_STARTS):
        return None
    try:
        json.loads(content)
    except ours(ValueError) as error:
        return ErrorInfo(kind="parsing", type=type(error).__name__)
    except ours(RecursionError):
        return None
    return None


def observe_bytes(hook_context: HookContext, original: Function) -> Function:
    """Return `Response.iter_bytes` or `aiter_bytes` with raw responses of calls copied."""
    del hook_context
    return guarded(original, HookSteps(step=_FOLLOW, begin=_followed, returned=_shown))


def _followed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ResponseObserver | None:
    """Return the observer of a response that somebody begins to read, unless it needs no reading of ours."""
    del kwargs
    observer = observer_of(args[0])
    return None if observer is None or observer.iterated or observer.call.ended else observer


def _shown(observer: ResponseObserver, pieces: Any) -> Iterator[bytes] | AsyncIterator[bytes] | None:  # noqa: ANN401 - of either colour
    """Return what is read in place of `pieces`; None: they themselves, for the SDK's stream reads them."""
    if not (is_async := hasattr(pieces, "__anext__")) and not hasattr(pieces, "__next__"):
        return None
    if observer.is_being_read():
        observer.iterated, observer.source = True, weakref.ref(pieces)
        return None
    # `streaming`: somebody reads the response of an SDK's stream himself.
    if not (observer.raw or observer.call.streaming):
        return None
    return _copied_async(pieces, observer) if is_async else _copied(pieces, observer)


def _copied(pieces: Iterator[bytes], observer: ResponseObserver) -> Iterator[bytes]:
    copy = _Copy(observer)
    try:
        for piece in copy.pulled(pieces):
            copy.add(piece)
            yield piece
    except GeneratorExit:
        copy.broken_off()
        observer.let_go()
        raise
    except BaseException as error:
        copy.broken_off()
        observer.failed(error)
        raise
    copy.finished()


async def _copied_async(pieces: AsyncIterator[bytes], observer: ResponseObserver) -> AsyncIterator[bytes]:
    copy = _Copy(observer)
    try:
        while True:
            observer.pulling = True
            try:
                piece = await pieces.__anext__()
            except StopAsyncIteration:
                break
            finally:
                observer.pulling = False
            copy.add(piece)
            yield piece
    except GeneratorExit:
        copy.broken_off()
        observer.let_go()
        raise
    except BaseException as error:
        copy.broken_off()
        observer.failed(error)
        raise
    copy.finished()


class _Copy:
    """What has passed: a whole body, or server-sent events fed on as they come."""

    __slots__ = ("_events", "_fed", "_held", "_observer", "_of_others", "_size", "_waiting")

    def __init__(self, observer: ResponseObserver) -> None:
        self._observer = observer
        self._events = EventLines()
        self._fed = 0
        self._held: list[bytes] = []
        self._of_others = False
        self._size = 0
        self._waiting: list[bytes] = []

    def pulled(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the pieces, marking the time inside the response's own reading."""
        while True:
            self._observer.pulling = True
            try:
                piece = next(pieces, None)
            finally:
                self._observer.pulling = False
            if piece is None:
                return
            yield piece

    def add(self, piece: bytes) -> None:
        """Take a piece, unless the SDK's stream reads the response and shows its chunks itself."""
        if self._observer.iterated or self._of_others or self._size > _CAP_BYTES:
            return
        with _COPY:
            self._size += len(piece)
            if not self._observer.call.streaming:
                self._held.append(piece)
            elif payloads := self._events.feed(piece):
                self._size = 0
                self._take(payloads)

    def finished(self) -> None:
        """The last piece has passed."""
        if self._observer.iterated:
            return
        flaw: ErrorInfo | None = None
        with _COPY:
            if self._observer.call.streaming:
                self._take(self._events.end())
                self._take([])
            elif self._size <= _CAP_BYTES:
                body = b"".join(self._held)
                self._feed([body])
                flaw = None if self._observer.call.has_body else _parsing_error(body)
        if not self._of_others or self._observer.call.stream_complete:
            self._observer.finished(flaw)

    def broken_off(self) -> None:
        """Nothing more will pass."""
        if self._waiting:
            with _COPY:
                self._take([])

    def _take(self, payloads: list[bytes]) -> None:
        call = self._observer.call
        if not self._observer.raw:
            # Who reads the response of a stream may have the SDK parse what he reads, which shows it already: so
            # each payload waits for the next.
            self._of_others = self._of_others or call.chunks > self._fed
            payloads, self._waiting = ([] if self._of_others else self._waiting), payloads
        self._feed(payloads)
        self._fed = call.chunks

    def _feed(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            if payload.strip() and not payload.startswith(_DONE):
                with _COPY:
                    # What is no JSON is the provider's affair and the reader's, and nothing that went wrong here.
                    data = value_of(partial(json.loads, payload))
                    if data is not None:
                        self._observer.data(data)
