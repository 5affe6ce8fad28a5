"""Media references: replace the bytes of a media file by its hash, size and type.

The reference to a WAV or FLAC file also has its duration.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Final, TypeAlias

MEDIA_KEY: Final = "callspan_media"
"""Key of the object `{sha256, bytes, mime, seconds}` that replaces a file."""
HEADER_BYTES: Final = 65_536
"""Number of bytes at the start of a file that `header_fields` needs."""

_TYPES: Final = (
    ("media_type", ""), ("mime_type", ""), ("mime", ""), ("format", "audio"), ("output_format", "image"),
)  # fmt: skip
"""Fields that state the media type of a file, and the first part of the type where the field has only a format."""
_SUBTYPES: Final = {"g711_alaw": "pcma", "g711_ulaw": "pcmu", "mp3": "mpeg", "pcm16": "pcm", "svg": "svg+xml"}
_Fields: TypeAlias = dict[str, object]


def stated_mime(holder: object) -> str | None:
    """Return the media type that an object states for its file, or None."""
    if not isinstance(holder, dict):
        return None
    for name, kind in _TYPES:
        mime = holder.get(name)
        if isinstance(mime, str) and mime:
            return mime if "/" in mime or not kind else f"{kind}/{_SUBTYPES.get(mime, mime)}"
    return None


def media_reference(data: bytes, mime: str | None = None, default_mime: str | None = None) -> dict[str, object]:
    """Return the reference to a file in memory.

    `mime` is its declared type; without it the type comes from the header, else it is `default_mime`.
    """
    return described_reference(hashlib.sha256(data).hexdigest(), len(data), data[:HEADER_BYTES], mime, default_mime)


def described_reference(
    sha256: str, size: int, header: bytes, mime: str | None, default_mime: str | None = None
) -> dict[str, object]:
    """Return the reference to a file by its hash, size and first bytes; other arguments as in `media_reference`."""
    header_values = header_fields(header, size)
    fields: dict[str, object] = {"sha256": sha256, "bytes": size, "mime": default_mime, **header_values}
    if mime is not None:
        fields["mime"] = mime
    return {MEDIA_KEY: {name: value for name, value in fields.items() if value is not None}}


def header_fields(header: bytes, size: int | None) -> dict[str, object]:
    """Return `mime` and `seconds`, as far as the header of a file states them. Never raises.

    `size` is the whole file's: the header of a streamed WAV recording does not state its length.
    """
    try:
        for magic, at, mime, reader in _HEADERS:
            if header.startswith(magic, at):
                return {"mime": mime, **({} if reader is None else reader(header, size))}
    except (struct.error, ZeroDivisionError):
        return {"mime": mime}
    return {}


def _wav(header: bytes, size: int | None) -> _Fields:
    at, rate = 12, 0
    while at + 8 <= len(header):
        name, length = struct.unpack_from("<4sI", header, at)
        at += 8
        if name == b"data":
            data_bytes = length if size is None else min(length, size - at)
            return {"seconds": round(data_bytes / rate, 3)}
        if name == b"fmt ":
            (rate,) = struct.unpack_from("<I", header, at + 8)
        at += length + length % 2
    return {}


def _flac(header: bytes, _: int | None) -> _Fields:
    bits = int.from_bytes(header[18:26], "big")
    rate, samples = bits >> 44, bits & 0xF_FFFF_FFFF
    return {"seconds": round(samples / rate, 3)} if samples else {}


_HEADERS: Final[tuple[tuple[bytes, int, str, Callable[[bytes, int | None], _Fields] | None], ...]] = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png", None),
    (b"\xff\xd8\xff", 0, "image/jpeg", None),
    (b"WEBPVP8", 8, "image/webp", None),
    (b"GIF8", 0, "image/gif", None),
    (b"<svg", 0, "image/svg+xml", None),
    (b"WAVE", 8, "audio/wav", _wav),
    (b"fLaC", 0, "audio/flac", _flac),
    (b"OggS", 0, "audio/ogg", None),
    (b"ID3", 0, "audio/mpeg", None),
    (b"\xff\xfb", 0, "audio/mpeg", None),
    (b"\xff\xf3", 0, "audio/mpeg", None),
    (b"ftypM4A", 4, "audio/mp4", None),
    (b"ftyp", 4, "video/mp4", None),
    (b"%PDF-", 0, "application/pdf", None),
    (b"\x1aE\xdf\xa3", 0, "video/webm", None),
)
"""Magic bytes, their offset, the media type, and the header's reader; the first match wins."""
