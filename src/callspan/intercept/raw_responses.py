"""Raw responses: observes calls whose caller reads the bytes or never parses them.

`with_raw_response` returns a body that is already read; `with_streaming_response` an unread one with seven ways to read
it, which all use `iter_bytes`, as does a caller who reads the response of a stream directly. A copy of the bytes is
parsed as the SDK would do, up to a size limit; server-sent events are parsed as defined in the HTML standard.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, Final

from callspan.fail_open import fail_open, value_of
from callspan.intercept import batch_results
from callspan.intercept.batch_results import lines_of
from callspan.intercept.body_parsers import EventParser, file_body_of
from callspan.intercept.hooks import Function, HookContext, HookSteps, guarded
from callspan.intercept.response_observer import OBSERVERS, ResponseObserver, parsing_error
from callspan.intercept.response_state import Event
from callspan.record.call import ErrorInfo

_CAP_BYTES: Final = 8 << 20
_COPY: Final = fail_open("read a copy of a raw response")
_OBSERVE: Final = fail_open("observe the bytes of a response")
_DONE: Final = b"[DONE]"


def observe_bytes(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of `Response.iter_bytes` or `aiter_bytes` that copies the raw responses of calls."""
    del hook_context
    return guarded(original, HookSteps(step=_OBSERVE, begin=_begin, returned=_replacement))


def _begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ResponseObserver | None:
    """Return the observer of a response when reading starts; None if its bytes need not be observed."""
    del kwargs
    observer = OBSERVERS.get(id(args[0]))
    return None if observer is None or observer.is_read_by_sdk() or observer.call.ended else observer


def _replacement(observer: ResponseObserver, pieces: Any) -> Iterator[bytes] | AsyncIterator[bytes] | None:  # noqa: ANN401 - sync or async
    """Return a copying iterator over `pieces`; None: use the pieces directly, because the SDK's stream reads them."""
    if not (is_async := hasattr(pieces, "__anext__")) and not hasattr(pieces, "__next__"):
        return None
    if (lines := lines_of(observer.call)) is not None:
        return (
            batch_results.passed_async(pieces, lines, observer)
            if is_async
            else batch_results.passed(pieces, lines, observer)
        )
    if observer.reader is not None and observer.reader.is_running():
        observer.reader.reads(pieces)
        return None
    # `streaming`: the caller reads the response of an SDK's stream directly.
    if not (observer.path.raw or observer.call.streaming):
        return None
    return _copied_async(pieces, observer) if is_async else _copied(pieces, observer)


def _copied(pieces: Iterator[bytes], observer: ResponseObserver) -> Iterator[bytes]:
    copy = _Copy(observer)
    try:
        while True:
            observer.pulling = True
            try:
                piece = next(pieces, None)
            finally:
                observer.pulling = False
            if piece is None:
                break
            copy.add(piece)
            yield piece
    except BaseException as error:
        copy.broken_off(error)
        raise
    copy.completed()


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
    except BaseException as error:
        copy.broken_off(error)
        raise
    copy.completed()


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
            observer.call.left_unseen()
        if not self._parsed_by_sdk or observer.call.stream_complete:
            observer.completed(error)

    def broken_off(self, error: BaseException) -> None:
        """Report that reading stopped, and why."""
        if self._waiting:
            with _COPY:
                self._take([])
        if self._file is not None:
            with _COPY:
                self._observer.data(self._file.body(complete=False))
        if isinstance(error, GeneratorExit):
            self._observer.on(Event.READER_GONE)
        else:
            self._observer.failed(error)

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
