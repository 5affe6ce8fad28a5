"""Body parsers: convert bodies that are not JSON to the JSON of a record: forms, streams, speech, transcripts.

Only bytes in memory are read. Open files and other streams are left to the HTTP library; the record has their names.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

from callspan.providers.base import Endpoint
from callspan.providers.error_kinds import error_in
from callspan.record.codec import encode_json
from callspan.runtime.fail_open import value_of

_EVENTS: Final = "text/event-stream"
_JSON: Final = "json"
_DONE: Final = b"[DONE]"
_DATA_FIELD: Final = b"data:"
_ERROR_FIELD: Final = b"error:"
"""A field outside of the standard. Some servers state an error in it; the SDKs' decoders ignore it."""
_ERROR_STARTS: Final = (_ERROR_FIELD, b"{")
_ERROR_EVENTS: Final = (b"event: error", b"event:error")
_LINE_ENDS: Final = (b"\n", b"\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_FORM: Final = "multipart/form-data"
_LENGTH: Final = "content-length"
_UNUSUAL: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
_MEDIA: Final = ("image/", "audio/", "video/")
_PAGE_STARTS: Final = (b"<!doctype html", b"<html")
_PAGE_BYTES: Final = 16
_CODINGS: Final = ("gzip", "x-gzip", "deflate")
GZIP_START: Final = b"\x1f\x8b"
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_BARE_DEFLATE: Final = -zlib.MAX_WBITS
"""As some clients send `deflate`."""
_MAX_BYTES: Final = 16 << 20
"""Maximum size of a request that was compressed, which takes about 50 ms."""


class EventParser:
    """Collects the lines of events; returns the content of their `data` fields, one payload per event.

    An error that is stated outside of them is a payload too, with the error in `error`.
    """

    __slots__ = ("_data", "_ends_in_return", "_has_begun", "_incomplete_line", "_is_error", "errors")

    def __init__(self) -> None:
        self.errors: list[bytes] = []
        """The payloads of events of the type `error` and of errors outside of events."""
        self._has_begun = self._is_error = False
        self._data: list[bytes] = []
        self._ends_in_return = False
        self._incomplete_line: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the payloads of the events that end within `piece`."""
        if self._ends_in_return and piece.startswith(b"\n"):
            piece = piece[1:]
        if not piece:
            return []
        self._ends_in_return = piece.endswith(b"\r")
        lines, is_incomplete = piece.splitlines(), not piece.endswith(_LINE_ENDS)
        if self._incomplete_line:
            self._incomplete_line.append(lines[0])
            if is_incomplete and len(lines) == 1:
                return []
            lines[0] = b"".join(self._incomplete_line)
        self._incomplete_line = [lines.pop()] if is_incomplete else []
        return [payload for line in lines if (payload := self._line(line)) is not None]

    def end(self) -> list[bytes]:
        """Return the payload of a last event without a terminating empty line."""
        last = [self._line(b"".join(self._incomplete_line)), self._line(b"")]
        self._incomplete_line = []
        return [payload for payload in last if payload is not None]

    def _line(self, line: bytes) -> bytes | None:
        if not self._has_begun:
            self._has_begun = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if line.startswith(_DATA_FIELD):
            self._data.append(line[len(_DATA_FIELD) :].removeprefix(b" "))
        elif not line:
            return self._event() if self._data else None
        elif line.startswith(_ERROR_STARTS):
            return self._note_error(_error_outside(line))
        elif line in _ERROR_EVENTS:
            self._is_error = True
        return None

    def _event(self) -> bytes | None:
        payload, is_error = b"\n".join(self._data), self._is_error
        self._data, self._is_error = [], False
        return self._note_error(_as_error(payload)) if is_error else payload

    def _note_error(self, error: bytes | None) -> bytes | None:
        if error is not None:
            self.errors.append(error)
        return error


class LineParser:
    """Splits JSON lines. Each line is a payload."""

    __slots__ = ("_incomplete_line",)

    def __init__(self) -> None:
        self._incomplete_line: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the lines that end within `piece`."""
        first, *later_lines = piece.split(b"\n")
        self._incomplete_line.append(first)
        if not later_lines:
            return []
        lines = [b"".join(self._incomplete_line), *later_lines]
        self._incomplete_line = [lines.pop()]
        return lines

    def end(self) -> list[bytes]:
        """Return a last line that does not end."""
        last, self._incomplete_line = b"".join(self._incomplete_line), []
        return [last]


class AwsEventParser:
    """Splits the messages of an AWS event stream. Each payload is a JSON object with its type as the only field.

    A message has a prelude (its length, the headers' length, a checksum), headers, JSON, and a checksum. An exception
    has its type in `error`, as has an error that only headers state. An event of an invoked model is the chunk that it
    has in it.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the payloads of the messages that end within `piece`."""
        rest = self._rest
        rest += piece
        payloads: list[bytes] = []
        while len(rest) >= _PRELUDE and len(rest) >= (size := int.from_bytes(rest[:4], "big")):
            if size < _PRELUDE + _CHECKSUM:  # not such a stream
                rest.clear()
                break
            headers_end = _PRELUDE + int.from_bytes(rest[4:8], "big")
            content = bytes(rest[headers_end : size - _CHECKSUM])
            payloads.append(_aws_payload(bytes(rest[_PRELUDE:headers_end]), content))
            del rest[:size]
        return payloads

    def end(self) -> list[bytes]:
        """Return nothing: a message that is cut off has no payload."""
        return []


class UntypedParser:
    """Splits a stream by its first bytes, if its content type says nothing of its form, as from home-made gateways."""

    __slots__ = ("_chosen",)

    def __init__(self) -> None:
        self._chosen: EventParser | LineParser | AwsEventParser | None = None

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the payloads of the events that end within `piece`."""
        if self._chosen is None and (start := piece.lstrip()):
            self._chosen = _parser_by(start)()
        return [] if self._chosen is None else self._chosen.feed(piece)

    def end(self) -> list[bytes]:
        """Return the payload of a last event without its end."""
        return [] if self._chosen is None else self._chosen.end()


Parser: TypeAlias = EventParser | LineParser | AwsEventParser | UntypedParser
_PRELUDE: Final = 12
_CHECKSUM: Final = 4
_AWS_TYPE: Final = re.compile(rb":(event|exception)-type\x07..([A-Za-z]+)", re.DOTALL)
_AWS_ERROR: Final = re.compile(rb":error-(code|message)\x07(..)", re.DOTALL)
"""The headers of an error that is no exception of the API; each precedes a text of that length."""
_CHUNK: Final = "chunk"
_PARSERS: Final[Mapping[str | None, type[Parser]]] = {
    _EVENTS: EventParser,
    "application/x-ndjson": LineParser,
    "application/jsonl": LineParser,
    "application/stream+json": LineParser,
    "application/vnd.amazon.eventstream": AwsEventParser,
}
"""The parser of a stream by its content type."""


def _parser_by(start: bytes) -> type[EventParser | LineParser | AwsEventParser]:
    """Return the parser for bytes that begin so: the length of an AWS message has zeros first."""
    if start.startswith(b"{"):
        return LineParser
    return AwsEventParser if start.startswith(b"\0") else EventParser


def _aws_payload(headers: bytes, content: bytes) -> bytes:
    match, body = _AWS_TYPE.search(headers), value_of(partial(json.loads, content))
    if match is None and (error := _aws_error(headers)) is not None:
        return error
    if match is not None and match[1] == b"exception":
        message = body.get("message") if isinstance(body, dict) else None
        return encode_json({"error": {"type": match[2].decode(), "message": message}})
    if match is None or body is None:
        return content
    kind = match[2].decode()
    if kind == _CHUNK and isinstance(body, dict) and isinstance(encoded := body.get("bytes"), str):
        return value_of(partial(base64.b64decode, encoded)) or content
    return encode_json({kind: body})


def _aws_error(headers: bytes) -> bytes | None:
    """Return the error that the headers of a message state, as that of an exception; None if they state none."""
    texts = {
        header[1]: headers[header.end() : header.end() + int.from_bytes(header[2], "big")].decode(errors="replace")
        for header in _AWS_ERROR.finditer(headers)
    }
    return encode_json({"error": {"type": texts.get(b"code"), "message": texts.get(b"message")}}) if texts else None


def parser_of(response: Any) -> Parser:
    """Return a new parser for the content type of a response; for types of no stream the first bytes choose it."""
    return _PARSERS.get(_mime(response), UntypedParser)()


def is_stream(response: Any, *, is_requested: bool) -> bool:
    """Return whether the content type of a response is one of streams, or none of JSON where a stream is requested."""
    return _mime(response) in _PARSERS or (is_requested and not is_json(response))


def chunks_in(payloads: Iterable[bytes]) -> list[Any]:
    """Return the parsed JSON of the payloads of a stream, without blank ones, its end and invalid JSON."""
    chunks = [chunk_in(payload) for payload in payloads]
    return [chunk for chunk in chunks if chunk is not None]


def chunk_in(payload: bytes) -> Any:
    """Return the parsed JSON of a payload of a stream; None for a blank one, its end, null and invalid JSON.

    Half a character, such as a cut emoji, is kept: the next chunk may have the other half.
    """
    try:
        return msgspec.json.decode(payload)
    except _UNUSUAL:
        is_json = payload.strip() and not payload.startswith(_DONE)
        return value_of(partial(json.loads, payload)) if is_json else None


def ends_stream(payload: bytes) -> bool:
    """Return whether a payload says that the stream is over, after which a reader may stop."""
    return payload.startswith(_DONE)


def _error_outside(line: bytes) -> bytes | None:
    """Return the error in a line that is JSON or a field `error`; None if it states none."""
    if line.startswith(_ERROR_FIELD):
        return _as_error(line[len(_ERROR_FIELD) :].strip())
    body = value_of(partial(json.loads, line))
    return line if isinstance(body, dict) and error_in(body) is not None else None


def _as_error(data: bytes) -> bytes | None:
    """Return JSON with an error in `error`, which may be JSON or text."""
    error = value_of(partial(json.loads, data)) or data.decode("utf-8", "replace")
    if not error or error == "null":
        return None
    return data if isinstance(error, dict) and error_in(error) is not None else encode_json({"error": error})


def error_at_end(tail: bytes, *, is_whole: bool) -> object:
    """Return the JSON of an error in the last bytes of a stream, if the SDK has not raised it, or None.

    `is_whole`: whether they are all its bytes; else they begin within a line.
    """
    lines = tail if is_whole else tail.partition(b"\n")[2]
    events = EventParser()
    events.feed(lines)
    events.end()
    error = next(iter(events.errors), None) or _error_outside(lines[lines.rfind(b"\n{") + 1 :])
    return None if error is None else value_of(partial(json.loads, error))


def last_event(tail: bytes, *, is_whole: bool) -> object:
    """Return the JSON of the last event in the last bytes of a stream, or None. As `error_at_end`."""
    events = EventParser()
    payloads = [*events.feed(tail if is_whole else tail.partition(b"\n")[2]), *events.end()]
    chunks = [*chunks_in(payloads)]
    return chunks[-1] if chunks else None


class FileBody:
    """An answer under construction from the bytes read so far. Audio is hashed and not kept."""

    __slots__ = ("_accumulator", "_events", "_mime")

    def __init__(self, accumulator: Any, mime: str | None) -> None:
        self._accumulator = accumulator
        self._mime = mime
        self._events = EventParser() if mime == _EVENTS else None

    def add(self, piece: bytes) -> None:
        """Add the next piece."""
        if self._events is None:
            self._accumulator.add_bytes(piece, self._mime)
        else:
            self._add_payloads(self._events.feed(piece))

    def body(self, *, complete: bool = True) -> object:
        """Return the answer so far, marked if it was not read to its end."""
        if self._events is not None:
            self._add_payloads(self._events.end())
        body = self._accumulator.body()
        return body if complete or body is None else {**body, "incomplete": True}

    def _add_payloads(self, payloads: list[bytes]) -> None:
        for chunk in chunks_in(payloads):
            self._accumulator.add(chunk)


def file_body_of(endpoint: Endpoint | None, response: Any) -> FileBody | None:
    """Return the collector of a response's bytes; None if the response is JSON.

    `extra_body` or a gateway may turn an answer that is plain for the SDK into a stream.
    """
    mime = _mime(response)
    if endpoint is None or not (mime == _EVENTS or getattr(endpoint, "returns_files", False)):
        return None
    return None if is_json(response) else FileBody(endpoint.accumulator(), mime)


def stated_length(response: Any) -> int | None:
    """Return the number of bytes that a response states for its body; None also if they are to be decoded."""
    headers = getattr(response, "headers", None) or {}
    length = value_of(lambda: None if "content-encoding" in headers else headers.get(_LENGTH))
    return int(length) if isinstance(length, str) and length.isdecimal() else None


def is_json(response: Any) -> bool:
    """Return whether the content type of a response is JSON."""
    return (_mime(response) or "").endswith(_JSON)


def starts_page(start: bytes) -> bool:
    """Return whether a body that begins so is a page of HTML."""
    return start[:_PAGE_BYTES].lower().startswith(_PAGE_STARTS)


def decompressed(content: bytes, coding: str) -> bytes | None:
    """Return the content of a request that was compressed in this way; None if it is too large, or not understood.

    The size is bounded, and so is the time: some bytes may stand for any number. A file of gzip may have members.
    """
    if coding not in _CODINGS:
        return None
    for bits in (_GZIP_OR_ZLIB, _BARE_DEFLATE):
        with suppress(zlib.error):
            return _members(content, bits)
    return None


def _members(content: bytes, bits: int) -> bytes | None:
    """Return what compressed data say: one member or several, as gzip allows. Raises zlib.error."""
    plain = b""
    while True:
        reader = zlib.decompressobj(bits)
        plain += reader.decompress(content, max(_MAX_BYTES - len(plain), 1))  # 0 would be no limit
        if not reader.eof:
            return None
        content = reader.unused_data
        if not content.startswith(GZIP_START):
            return plain


def is_media(response: Any) -> bool:
    """Return whether the content type of a response names a picture, a sound or a video."""
    return (_mime(response) or "").startswith(_MEDIA)


def read_file(endpoint: Endpoint | None, result: object, response: Any) -> object:
    """Return the body of a response that the SDK has already read; None if it is JSON, or not read yet."""
    file = file_body_of(endpoint, response)
    if file is None:
        return None
    content = result.encode("utf-8", "surrogatepass") if isinstance(result, str) else value_of(lambda: response.content)
    file.add(content if isinstance(content, bytes) else b"")
    return file.body()


def _mime(response: Any) -> str | None:
    headers = getattr(response, "headers", None)
    content_type = value_of(lambda: headers.get("content-type")) if headers is not None else None
    return content_type.partition(";")[0].strip().lower() if isinstance(content_type, str) else None


def is_form(built: Any) -> bool:
    """Return whether a request is sent as a form."""
    return str(built.headers.get("content-type", "")).startswith(_FORM)


def form_bytes(built: Any) -> int | None:
    """Return the size of a form as sent; None if the size of a file is unknown."""
    length = built.headers.get(_LENGTH, "")
    return int(length) if length.isdecimal() else None
