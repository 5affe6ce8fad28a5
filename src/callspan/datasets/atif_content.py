"""Content of ATIF steps: text or parts of text and images, and tool arguments as objects."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from callspan.providers.wire import text

_TYPES: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}


def content_of(content: object, dropped: Counter[str]) -> object:
    """Return the content of a chat message as ATIF takes it; parts it has no place for are counted."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = (
        [part for item in content if (part := _part(item, dropped)) is not None] if isinstance(content, list) else []
    )
    if all(part["type"] == "text" for part in parts):
        return "\n".join(str(part["text"]) for part in parts)
    return parts


def arguments_of(written: str) -> tuple[dict[str, object], bool]:
    """Return a tool call's arguments as an object, and whether that is all that was written."""
    try:
        found = msgspec.json.decode(written) if written else {}
    except (msgspec.DecodeError, RecursionError):
        return {}, False
    return (found, True) if isinstance(found, dict) else ({}, False)


def _part(item: object, dropped: Counter[str]) -> dict[str, object] | None:
    kind = text(item, "type")
    if kind == "text":
        return {"type": "text", "text": text(item, "text") or ""}
    url = text(item, "image_url", "url") if kind == "image_url" else None
    media_type = _media_type(url) if url else None
    if media_type is None:
        dropped[f"{kind} of a trajectory"] += 1
        return None
    return {"type": "image", "source": {"media_type": media_type, "path": url}}


def _media_type(url: str) -> str | None:
    if url.startswith("data:"):
        stated = url[len("data:") :].partition(";")[0]
        return stated if stated in _TYPES.values() else None
    # Recorded, so it may be no URL; one with a query is told by its path.
    path = url.partition("?")[0].partition("#")[0].lower()
    return next((kind for suffix, kind in _TYPES.items() if path.endswith(suffix)), None)
