"""Answers of Bedrock that the application reads: streams of events, and the bodies of models that were invoked.

botocore parses each event in `_parse_event` and reads them from `_event_generator`, both looked up on the stream, where
they are replaced: its type and its laziness stay, and `break` leaves it readable. A body is copied while it is read, as
is the stream inside, which a `with` block reads, and of which other instrumentations make a body of their own. Their
collection is the end of a call that is read no further.
"""

from __future__ import annotations

import base64
import inspect
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from callspan import private_names as names
from callspan.fail_open import fail_open
from callspan.intercept.hooked_sdks.bedrock_errors import fail
from callspan.intercept.hooks import HookSteps
from callspan.intercept.invoked_chunks import take_invoked
from callspan.intercept.responses import parsing_error
from callspan.observe.call import Call
from callspan.providers import registry
from callspan.providers.wire_json import dig

_STREAM: Final = fail_open("observe a stream of Bedrock")
_BODY: Final = fail_open("copy the body of a model that was invoked")
_MAX_BYTES: Final = 8 << 20
_REPLACED: Final = (names.PARSE_EVENT.name, "close")


def wire_json(value: Any) -> Any:
    """Return what botocore parsed as on the wire, where bytes are base64; as a copy."""
    if isinstance(value, dict):
        return {key: wire_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [wire_json(item) for item in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes | bytearray) else value


def observe_events(stream: Any, call: Call) -> None:
    """Let a stream report each event, and its end."""
    parse = getattr(stream, names.PARSE_EVENT.name)
    observer = _StreamObserver(stream, parse, call)
    is_async = inspect.iscoroutinefunction(parse)
    events = _Events(getattr(stream, names.EVENT_GENERATOR.name), observer)
    setattr(stream, names.PARSE_EVENT.name, observer.parsed_async if is_async else observer.parsed)
    setattr(stream, names.EVENT_GENERATOR.name, events)
    stream.close = observer.closed


class _StreamObserver:
    """Reports what is read from one stream. A stream and its generator refer to each other, and so does this."""

    __slots__ = ("_close", "_parse", "_stream", "call")

    def __init__(self, stream: Any, parse: Callable[[Any], Any], call: Call) -> None:
        self.call = call
        self._stream, self._parse, self._close = stream, parse, stream.close

    def parsed(self, raw_event: Any) -> Any:
        """Parse an event for its reader."""
        try:
            event = self._parse(raw_event)
        except BaseException as error:
            with _STREAM:
                self.failed(error)
            raise
        try:  # no block, which costs more, and this runs for each event
            self._take(event)
        except Exception as error:
            _STREAM.report(error)
        return event

    async def parsed_async(self, raw_event: Any) -> Any:
        """As `parsed`."""
        try:
            event = await self._parse(raw_event)
        except BaseException as error:
            with _STREAM:
                self.failed(error)
            raise
        try:  # no block, which costs more, and this runs for each event
            self._take(event)
        except Exception as error:
            _STREAM.report(error)
        return event

    def closed(self) -> Any:
        """Close the stream for its reader."""
        try:
            return self._close()
        finally:
            with _STREAM:
                self.call.leave()
                self._detach()

    def completed(self) -> None:
        """Report the end of the stream."""
        self.call.end()
        self._detach()

    def failed(self, error: BaseException) -> None:
        """Report the exception of the reader, which may be an event."""
        fail(self.call, error, in_stream=True)
        self._detach()

    def _take(self, event: object) -> None:
        content = dig(event, "chunk", "bytes")
        if content is None:
            self.call.chunk(wire_json(event))
        elif isinstance(content, bytes):
            take_invoked(self.call, registry.decoded(content), self.call.chunk)
        if self.call.is_over:
            self.completed()

    def _detach(self) -> None:
        """Release the stream, which has ended."""
        for name in _REPLACED:
            vars(self._stream).pop(name, None)


class _Events:
    """Passes on the events of a stream, sync or async. Its collection is that of the stream, also of one never read."""

    __slots__ = ("_inner", "_observer")

    def __init__(self, inner: Any, observer: _StreamObserver) -> None:
        self._inner, self._observer = inner, observer

    def __iter__(self) -> _Events:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._inner)
        except StopIteration:
            with _STREAM:
                self._observer.completed()
            raise
        except BaseException as error:
            with _STREAM:
                self._observer.failed(error)
            raise

    def __aiter__(self) -> _Events:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._inner.__anext__()
        except StopAsyncIteration:
            with _STREAM:
                self._observer.completed()
            raise
        except BaseException as error:
            with _STREAM:
                self._observer.failed(error)
            raise

    def __getattr__(self, name: str) -> Any:
        if name in self.__slots__:  # not set: the constructor was interrupted
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __del__(self) -> None:
        with suppress(AttributeError), _STREAM:
            self._observer.call.lost()


BODIES: Final[dict[int, BodyReader]] = {}
"""The readers of bodies by their `id()`; changed only by `BodyReader`."""


class BodyReader:
    """Copies the body of an answer while the application reads it; ends its call with the last byte."""

    __slots__ = ("_call", "_identity", "_inner", "_length", "_pieces", "_raw", "_reference", "_size", "is_own")

    def __init__(self, call: Call, body: object, length: int | None) -> None:
        """`length` is that of the body in bytes; None if it is unknown."""
        self._call, self._length, self._identity = call, length, id(body)
        self._pieces: list[bytes] = []
        self._size = 0
        self._raw: Any = None
        """The stream inside the body, while a block reads that."""
        self._inner = _weakly(getattr(body, names.BODY_STREAM.name, None), self._inner_collected)
        """The stream inside the body."""
        self.is_own = False
        """Whether the body itself reads of that stream just now."""
        self._observe_inner()
        self._reference = weakref.ref(body, self._collected)
        BODIES[self._identity] = self

    @property
    def is_watching(self) -> bool:
        """Whether the stream inside the body is observed, so that the body need not be."""
        return self._raw is not None

    def add(self, piece: bytes, *, is_last: bool) -> None:
        """Add what was read; `is_last`: whether nothing follows."""
        self._size += len(piece)
        if self._size <= _MAX_BYTES:
            self._pieces.append(piece)
        if is_last or self._size == self._length:
            self._completed()

    def _completed(self) -> None:
        content, call = b"".join(self._pieces), self._call
        body = None if self._size > _MAX_BYTES else registry.decoded(content)
        if body is None:
            call.mark_partly_unobserved()
        else:
            call.take_body(body)
        error = parsing_error(content) if body is None and self._size <= _MAX_BYTES else None
        call.end(how=None, error=error)
        self._forget()

    def failed(self, error: BaseException) -> None:
        """Report an exception of the reader."""
        fail(self._call, error, in_stream=False)
        self._forget()

    def closed(self) -> None:
        """Report that the body was closed."""
        is_whole = bool(self._pieces) and registry.decoded(b"".join(self._pieces)) is not None
        if is_whole:
            self._completed()
        else:
            self._call.leave()
        self._forget()

    def watch(self, raw: Any) -> None:
        """Observe what a `with` block of the body reads, if it is not the stream that is observed anyway."""
        if raw is self._inner():
            return
        read = raw.read

        def observed(*args: Any, **kwargs: Any) -> Any:
            return self._copied(read, args, kwargs)

        try:
            raw.read = observed
        except AttributeError:  # a stream in memory, as of a stub
            self._call.mark_partly_unobserved()
        else:
            self._raw = raw

    def _copied(self, read: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Read of the stream inside the body, and copy what was read."""
        try:
            piece = read(*args, **kwargs)
        except BaseException as error:
            _report_failure(self, error)
            raise
        _report_piece(_Read(self, _amount(args, kwargs)), piece)
        return piece

    def _forget(self) -> None:
        if BODIES.get(self._identity) is self:
            del BODIES[self._identity]
        raw, self._raw = self._raw or self._inner(), None
        if raw is not None:
            vars(raw).pop("read", None)
        self._pieces.clear()

    def _collected(self, reference: object, bodies: dict[int, BodyReader] = BODIES) -> None:
        # The argument keeps a reference to the readers for interpreter shutdown, when module globals are cleared.
        del reference
        if bodies.get(self._identity) is self:
            del bodies[self._identity]
            if self._inner() is not None:
                return
        self._call.lost()

    def _observe_inner(self) -> None:
        """Copy what others read of the stream inside the body, which may outlive it."""
        if (inner := self._inner()) is None:
            return
        reference, read = self._inner, type(inner).read
        if inspect.iscoroutinefunction(read):  # an async body reads around it
            self._inner = _nothing
            return

        def observed(*args: Any, **kwargs: Any) -> Any:
            bound = partial(read, reference())
            return bound(*args, **kwargs) if self.is_own else self._copied(bound, args, kwargs)

        try:
            inner.read = observed
        except AttributeError:  # a stream in memory, as of a stub
            self._inner = _nothing

    def _inner_collected(self, reference: object, bodies: dict[int, BodyReader] = BODIES) -> None:
        del reference
        if bodies.get(self._identity) is not self:  # else that of the body, which comes with it, is the end
            self._call.lost()


def _weakly(inner: Any, on_collection: Callable[[Any], None]) -> Callable[[], Any]:
    return _nothing if inner is None else weakref.ref(inner, on_collection)


def _nothing() -> None:
    """Stand for a reference to no stream."""


class _Read:
    """One read of a body."""

    __slots__ = ("amount", "reader")

    def __init__(self, reader: BodyReader, amount: Any) -> None:
        self.reader, self.amount = reader, amount
        """The number of bytes that are read at most, None or negative for all; or the buffer that takes them."""


def _amount(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("amt")


def _reader(args: tuple[Any, ...]) -> BodyReader | None:
    reader = BODIES.get(id(args[0]))
    return None if reader is None or reader.is_watching else reader


def _reading(args: tuple[Any, ...], _: object, kwargs: dict[str, Any]) -> _Read | None:
    reader = _reader(args)
    if reader is None:
        return None
    reader.is_own = True
    return _Read(reader, _amount(args[1:], kwargs))


def _reading_into(args: tuple[Any, ...], buffer: Any, _: object) -> _Read | None:
    reader = _reader(args)
    if reader is None:
        return None
    reader.is_own = True
    return _Read(reader, buffer)


def _watched(args: tuple[Any, ...], _: object, __: object) -> BodyReader | None:
    return BODIES.get(id(args[0]))


def _report_piece(reading: _Read, piece: bytes) -> None:
    reading.reader.is_own = False
    amount = reading.amount
    is_all = amount is None or (isinstance(amount, int) and amount < 0)
    with _BODY:
        reading.reader.add(piece, is_last=is_all or (not piece and amount != 0))


def _report_buffer(reading: _Read, size: int) -> None:
    reading.reader.is_own = False
    with _BODY:
        reading.reader.add(bytes(reading.amount[:size]), is_last=not size and len(reading.amount) > 0)


def _report_lines(reading: _Read, lines: list[bytes]) -> None:
    reading.reader.is_own = False
    with _BODY:
        reading.reader.add(b"".join(lines), is_last=True)


def _report_failure(reader: BodyReader, error: BaseException) -> None:
    reader.is_own = False
    with _BODY:
        reader.failed(error)


def _read_failed(reading: _Read, error: BaseException) -> None:
    _report_failure(reading.reader, error)


def _closed(reader: BodyReader, _: object) -> None:
    reader.closed()


READ: Final = HookSteps(step=_BODY, before=_reading, on_return=_report_piece, on_error=_read_failed)
"""Copies what `read` of a body returns."""
READ_INTO: Final = HookSteps(step=_BODY, before=_reading_into, on_return=_report_buffer, on_error=_read_failed)
"""Copies what `readinto` of a body reads."""
READ_LINES: Final = HookSteps(step=_BODY, before=_reading, on_return=_report_lines, on_error=_read_failed)
"""Copies what `readlines` of a body returns."""
ENTER: Final = HookSteps(step=_BODY, before=_watched, on_return=BodyReader.watch)
"""Observes the stream that a `with` block of a body reads."""
CLOSE: Final = HookSteps(step=_BODY, before=_watched, on_return=_closed, on_error=_closed)
"""Reports that a body was closed."""
