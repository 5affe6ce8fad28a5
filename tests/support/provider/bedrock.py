"""Bedrock's streams: AWS event frames instead of server-sent events."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from dataclasses import replace

from callspan.testing.provider.answer import StreamEvent, encode, member
from callspan.testing.provider.anthropic_messages import MESSAGES
from callspan.testing.provider.rendering import Rendering, Route

INVOKE = Route("POST", re.compile(r"/model/(?P<model>[^/]+)/invoke(?:-with-response-stream)?$"), MESSAGES)
_MEDIA_TYPE = "application/vnd.amazon.eventstream"
_TEXT = 7
"""The type number of a header that is a string."""


def framed(rendering: Rendering) -> Rendering:
    """A stream of Messages in Bedrock's format."""
    return replace(rendering, headers={**rendering.headers, "content-type": _MEDIA_TYPE}, frame=event_frame)


def event_frame(event: StreamEvent, *, malformed: bool = False) -> bytes:
    """An event in Bedrock's format: base64 in JSON in a frame; `malformed` sends only half of its data."""
    data = event.data.encode() if isinstance(event.data, str) else encode(event.data)
    error = member(event.data, "error") if not isinstance(event.data, str) and event.name == "error" else {}
    if error:
        kind = str(error.get("type"))
        headers = {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}
        return _frame(headers, encode({"message": error.get("message")}))
    if malformed:
        data = data[: len(data) // 2]
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return _frame(headers, encode({"bytes": base64.b64encode(data).decode()}))


def _frame(headers: dict[str, str], payload: bytes) -> bytes:
    head = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack("!II", 12 + len(head) + len(payload) + 4, len(head))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", _TEXT, len(text)) + text
