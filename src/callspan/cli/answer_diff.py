"""Answer diff: the full output of a call as text, and whether two calls had the same output."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Final

import msgspec

from callspan.cli.rows import gist
from callspan.process.media import VECTOR_KEY
from callspan.providers.json_readers import dig, integer, objects
from callspan.record.call import CallRecord

_FLOAT_BYTES: Final = 4


def full_output(call: CallRecord) -> str | None:
    """Return the whole output, for embeddings the number and length of the vectors; None where none was kept."""
    sizes = [size for size, _ in _vectors(call)]
    if sizes:
        numbers = " and ".join(f"{size:,}" for size in sorted(set(sizes)))
        return f"{len(sizes):,} vector{'' if len(sizes) == 1 else 's'} of {numbers} numbers"
    if call.conversation is None:
        return None
    return "\n".join(piece for message in call.conversation.output for piece in gist(message)) or None


def same_answer(before: CallRecord, after: CallRecord) -> bool | None:
    """Return whether two calls had the same output; None where only the length of vectors was kept."""
    pair = [_vectors(call) for call in (before, after)]
    if not any(pair):
        return full_output(before) == full_output(after)
    sizes, values = ([[vector[part] for vector in found] for found in pair] for part in (0, 1))
    if sizes[0] != sizes[1]:
        return False
    return None if None in values[0] or None in values[1] else values[0] == values[1]


def kind_of_answer(call: CallRecord) -> str:
    """Return what an answer is made of, as people say it."""
    return "vectors" if call.operation == "embeddings" else "words"


def _vectors(call: CallRecord) -> list[tuple[int, tuple[float, ...] | None]]:
    """The vectors of an embeddings answer with their lengths; None for one of which only the length was kept."""
    body = bytes(call.response.body) if call.response and call.operation == "embeddings" else b""
    rows = objects(msgspec.json.decode(body), "data") if body else ()
    return [_vector(dig(row, "embedding")) for row in rows]


def _vector(value: object) -> tuple[int, tuple[float, ...] | None]:
    if isinstance(value, list):
        numbers = tuple(number for number in value if isinstance(number, int | float))
        return len(numbers), numbers
    if isinstance(value, str):
        try:
            packed = base64.b64decode(value, validate=True)
        except binascii.Error:
            return 0, None
        count = len(packed) // _FLOAT_BYTES
        return count, struct.unpack(f"<{count}f", packed[: count * _FLOAT_BYTES])
    return integer(value, VECTOR_KEY, "dimensions") or 0, None
