"""Turns: messages and their parts for the page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from callspan.records import Media, Message

_SHOWN: Final = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp"),
        *("audio/wav", "audio/x-wav", "audio/mpeg", "audio/mp3", "audio/ogg", "audio/flac", "audio/mp4", "audio/aac"),
        *("audio/webm", "video/mp4", "video/webm"),
    }
)
"""Media types that the page may show, without image formats that can contain scripts or links."""


def plain_messages(messages: Iterable[Message], max_characters: int) -> list[dict[str, object]]:
    """Return messages for JSON, with each text truncated to a number of characters."""
    return [
        {
            "role": message.role,
            "name": message.name,
            "finish": message.finish_reason,
            "parts": [_cut(plain(part), max_characters) for part in message.parts],
        }
        for message in messages
    ]


def plain(part: object) -> object:
    """Return a part for JSON, with the bytes of media only if the page may show them; else with `is_kept`."""
    if isinstance(part, Media) and part.data is not None and part.mime not in _SHOWN:
        return {**msgspec.to_builtins(msgspec.structs.replace(part, data=None)), "is_kept": True}
    return msgspec.to_builtins(part)


def _cut(value: object, max_characters: int) -> object:
    if isinstance(value, str) and len(value) > max_characters:
        return f"{value[:max_characters]}\N{HORIZONTAL ELLIPSIS} {len(value) - max_characters:,} more characters"
    if isinstance(value, dict):
        is_media = value.get("type") == "media"
        return {key: item if is_media and key == "data" else _cut(item, max_characters) for key, item in value.items()}
    return [_cut(item, max_characters) for item in value] if isinstance(value, list) else value
