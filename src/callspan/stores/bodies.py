"""Bodies: a request or answer taken apart into pieces worth storing once, and put together again.

The growing history of a request becomes a chain of pieces, large values become pieces of their own, the
rest stays in a small skeleton that is itself a piece. Everything is exact: each piece keeps its JSON bytes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from callspan.record.codec import plain
from callspan.stores.speech import role_of, said

_INLINE_BYTES: Final = 256
_COMPRESS_BYTES: Final = 256
_PLAIN_BYTES: Final = 4096
_LIFTED: Final = b"\x1a"
"""Stands where the text of a piece was: a control byte that no JSON text holds unescaped."""

_SYSTEM_KEYS: Final = frozenset({"system", "instructions"})
_HISTORY_KEYS: Final = ("messages", "input", "prompt")

_Kind: TypeAlias = Literal["value", "piece", "history", "text"]
_Skeleton: TypeAlias = list[tuple[str, _Kind, msgspec.Raw]]

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_array = msgspec.json.Decoder(list[msgspec.Raw])
_skeletons = msgspec.json.Decoder(list[tuple[str, str, msgspec.Raw]])


class Piece(NamedTuple):
    """One value that is stored once, whoever refers to it."""

    hash: bytes
    """SHA-256 of the exact JSON."""
    json: bytes
    role: str | None = None
    """Who speaks; None where the piece is no message."""


class Stored(NamedTuple):
    """A piece as a row holds it: its text in plain, the rest beside it."""

    text: str | None
    """What a person would read; None where nothing is said."""
    enc: int
    """Sum of 1 (zlib) and 2 (the text was lifted out of the JSON and is found in `text`)."""
    data: bytes


class Parts(NamedTuple):
    """A request body in parts."""

    skeleton: Piece
    history: list[Piece]
    """Messages in order; the same prefix in the next call."""
    others: list[Piece]
    """Large values of the body: tools, system, schemas."""
    system: bytes | None
    """Hash of the system prompt given apart from the messages."""
    tools: bytes | None


def piece(json: bytes, role: str | None = None) -> Piece:
    """Return the piece that holds this JSON."""
    return Piece(hashlib.sha256(json).digest(), json, role)


def take_apart(body: bytes, message_key: str | None) -> Parts:
    """Return the parts of a request body. What is no JSON object is kept whole, as a skeleton of one text."""
    try:
        fields = _raw_object.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Parts(_skeleton([("", "text", msgspec.Raw(body))]), [], [], None, None)
    key = message_key or next((name for name in _HISTORY_KEYS if name in fields), None)
    skeleton: _Skeleton = []
    history: list[Piece] = []
    others: dict[str, Piece] = {}
    for name, value in fields.items():
        raw = bytes(value)
        if name == key and raw[:1] == b"[":
            history = [_message(bytes(item)) for item in _raw_array.decode(raw)]
            skeleton.append((name, "history", msgspec.Raw(b"null")))
        elif name == key and raw[:1] == b'"':
            history = [piece(raw, "user")]
            skeleton.append((name, "text", msgspec.Raw(b"null")))
        elif name in _SYSTEM_KEYS or name == "tools" or len(raw) > _INLINE_BYTES:
            others[name] = piece(raw, "system" if name in _SYSTEM_KEYS else None)
            skeleton.append((name, "piece", msgspec.Raw(msgspec.json.encode(others[name].hash.hex()))))
        else:
            skeleton.append((name, "value", value))
    system = next((part.hash for name, part in others.items() if name in _SYSTEM_KEYS), None)
    tools = others["tools"].hash if "tools" in others else None
    return Parts(_skeleton(skeleton), history, list(others.values()), system, tools)


def put_together(skeleton: bytes, history: Sequence[bytes], find: Callable[[bytes], bytes]) -> bytes:
    """Return the request body of a skeleton; `find` gives the JSON of a hash.

    Key order and the exact JSON of every value are those of the body that was taken apart.
    """
    fields: dict[str, msgspec.Raw] = {}
    for name, kind, value in _skeletons.decode(skeleton):
        if kind == "history":
            fields[name] = msgspec.Raw(b"[" + b",".join(history) + b"]")
        elif kind == "piece":
            fields[name] = msgspec.Raw(find(bytes.fromhex(msgspec.json.decode(value, type=str))))
        elif kind == "text":
            if not name:
                return bytes(value)
            fields[name] = msgspec.Raw(history[0])
        else:
            fields[name] = value
    return msgspec.json.encode(fields)


def references(skeleton: bytes) -> list[bytes]:
    """Return the hashes of the pieces a skeleton refers to, besides its history."""
    found = _skeletons.decode(skeleton)
    return [bytes.fromhex(msgspec.json.decode(value, type=str)) for _, kind, value in found if kind == "piece"]


def to_row(part: Piece) -> Stored:
    """Return how a piece is stored: its text in plain once, the rest compressed where that pays."""
    text = said(_value(part.json)) if part.role else None
    data, enc = part.json, 0
    if text is None:
        squeezed = zlib.compress(data, 6) if len(data) > _PLAIN_BYTES else data
    else:
        needle = msgspec.json.encode(text)
        if len(text) > 1 and data.count(needle) == 1 and _LIFTED not in data:
            data, enc = data.replace(needle, _LIFTED), 2
        squeezed = zlib.compress(data, 6) if len(data) > _COMPRESS_BYTES else data
    return Stored(text, enc | 1, squeezed) if len(squeezed) < len(data) else Stored(text, enc, data)


def from_row(text: str | None, enc: int, data: bytes) -> bytes:
    """Return the exact JSON of a stored piece."""
    json = zlib.decompress(data) if enc & 1 else data
    return json.replace(_LIFTED, msgspec.json.encode(text)) if enc & 2 else json


def _skeleton(fields: _Skeleton) -> Piece:
    return piece(msgspec.json.encode(fields))


def _message(json: bytes) -> Piece:
    return piece(json, role_of(_value(json)))


def _value(json: bytes) -> object:
    try:
        return plain(msgspec.json.decode(json))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
