"""Answers of Bedrock that the application reads: streams of events, and the bodies of models that were invoked.

botocore reads the events of a stream from `_event_generator`, which is replaced: the type and laziness of the stream
stay, and `break` leaves it readable. A body is copied while it is read, as is the stream of urllib3 inside: a `with`
block reads it, and other instrumentations make a body of their own from it. If the application stops reading, the call
ends when they are garbage-collected.
"""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any, Final

import msgspec

from callspan import private_names as names
from callspan.intercept.foreign_objects import StateByObject
from callspan.intercept.hooked_sdks.bedrock_errors import fail
from callspan.intercept.hooks import HookSteps
from callspan.intercept.http_libraries.urllib3_bodies import RAW_BODIES, is_observed
from callspan.intercept.invoked_chunks import take_invoked
from callspan.intercept.iteration import Watch, watched
from callspan.intercept.responses import parsing_error
from callspan.observe.call import Call
from callspan.providers import registry
from callspan.providers.wire_json import dig
from callspan.runtime.fail_open import fail_open

_STREAM: Final = fail_open("observe a stream of Bedrock")
_BODY: Final = fail_open("copy the body of a model that was invoked")
_MAX_BYTES: Final = 8 << 20


def wire_json(value: Any) -> Any:
    """Return what botocore parsed as on the wire, where bytes are base64; as a copy."""
    try:
        return msgspec.to_builtins(value)
    except (TypeError, ValueError):
        return _copied(value)


def _copied(value: Any) -> Any:
    """Return the same of what an application made with types of its own, which stay."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes | bytearray) else value


STREAMS: Final[StateByObject[Call]] = StateByObject()
"""The calls of streams."""


def observe_events(stream: Any, call: Call) -> None:
    """Let a stream report each event, and its end."""
    setattr(stream, names.EVENT_GENERATOR.name, watched(getattr(stream, names.EVENT_GENERATOR.name), _Events(call)))
    STREAMS.put(stream, call, call.lost)


def _stream_call(args: tuple[Any, ...], _: object, __: object) -> Call | None:
    call = STREAMS.get(args[0])
    return None if call is None or call.ended else call


def _take(call: Call, event: object) -> None:
    """Record an event that was parsed for its reader."""
    content = dig(event, "chunk", "bytes")
    if content is None:
        call.chunk(wire_json(event))
    elif isinstance(content, bytes):
        take_invoked(call, registry.decoded(content), call.chunk)
    if call.is_over:
        call.end()


def _failed(call: Call, error: BaseException) -> None:
    """Report the exception of the reader, which may be an event."""
    fail(call, error, in_stream=True)


def _left(call: Call, _: object) -> None:
    call.leave()


PARSE: Final = HookSteps(step=_STREAM, before=_stream_call, on_return=_take, on_error=_failed)
"""Reports each event, around `EventStream._parse_event`."""
CLOSE_STREAM: Final = HookSteps(step=_STREAM, before=_stream_call, on_return=_left, on_error=_left)
"""Reports that a stream was closed."""


class _Events(Watch):
    """The events of a stream. Each is reported once it was parsed."""

    step = _STREAM
    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def completed(self) -> None:
        self._call.end()

    def failed(self, error: BaseException) -> None:
        _failed(self._call, error)

    def lost(self) -> None:
        self._call.lost()


BODIES: Final[StateByObject[BodyReader]] = StateByObject()
"""The readers of bodies."""


class BodyReader:
    """Copies the body of an answer while the application reads it; ends its call with the last byte."""

    __slots__ = ("_call", "_is_read_elsewhere", "_length", "_open", "_pieces", "_size", "is_own")

    def __init__(self, call: Call, body: object, length: int | None) -> None:
        """`length`: bytes of the body; None if unknown."""
        self._call, self._length = call, length
        self._pieces: list[bytes] = []
        self._size = 0
        self.is_own = False
        """Whether the body itself reads of the stream inside just now."""
        self._is_read_elsewhere = False
        """Whether a block reads a stream inside that is not observed."""
        self._open = ["body"]
        """One item for each of the two that exists."""
        raw = getattr(body, names.BODY_STREAM.name, None)
        if is_observed(raw):
            self._open.append("stream")
            RAW_BODIES.put(raw, self, self._collected)
        BODIES.put(body, self, self._collected)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to be read."""
        return self._call.ended

    @property
    def is_passive(self) -> bool:
        """Whether what the stream inside reads just now is that of the body itself, or nothing more is to be read."""
        return self.is_own or self._call.ended

    def begin(self, *, is_decoded: bool) -> None:
        """Do nothing: bodies are not compressed."""

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
        self._pieces.clear()

    def failed(self, error: BaseException) -> None:
        """Report an exception of the reader."""
        self.is_own = False
        fail(self._call, error, in_stream=False)
        self._pieces.clear()

    def closed(self) -> None:
        """Report that the body was closed."""
        self._take_read()
        if self._is_read_elsewhere and not self._call.answer_complete:
            self._call.abandon(None)
        else:
            self._call.leave()

    def _take_read(self) -> None:
        """Take a body that was read to its end by a reader that stopped there."""
        body = registry.decoded(b"".join(self._pieces)) if self._size <= _MAX_BYTES else None
        if body is not None and not self._call.ended:
            self._call.take_body(body)
            self._call.mark_complete()
        self._pieces.clear()

    def entered(self, raw: object) -> None:
        """Report that a block reads the stream inside. If a stub has its own stream, that is not observed."""
        if isinstance(raw, BytesIO):
            self.add(raw.getvalue()[raw.tell() :], is_last=True)
        elif RAW_BODIES.get(raw) is not self:
            self._is_read_elsewhere = True

    def _collected(self) -> None:
        self._open.pop()  # two threads may collect them
        if not self._open:
            with _BODY:
                self._take_read()
            self._call.lost()


def forget(source: object) -> None:
    """Observe a stream or body no longer."""
    STREAMS.pop(source)
    BODIES.pop(source)
    RAW_BODIES.pop(getattr(source, names.BODY_STREAM.name, None))


class _Read:
    """One read of a body."""

    __slots__ = ("amount", "reader")

    def __init__(self, reader: BodyReader, amount: Any) -> None:
        self.reader, self.amount = reader, amount
        """The number of bytes that are read at most, None or negative for all; or the buffer that takes them."""


def _amount(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("amt")


def _active(reader: BodyReader | None) -> BodyReader | None:
    return None if reader is None or reader.has_ended else reader


def _reading(args: tuple[Any, ...], _: object, kwargs: dict[str, Any]) -> _Read | None:
    reader = _active(BODIES.get(args[0]))
    if reader is None:
        return None
    reader.is_own = True
    return _Read(reader, _amount(args[1:], kwargs))


def _reading_into(args: tuple[Any, ...], buffer: Any, _: object) -> _Read | None:
    reader = _active(BODIES.get(args[0]))
    if reader is None:
        return None
    reader.is_own = True
    return _Read(reader, buffer)


def _watched(args: tuple[Any, ...], _: object, __: object) -> BodyReader | None:
    return _active(BODIES.get(args[0]))


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


def _read_failed(reading: _Read, error: BaseException) -> None:
    with _BODY:
        reading.reader.failed(error)


def _closed(reader: BodyReader, _: object) -> None:
    reader.closed()


READ: Final = HookSteps(step=_BODY, before=_reading, on_return=_report_piece, on_error=_read_failed)
"""Copies what `read` of a body returns."""
READ_INTO: Final = HookSteps(step=_BODY, before=_reading_into, on_return=_report_buffer, on_error=_read_failed)
"""Copies what `readinto` of a body reads."""
READ_LINES: Final = HookSteps(step=_BODY, before=_reading, on_return=_report_lines, on_error=_read_failed)
"""Copies what `readlines` of a body returns."""
ENTER: Final = HookSteps(step=_BODY, before=_watched, on_return=BodyReader.entered)
"""Notes a `with` block of a body, which reads the stream inside."""
CLOSE: Final = HookSteps(step=_BODY, before=_watched, on_return=_closed, on_error=_closed)
"""Reports that a body was closed."""
