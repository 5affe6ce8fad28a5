"""Bodies: wire JSON as it goes into a record, valid and on one line."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.record.codec import encode_json

_OPENERS: Final = (b"{", b"[")
_ODD: Final = (b"NaN", b"Infinity", b"\n", b"\r")


def exact_json(content: bytes, body: object) -> bytes:
    """Return the bytes as sent when they are one line of valid JSON, else the same value encoded anew.

    The SDKs encode with the standard library, which writes `NaN` where JSON has no word for it; content
    that is not JSON at all is kept as a JSON string: as text where it is UTF-8, else in base64. `body` None:
    the SDK has encoded nothing, the content is somebody's own.
    """
    if not content.startswith(_OPENERS):
        return encode_json(body if body is not None else _text(content))
    if body is not None and not any(odd in content for odd in _ODD):
        return content
    try:
        return msgspec.json.format(content, indent=-1)
    except msgspec.DecodeError:
        return encode_json(body if body is not None else _text(content))


def folded_json(body: object) -> bytes:
    """Return a parsed body as one line of JSON."""
    return encode_json(body)


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content
