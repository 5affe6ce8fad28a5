"""Bodies: wire JSON as it goes into a record, valid and on one line."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.record.codec import encode_json

_OPENERS: Final = (b"{", b"[")


def exact_json(content: bytes, body: object) -> bytes:
    """Return the bytes as sent when they are one line of valid JSON, else the same value encoded anew.

    The SDKs encode with the standard library, which writes `NaN` where JSON has no word for it; a body
    that is not JSON at all is kept as a JSON string.
    """
    if not content.startswith(_OPENERS):
        return encode_json(body if body is not None else content)
    if b"NaN" not in content and b"Infinity" not in content and b"\n" not in content and b"\r" not in content:
        return content
    try:
        return msgspec.json.format(content, indent=-1)
    except msgspec.DecodeError:
        return encode_json(body if body is not None else content)


def folded_json(body: object) -> bytes:
    """Return a parsed body as one line of JSON."""
    return encode_json(body)
