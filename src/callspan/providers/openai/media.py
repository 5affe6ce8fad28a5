"""Media in OpenAI's messages: where an image, sound or file is, or what its bytes were, never the bytes."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final
from urllib.parse import unquote_to_bytes

from callspan.fail_open import ours
from callspan.providers.json_readers import dig, integer, mapping, text
from callspan.record.messages import Media

REFERENCE: Final = "callspan_media"
"""Key under which a policy left `{sha256, mime, bytes}` in place of the data."""

_MODALITIES: Final = ("image", "audio", "video")
_FORMATS: Final = {"mp3": "audio/mpeg", "pcm16": "audio/pcm"}


def media(
    modality: str, source: object, *, part: object = None, mime: str | None = None, file_id: str | None = None
) -> Media | None:
    """Return the medium that `source` is: a URL, a `data:` URL, base64, or a reference of ours.

    `part` is the object around it, which may hold the reference instead. None when nothing says where it is.
    """
    found = mapping(source, REFERENCE) or mapping(part, REFERENCE)
    if found is not None:
        mime = text(found, "mime") or mime
        return Media(
            modality=_modality(modality, mime),
            mime=mime,
            sha256=text(found, "sha256"),
            size=integer(found, "bytes"),
            file_id=file_id,
        )
    if not isinstance(source, str) or not source:
        return Media(modality=_modality(modality, mime), mime=mime, file_id=file_id) if file_id else None
    if source[:5].lower() == "data:":
        return _inline(modality, source, mime, file_id)
    if "://" in source[:16]:
        return Media(modality=_modality(modality, mime), mime=mime, url=source, file_id=file_id)
    return _described(modality, mime, _decoded(source), file_id)


def audio_mime(sound: object) -> str | None:
    """Return the MIME type of an `input_audio` object by its `format`, or None."""
    audio_format = text(sound, "format")
    return _FORMATS.get(audio_format, f"audio/{audio_format}") if audio_format else None


def url_of(value: object) -> object:
    """Return the URL of an `image_url` and its like, which stands there as text or as an object with `url`."""
    return dig(value, "url") if mapping(value) is not None and mapping(value, REFERENCE) is None else value


def _inline(modality: str, source: str, mime: str | None, file_id: str | None) -> Media:
    head, _, data = source[5:].partition(",")
    mime = head.partition(";")[0].strip().lower() or mime
    content = _decoded(data) if head.lower().endswith(";base64") else unquote_to_bytes(data.encode("utf-8", "replace"))
    return _described(modality, mime, content, file_id)


def _described(modality: str, mime: str | None, content: bytes | None, file_id: str | None) -> Media:
    kind = _modality(modality, mime)
    if content is None:
        return Media(modality=kind, mime=mime, file_id=file_id)
    digest = hashlib.sha256(content).hexdigest()
    return Media(modality=kind, mime=mime, sha256=digest, size=len(content), file_id=file_id)


def _decoded(data: str) -> bytes | None:
    try:
        return base64.b64decode(data, validate=True)
    except ours(binascii.Error, ValueError):
        return None


def _modality(default: str, mime: str | None) -> str:
    """The modality by the MIME type for a file, else as its part names it."""
    kind = (mime or "").partition("/")[0]
    return kind if default == "document" and kind in _MODALITIES else default
