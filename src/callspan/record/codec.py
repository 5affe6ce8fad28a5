"""Codec: encodes and decodes records. Encoding never fails, even for values JSON cannot represent, see `plain`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any, Final

import msgspec

from callspan.record.events import Record
from callspan.record.formats import FORMAT, OtherFormatError, check_format
from callspan.record.plain_json import plain

_RECORD: Final = "a record"
_UNENCODABLE: Final = (UnicodeEncodeError, RecursionError, TypeError, ValueError, OverflowError)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_encoder = msgspec.json.Encoder(enc_hook=partial(plain, keep_raw=True))
_decoder = msgspec.json.Decoder(Record)
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
    """Return the text with U+FFFD in place of lone surrogates, which UTF-8 cannot encode; of a subclass as plain `str`.

    A member of an `Enum` that is a string is printed, hashed and sorted by its name, and sent by its value.
    """
    if type(text) is not str:
        text = str.__str__(text)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


_head_decoder = msgspec.json.Decoder(_Head)


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


@lru_cache
def decoder_of_fields(names: tuple[str, ...], element: Any) -> msgspec.json.Decoder[Any]:
    """Return a decoder of these fields of a body, each UNSET if it is absent. It reads the body once.

    `element`: the type of the elements of lists. Objects are not read further; other fields are skipped.
    """
    kinds: Any = list[element] | dict[str, msgspec.Raw] | str | float | bool | None | msgspec.UnsetType
    return msgspec.json.Decoder(struct_of_fields(names, kinds, msgspec.UNSET))


def struct_of_fields(names: Iterable[str], kind: Any, absent: object) -> type[msgspec.Struct]:
    """Return the class of an object with these fields; those whose names have a dot are in objects of their own."""
    fields: dict[str, tuple[Any, ...]] = {}
    inner: dict[str, list[str]] = {}
    for name in names:
        outer, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(outer, []).append(rest)
        fields[outer] = (outer, kind, absent)
    for outer, rests in inner.items():
        members = struct_of_fields(rests, kind, absent)
        fields[outer] = (outer, members, msgspec.field(default_factory=members))
    return msgspec.defstruct("Fields", [*fields.values()])
