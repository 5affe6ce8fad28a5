"""Media of messages: as parts of chat completions, with the bytes where the record kept them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from callspan.record.call import CallRecord
from callspan.record.messages import Media

_AUDIO: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_SOURCE: Final = "base64"


def inline_media(call: CallRecord) -> dict[str, str]:
    """Return sha256 -> data URL of media that a Messages request carries inline; empty where it has none."""
    body = bytes(call.request.body)
    if call.api != "messages" or b'"base64"' not in body:
        return {}
    found: dict[str, str] = {}
    for source in _sources(msgspec.json.decode(body)):
        data = source.get("data")
        if not isinstance(data, str):
            continue
        try:
            digest = hashlib.sha256(base64.b64decode(data, validate=True)).hexdigest()
        except (binascii.Error, ValueError):
            continue
        found[digest] = f"data:{source.get('media_type')};base64,{data}"
    return found


def content_part(media: Media, inline: dict[str, str], dropped: Counter[str]) -> dict[str, object] | None:
    """Return the part of a chat message; None, and counted, where the record holds no more than its hash."""
    url = media.url or (media.data and f"data:{media.mime};base64,{media.data}") or inline.get(media.sha256 or "")
    if media.modality == "image" and url:
        return {"type": "image_url", "image_url": {"url": url}}
    if media.modality == "audio" and (data := _base64_of(url)) and media.mime in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO[media.mime]}}
    if media.modality == "document" and media.file_id:
        return {"type": "file", "file": {"file_id": media.file_id}}
    if media.modality == "document" and _base64_of(url):
        return {"type": "file", "file": {"file_data": url}}
    known = "kept by reference only" if media.sha256 and not url else "of a kind chat messages cannot hold"
    dropped[f"{media.modality} {known}"] += 1
    return None


def _base64_of(url: str | None) -> str | None:
    head, comma, data = (url or "").partition(",")
    return data if comma and head.startswith("data:") and head.endswith(f";{_SOURCE}") else None


def _sources(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, dict):
        if value.get("type") == _SOURCE:
            yield value
        for inner in value.values():
            yield from _sources(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _sources(inner)
