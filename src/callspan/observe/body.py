"""Bodies: wire JSON as it goes into a record, valid and on one line."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.fail_open import ours
from callspan.record.codec import encode_json
from callspan.record.raw_messages import request_messages

_OPENERS: Final = (b"{", b"[")


def exact_json(content: bytes, body: object) -> bytes:
    """Return the bytes as sent when they are one line of valid JSON, else the same value encoded anew.

    The SDKs encode with the standard library, which writes `NaN` where JSON has no word for it, and lone surrogates,
    which no store takes; content that is not JSON at all is kept as a JSON string: as text where it is UTF-8, else in
    base64. `body` None: the SDK has encoded nothing, the application gave the content itself.
    """
    if not content.startswith(_OPENERS):
        return encode_json(body if body is not None else _text(content))
    if body is not None and b"\n" not in content and b"\r" not in content and _is_json(content):
        return content
    text = _text(content)
    try:
        return msgspec.json.format(content, indent=-1) if isinstance(text, str) else encode_json(text)
    except ours(msgspec.DecodeError, RecursionError):
        return encode_json(body if body is not None else text)


def exact_messages(content: bytes, body: object) -> tuple[bytes, list[msgspec.Raw] | None]:
    """Return what `exact_json` does, and the messages in it; None where it has no list of any.

    Nearly every body is valid, and is read once for both.
    """
    if body is None or not content.startswith(_OPENERS) or b"\n" in content or b"\r" in content:
        return exact_json(content, body), None
    try:
        found = request_messages(content)
    except ours(msgspec.MsgspecError, RecursionError):
        return exact_json(content, body), None
    return content, found if isinstance(found, list) else None


def _is_json(content: bytes) -> bool:
    try:
        _skim(content)
    except ours(msgspec.DecodeError, RecursionError):
        return False
    return True


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except ours(UnicodeDecodeError):
        return content


_skim: Final = msgspec.json.Decoder(msgspec.Raw).decode
