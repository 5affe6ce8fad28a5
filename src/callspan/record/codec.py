"""Codec: encodes records as JSON and decodes them; encoding never fails, even for values JSON cannot represent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec

from callspan.fail_open import ours, value_of
from callspan.record.call import SCHEMA_VERSION
from callspan.record.events import Record
from callspan.safe_urls import whole_words

_MAX_DEPTH: Final = 64
_MAX_REPR: Final = 200
_JSON_METHODS: Final = ("model_dump", "to_dict", "tolist", "isoformat")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


class UnknownSchemaError(ValueError):
    """A record was written by a version of callspan this one cannot read."""


class _Head(msgspec.Struct):
    kind: str = ""
    schema_version: int = SCHEMA_VERSION


def encode(record: Record) -> bytes:
    """Return the record as one line of JSON. Never raises: values JSON cannot represent are replaced, see `plain`."""
    try:
        return _encoder.encode(record)
    except ours(UnicodeEncodeError, RecursionError, TypeError, ValueError, OverflowError):
        return _encoder.encode(_fields(record))


def decode(data: bytes) -> Record:
    """Return the record in a line of JSON.

    Fields this version does not know are ignored. Raises UnknownSchemaError for another schema version,
    msgspec.ValidationError or msgspec.DecodeError for invalid records.
    """
    try:
        record: Record = _decoder.decode(data)
    except ours(msgspec.ValidationError):
        _check_schema(_head_decoder.decode(data).schema_version)
        raise
    _check_schema(record.schema_version)
    return record


def _check_schema(version: int) -> None:
    if version != SCHEMA_VERSION:
        raise UnknownSchemaError(
            f"a record of schema {version}: this callspan reads schema {SCHEMA_VERSION}; upgrade callspan"
        )


def encode_json(value: object) -> bytes:
    """Return any value as compact JSON. Never raises, see `plain`."""
    try:
        return _encoder.encode(value)
    except ours(UnicodeEncodeError, RecursionError, TypeError, ValueError, OverflowError):
        return _encoder.encode(plain(value))


def plain(value: object, depth: int = 0) -> object:
    """Return `value` as plain JSON: dict, list, str, int, float, bool, None.

    Lone surrogates and NUL become U+FFFD, NaN and infinities None, bytes text; cyclic or too deep parts and objects
    without a JSON form become a short description. Never raises, even if `__str__` does.
    """
    if value is None or isinstance(value, bool | msgspec.Raw):
        return value
    # The encoder accepts only the plain types, so a subclass (a NumPy float) is converted.
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, str):
        return _clean(str.__str__(value))
    if isinstance(value, float):
        return float.__float__(value) if math.isfinite(value) else None
    if depth >= _MAX_DEPTH:
        return "<too deep>"
    if isinstance(value, Mapping):
        return {_clean(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return _clean(bytes(value).decode("utf-8", "replace"))
    return _object(value, depth)


def _object(value: object, depth: int) -> object:
    """Return an object's own JSON form if it has one, else a description of it."""
    if isinstance(value, msgspec.Struct):
        return _fields(value, depth)
    for name in _JSON_METHODS if not isinstance(value, type) else ():
        method = value_of(partial(getattr, value, name, None))
        dumped = value_of(method) if callable(method) else None
        if isinstance(dumped, dict | list | str | int | float):
            return plain(dumped, depth + 1)
    built = value_of(partial(msgspec.to_builtins, value, str_keys=True))
    return _description(value) if built is None else plain(built, depth + 1)


def _fields(struct: msgspec.Struct, depth: int = 0) -> dict[str, object]:
    config = type(struct).__struct_config__
    fields: dict[str, object] = {} if config.tag_field is None else {config.tag_field: config.tag}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if value is not field.default:
            fields[field.encode_name] = plain(value, depth + 1)
    return fields


def _description(value: object) -> str:
    text = value_of(partial(repr, value)) or f"<{type(value).__name__}>"
    return _clean(text if len(text) <= _MAX_REPR else whole_words(text, _MAX_REPR) + "…")


def encodable(text: str) -> str:
    """Return the text with U+FFFD for lone surrogates, which UTF-8, and so no exporter and no store, can hold."""
    if text.isascii():
        return text
    try:
        text.encode()
    except ours(UnicodeEncodeError):
        return _SURROGATE.sub("\ufffd", text)
    return text


def _clean(text: str) -> str:
    return text if text.isascii() and "\0" not in text else _UNSTORABLE.sub("\ufffd", text)


_encoder = msgspec.json.Encoder(enc_hook=plain)
_decoder = msgspec.json.Decoder(Record)
_head_decoder = msgspec.json.Decoder(_Head)
