"""Binary messages of AWS event streams, written and read without a library that callspan may share.

A message is two lengths, a checksum, headers, the payload and another checksum.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_AROUND, _PRELUDE = 16, 12
_TEXT = 7


def message(name: str | None, payload: bytes) -> bytes:
    """An event, or an exception as its name says."""
    kind = "exception" if name is not None and name.endswith("Exception") else "event"
    named = [] if name is None else [(f":{kind}-type", name)]
    headers = b"".join(
        _header(key, value) for key, value in (*named, (":content-type", "application/json"), (":message-type", kind))
    )
    lengths = struct.pack(">II", _AROUND + len(headers) + len(payload), len(headers))
    content = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers + payload
    return content + struct.pack(">I", zlib.crc32(content))


def _header(name: str, value: str) -> bytes:
    text = value.encode("utf-8", "surrogatepass")
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _TEXT, len(text)) + text


def messages(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The name and the payload of each message."""
    while body:
        size, headers = struct.unpack(">II", body[:8])
        yield _name(body[_PRELUDE : _PRELUDE + headers]), body[_PRELUDE + headers : size - 4]
        body = body[size:]


def _name(headers: bytes) -> str:
    """The value of the first header."""
    start = 1 + headers[0] + 3
    size = int.from_bytes(headers[start - 2 : start], "big")
    return headers[start : start + size].decode()
