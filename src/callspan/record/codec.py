"""Codec: encodes and decodes records, and extracts the messages of wire bodies without parsing them.

Encoding never fails, even for values JSON cannot represent, see `plain`. The messages of a request are its `messages`,
`input` or `prompt`. A response has them in `choices` or `output`, or is itself a message. Their bytes are returned as
they were sent.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final, TypeAlias

import msgspec

from callspan.record.events import Record
from callspan.record.formats import FORMAT, OtherFormatError, check_format
from callspan.record.plain_json import plain

_RECORD: Final = "a record"
_UNENCODABLE: Final = (UnicodeEncodeError, RecursionError, TypeError, ValueError, OverflowError)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_encoder = msgspec.json.Encoder(enc_hook=partial(plain, keep_raw=True))
_decoder = msgspec.json.Decoder(Record)
_Raws: TypeAlias = list[msgspec.Raw] | None
_Texts: TypeAlias = list[msgspec.Raw] | str | None
_NOTHING: Final = (b"", b"null", b'""', b"[]")
_ABSENT: Final = msgspec.Raw()
_NUL: Final = b"\\u0000"
_OPENERS: Final = (b"{", b"[")
_skim: Final = msgspec.json.Decoder(msgspec.Raw).decode


class _Head(msgspec.Struct):
    kind: str = ""
    schema_version: int = FORMAT


def encode(record: Record) -> bytes:
    """Return the record as one line of JSON. Never raises; `plain` replaces values that JSON cannot represent."""
    try:
        return _encoder.encode(record)
    except _UNENCODABLE:
        return _encoder.encode(plain(record, keep_raw=True))


NO_RECORD: Final = (msgspec.DecodeError, OtherFormatError, UnicodeDecodeError, RecursionError)
"""The exceptions that `decode` raises for data that is not a record of the current format."""


def decode(data: bytes) -> Record:
    """Return the record in a line of JSON; unknown fields are ignored.

    NUL becomes U+FFFD, as stores and their readers do in queries and in the records of
    callspan; not in bodies.
    Raises OtherFormatError for another format, msgspec.ValidationError or msgspec.DecodeError for invalid records.
    """
    try:
        record: Record = _decoder.decode(data)
    except msgspec.ValidationError:
        check_format(_RECORD, _head_decoder.decode(data).schema_version)
        raise
    check_format(_RECORD, record.schema_version)
    if data.find(b"\\") >= 0 and data.find(_NUL) >= 0:  # one byte is found ten times as fast
        # Rare: another program wrote the record, or a body has the escape.
        cleaned: Record = _decoder.decode(_encoder.encode(plain(record, keep_raw=True)))
        return cleaned
    return record


def encode_json(value: object) -> bytes:
    """Return any value as compact JSON. Never raises; see `plain`."""
    try:
        return _encoder.encode(value)
    except _UNENCODABLE:
        return _encoder.encode(plain(value, keep_raw=True))


def json_text(value: object) -> str | None:
    """Return a string or None unchanged, any other value as JSON."""
    return value if value is None or isinstance(value, str) else encode_json(value).decode()


def encodable(text: str) -> str:
    """Return the text with U+FFFD in place of lone surrogates, which UTF-8 cannot encode."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


_head_decoder = msgspec.json.Decoder(_Head)


class _Request(msgspec.Struct):
    messages: _Texts = None
    input: _Texts = None
    prompt: _Texts = None


class _Instructions(msgspec.Struct):
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()


class _Response(msgspec.Struct):
    choices: _Raws = None
    output: _Raws = None
    content: _Raws = None
    completion: msgspec.Raw = _ABSENT


def request_messages(body: bytes | msgspec.Raw) -> list[msgspec.Raw] | str | None:
    """Return the messages, input or prompt of a request: a list, a string, or None.

    Raises msgspec.MsgspecError if the body is not such a JSON object, RecursionError if it is nested too deeply.
    """
    request = _read_request(body)
    return request.messages or request.input or request.prompt


def request_instructions(body: bytes | msgspec.Raw) -> msgspec.Raw | None:
    """Return `system` (Messages) or `instructions` (Responses) of a request; None if it has neither.

    Raises msgspec.MsgspecError if the body is not a JSON object, RecursionError if it is nested too deeply.
    """
    request = _read_instructions(body)
    return next((value for value in (request.system, request.instructions) if bytes(value) not in _NOTHING), None)


def response_messages(body: msgspec.Raw) -> list[msgspec.Raw] | None:
    """Return the choices or output of a response; `[body]` for a message or a completion; None for anything else.

    Raises msgspec.MsgspecError if the body is not a JSON object with such lists.
    """
    response = _read_response(body)
    listed = response.choices if response.choices is not None else response.output
    alone = response.content is not None or (listed is None and response.completion is not _ABSENT)
    return [body] if alone else listed


_read_request: Final = msgspec.json.Decoder(_Request).decode
_read_instructions: Final = msgspec.json.Decoder(_Instructions).decode
_read_response: Final = msgspec.json.Decoder(_Response).decode


def exact_json(content: bytes, body: object) -> bytes:
    """Return the bytes as sent if they are one line of valid JSON, else the same value encoded again.

    The SDKs encode with the standard library, which writes `NaN` (invalid JSON) and lone surrogates (rejected by
    stores). Other content than JSON is kept as a JSON string: text if it is UTF-8, else base64. `body` is None if the
    application passed encoded content.
    """
    if not content.startswith(_OPENERS):
        return encode_json(body if body is not None else _text(content))
    if body is not None and content.find(b"\n") < 0 and content.find(b"\r") < 0 and is_json(content):
        return content
    text = _text(content)
    try:
        return msgspec.json.format(content, indent=-1) if isinstance(text, str) else encode_json(text)
    except (msgspec.DecodeError, RecursionError):
        return encode_json(body if body is not None else text)


def is_json(content: bytes) -> bool:
    """Return whether the bytes are one JSON value."""
    try:
        _skim(content)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content
