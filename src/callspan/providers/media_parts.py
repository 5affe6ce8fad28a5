"""Media in wire bodies as message parts: by reference, else with bytes, hash and size."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from callspan.providers.wire_json import dig, integer, mapping, number, text
from callspan.record.media_reference import MEDIA_KEY
from callspan.record.messages import Media, Text

_MODALITIES: Final = ("image", "audio", "video")
_PADDED: Final = re.compile("[^=]+=*")


def media(
    modality: str, source: object, *, part: object = None, mime: str | None = None, file_id: str | None = None
) -> Media | None:
    """Return the medium in `source`: a URL, a `data:` URL, base64, or a reference of callspan to removed bytes.

    `part` is the enclosing object, which may have the reference instead. None if neither locates a medium.
    """
    reference = mapping(source, MEDIA_KEY) or mapping(part, MEDIA_KEY)
    if reference is not None:
        mime = text(reference, "mime") or mime
        return _of_reference(_modality(modality, mime), mime, reference, file_id)
    if not isinstance(source, str) or not source:
        return Media(modality=_modality(modality, mime), mime=mime, file_id=file_id) if file_id else None
    if source[:5].lower() == "data:":
        return _inline(modality, source, mime, file_id)
    if "://" in source[:16]:
        return Media(modality=_modality(modality, mime), mime=mime, url=source, file_id=file_id)
    return _of_base64(_modality(modality, mime), mime, source, file_id)


def media_by_kind(entry: dict[str, object], *path: str) -> list[Media]:
    """Return the media in fields that are named after their kind, each a source or, at `path`, an object with one."""
    parts = (media(kind, dig(entry.get(kind), *path), part=entry.get(kind)) for kind in _MODALITIES)
    return [part for part in parts if part is not None]


def media_of_source(block: dict[str, object]) -> Media | Text | None:
    """Return the media in the `source` of a block in Anthropic's form; None if it has no location."""
    source = mapping(block, "source") or {}
    if text(source, "type") == "text":
        content = text(source, "data")
        return None if content is None else Text(text=content)
    data, mime, file_id = source.get("data") or source.get("url"), text(source, "media_type"), text(source, "file_id")
    return media(text(block, "type") or "", data, part=block, mime=mime, file_id=file_id)


def _inline(modality: str, source: str, mime: str | None, file_id: str | None) -> Media:
    head, _, data = source[5:].partition(",")
    mime = head.partition(";")[0].strip().lower() or mime
    if not head.lower().endswith(";base64"):
        data = base64.b64encode(unquote_to_bytes(data.encode("utf-8", "replace"))).decode()
    return _of_base64(_modality(modality, mime), mime, data, file_id)


def _modality(default: str, mime: str | None) -> str:
    """Return the modality: for a file by its MIME type, else by the type of its part."""
    kind = (mime or "").partition("/")[0]
    return kind if default == "document" and kind in _MODALITIES else default


def _of_reference(modality: str, mime: str | None, reference: dict[str, object], file_id: str | None) -> Media:
    """Return the medium of a reference."""
    return Media(
        modality=modality,
        mime=mime,
        sha256=text(reference, "sha256"),
        size=integer(reference, "bytes"),
        seconds=number(reference, "seconds"),
        file_id=file_id,
    )


def _of_base64(modality: str, mime: str | None, data: str, file_id: str | None) -> Media:
    """Return the medium with these bytes, or without bytes if the text is not base64."""
    content = from_base64(data)
    if content is None:
        return Media(modality=modality, mime=mime, file_id=file_id)
    digest = hashlib.sha256(content).hexdigest()
    return Media(modality=modality, mime=mime, sha256=digest, size=len(content), data=data, file_id=file_id)


def from_base64(data: str) -> bytes | None:
    """Return the decoded bytes of a base64 text; None if it is not base64."""
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        return None


def one_base64(encoded: str) -> str:
    """Return joined base64 pieces, each possibly padded, as one base64 text; other text unchanged."""
    pieces = [from_base64(piece) for piece in _PADDED.findall(encoded)]
    return encoded if None in pieces else base64.b64encode(b"".join(filter(None, pieces))).decode()
