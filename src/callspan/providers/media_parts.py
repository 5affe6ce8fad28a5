"""Media in wire bodies as parts of messages: their reference in the record, else hash and size of their bytes."""

from __future__ import annotations

import base64
import hashlib

from callspan.providers.wire_json import integer, number, text
from callspan.record.messages import Media


def of_reference(modality: str, mime: str | None, reference: dict[str, object], file_id: str | None = None) -> Media:
    """Return the medium that the record has a reference to."""
    return Media(
        modality=modality,
        mime=mime,
        sha256=text(reference, "sha256"),
        size=integer(reference, "bytes"),
        width=integer(reference, "width"),
        height=integer(reference, "height"),
        seconds=number(reference, "seconds"),
        file_id=file_id,
    )


def of_content(modality: str, mime: str | None, content: bytes | None, file_id: str | None = None) -> Media:
    """Return the medium with these bytes; None: unknown ones."""
    if content is None:
        return Media(modality=modality, mime=mime, file_id=file_id)
    digest = hashlib.sha256(content).hexdigest()
    return Media(modality=modality, mime=mime, sha256=digest, size=len(content), file_id=file_id)


def from_base64(data: str) -> bytes | None:
    """Return the bytes that a text has in base64; None if it is no base64."""
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        return None
