"""Raw responses: copies the bytes of a response that the caller reads, and parses them as the SDK would.

`with_raw_response` returns a body that was already read. `with_streaming_response` returns an unread one with seven
ways to read it, which all use `iter_bytes`, as do callers that read the response of a stream directly. The copy is
parsed up to a size limit; server-sent events are parsed as defined in the HTML standard.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Final

from callspan.intercept.body_parsers import (
    EventParser,
    UntypedParser,
    chunk_in,
    ends_stream,
    file_body_of,
    is_json,
    is_media,
    stated_length,
)
from callspan.intercept.foreign_objects import Proxy, named_like
from callspan.intercept.hooks import HookSteps
from callspan.intercept.iteration import Take, Watch, watched
from callspan.intercept.responses import OBSERVERS, READING, Reading, ResponseObserver, parsing_error
from callspan.record.call import ErrorInfo
from callspan.runtime.fail_open import fail_open, value_of

_CAP_BYTES: Final = 8 << 20
_COPY: Final = fail_open("read a copy of a raw response")
_OBSERVE: Final = fail_open("observe the bytes of a response")
_JSON_STARTS: Final = (b"{", b"[")
_TAIL_BYTES: Final = 8192
_HEAD_BYTES: Final = 64


def _begin(_args: object, response: object, _kwargs: object) -> ResponseObserver | None:
    """Return the observer of a response when reading starts; None if its bytes need not be observed."""
    observer = OBSERVERS.get(id(response))
    return None if observer is None or observer.is_read_by_sdk or observer.call.ended else observer


def _replacement(observer: ResponseObserver, pieces: Any) -> Iterator[bytes] | AsyncIterator[bytes] | None:
    """Return an observed iterator over `pieces`. Of those that the SDK's stream reads, only the last bytes are kept.

    If a gateway sends JSON instead, an error or the whole answer, the SDK's stream finds no event in it.
    """
    is_async = isinstance(pieces, AsyncIterator)
    if not is_async and not isinstance(pieces, Iterator):
        return None
    if (reading := observer.reading) is not None:
        pieces = _SendingReader(pieces, reading) if is_async else _sending(pieces, reading)
    observer.is_read_by_sdk = observer.call.byte_reader is None and observer.is_reading()
    if observer.is_read_by_sdk and not is_json(observer.response()):
        return _TailReader(pieces, observer) if is_async else named_like(_with_tail(pieces, observer), pieces)
    reader: Iterator[bytes] | AsyncIterator[bytes] = watched(pieces, _Bytes(observer))
    if not observer.is_read_by_sdk:
        observer.reader = weakref.ref(reader)
    return reader


BYTES: Final = HookSteps(step=_OBSERVE, before=_begin, on_return=_replacement)
"""Copies the raw responses of calls around `Response.iter_bytes`."""


class _Bytes(Watch):
    """The bytes of a response. Of those that the SDK's stream reads, the stream reports the end."""

    step = _COPY
    __slots__ = ("_completed", "_observer")

    def __init__(self, observer: ResponseObserver) -> None:
        self._observer = observer
        self._completed: Callable[[], None] = observer.completed

    def begun(self) -> Take:
        if (reader := self._observer.call.byte_reader) is not None:
            return reader.add
        copy = Copy(self._observer)
        self._completed = copy.completed
        return copy.add

    def completed(self) -> None:
        self._completed()

    def failed(self, error: BaseException) -> None:
        if not self._observer.is_read_by_sdk:
            self._observer.failed(error)

    def lost(self) -> None:
        if not self._observer.is_read_by_sdk:
            self._observer.lost()


def _with_tail(pieces: Iterator[bytes], observer: ResponseObserver) -> Iterator[bytes]:
    """Yield the pieces and keep their last bytes: a server may state an error there that the SDK ignores."""
    tail = observer.tail
    for piece in pieces:
        tail += piece
        if len(tail) > _TAIL_BYTES:
            _cut(observer)
        yield piece


def _sending(pieces: Iterator[bytes], reading: Reading) -> Iterator[bytes]:
    """Yield the pieces of a middleware's response, which may send requests to get them."""
    while True:
        try:
            READING.set(reading)
            piece = next(pieces, None)
        finally:
            READING.set(None)
        if piece is None:
            return
        yield piece


class _AsyncPieces(Proxy):
    """Passes on the pieces of another iterator; no generator: its finalization would race with the inner one's."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self


class _SendingReader(_AsyncPieces):
    """As `_sending`."""

    __slots__ = ("_reading",)

    def __init__(self, inner: AsyncIterator[bytes], reading: Reading) -> None:
        super().__init__(inner)
        self._reading = reading

    async def __anext__(self) -> bytes:
        try:
            READING.set(self._reading)
            piece: bytes = await self._inner.__anext__()
        finally:
            READING.set(None)
        return piece


def _cut(observer: ResponseObserver) -> None:
    del observer.tail[: -_TAIL_BYTES // 2]
    observer.tail_is_whole = False


class _TailReader(_AsyncPieces):
    """As `_with_tail`."""

    __slots__ = ("_observer",)

    def __init__(self, inner: AsyncIterator[bytes], observer: ResponseObserver) -> None:
        super().__init__(inner)
        self._observer = observer

    async def __anext__(self) -> bytes:
        piece: bytes = await self._inner.__anext__()
        tail = self._observer.tail
        tail += piece
        if len(tail) > _TAIL_BYTES:
            _cut(self._observer)
        return piece


class Copy:
    """What was read of an answer so far: pieces of one body, or events, which are passed on as they arrive."""

    __slots__ = (
        "_chunks_before", "_events", "_file", "_is_over", "_is_whole", "_left", "_observer", "_parsed_by_sdk",
        "_pieces", "_size", "_start",
    )  # fmt: skip

    def __init__(self, observer: ResponseObserver) -> None:
        self._observer = observer
        self._events = observer.parser()
        self._file = None if observer.call.streaming else file_body_of(observer.call.endpoint, observer.response())
        self._pieces: list[bytes] = []
        self._is_whole = self._whole_from_the_start()
        """Whether it is one body; None before a stream's first bytes, because some gateways send JSON instead."""
        self._parsed_by_sdk = False
        """Whether the caller lets the SDK parse the data, where each chunk is observed."""
        self._chunks_before = 0
        """Number of chunks of the call when the last payload was passed on."""
        self._is_over = False
        """Whether the last event was read."""
        self._size = 0
        self._start = b""
        """The first bytes of a stream."""
        self._left = None if observer.is_read_by_sdk else stated_length(observer.response())
        """Number of bytes that have not been read yet; None if unknown. A reader may stop after the last one."""
        observer.flush_copied_bytes = self._flush_copied_bytes

    def _whole_from_the_start(self) -> bool | None:
        if not self._observer.call.streaming:
            return True
        return None if isinstance(self._events, EventParser | UntypedParser) else False

    def add(self, piece: bytes) -> None:
        """Add a piece, unless the SDK parses it to chunks, which are observed."""
        if not (self._parsed_by_sdk or self._size > _CAP_BYTES):
            try:
                self._add(piece)
            except Exception as error:
                _COPY.report(error)
        if self._left is not None:
            self._left -= len(piece)
        if self._left == 0 or self._is_over:
            self.completed()

    def _add(self, piece: bytes) -> None:
        if self._file is not None:
            self._file.add(piece)
            return
        self._size += len(piece)
        if self._is_whole is None and (start := piece.lstrip()):
            self._is_whole = start.startswith(_JSON_STARTS)
            self._parsed_by_sdk = self._observer.is_read_by_sdk and not self._is_whole
        if self._is_whole:
            self._pieces.append(piece)
            return
        if len(self._start) < _HEAD_BYTES:
            self._start = (self._start + piece).lstrip()[:_HEAD_BYTES]
        if payloads := self._events.feed(piece):
            self._size = 0
            self._take(payloads)
            if self._observer.ends_with_last_event and not self._parsed_by_sdk:
                self._is_over = ends_stream(payloads[-1]) or self._observer.call.is_over

    def completed(self) -> None:
        """Report that the last piece was read."""
        observer = self._observer
        if observer.call.ended:
            return  # by its last byte
        observer.flush_copied_bytes = None
        error: ErrorInfo | None = None
        with _COPY:
            if self._file is not None:
                observer.on_data(self._file.body())
            elif not self._is_whole:
                self._take(self._events.end())
            elif self._size <= _CAP_BYTES:
                error = self._take_body(b"".join(self._pieces))
        if self._size > _CAP_BYTES:
            observer.call.mark_partly_unobserved()
        elif self._file is None and not (observer.call.has_body or observer.call.chunks):
            error = observer.unparsed(self._start or b"".join(self._pieces)) or error
        if observer.is_read_by_sdk:
            return  # the stream reports its end
        if not self._parsed_by_sdk or observer.call.answer_complete:
            observer.completed(error)

    def _flush_copied_bytes(self) -> None:
        """Pass on what was read of a body that is read no further: the lines of a file, or JSON if it is whole.

        A reader may stop after the last byte, whether or not it knows that nothing follows.
        """
        observer = self._observer
        with _COPY:
            if self._file is not None:
                observer.on_data(self._file.body(complete=False))
            elif self._is_whole and self._size <= _CAP_BYTES and not observer.is_read_by_sdk:
                body = value_of(partial(json.loads, b"".join(self._pieces)))
                if body is not None:
                    observer.take_body(body)
                    observer.call.mark_complete()

    def _take_body(self, content: bytes) -> ErrorInfo | None:
        """Pass the body to the call; return its error if it is not JSON."""
        # Invalid JSON is the provider's error, which the reader sees, not callspan's.
        body = value_of(partial(json.loads, content))
        if body is not None:
            self._observer.take_body(body)
        elif isinstance(self._events, UntypedParser):
            self._take([*self._events.feed(content), *self._events.end()])
        call = self._observer.call
        is_answer = call.has_body or call.streaming or is_media(self._observer.response())
        return None if is_answer else parsing_error(content)

    def _take(self, payloads: list[bytes]) -> None:
        call = self._observer.call
        # The caller may let the SDK parse the bytes that it reads from a stream's response.
        self._parsed_by_sdk = self._parsed_by_sdk or (call.chunks > self._chunks_before and not call.is_raw)
        if not self._parsed_by_sdk:
            take = self._observer.on_data
            for payload in payloads:
                if (chunk := chunk_in(payload)) is not None:
                    try:
                        take(chunk)
                    except Exception as error:
                        _COPY.report(error)
        self._chunks_before = call.chunks
