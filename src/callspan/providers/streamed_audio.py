"""Streamed audio: what replaces the base64 in the messages of a websocket, and the reference to all of one answer."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
from typing import Final

from callspan.providers.wire_json import Json, count, integer, mapping, text
from callspan.record.media_reference import MEDIA_KEY, stated_mime

BYTES: Final = "bytes"
"""Key of the number of audio bytes in the event that stands for an audio message."""
BASE64: Final = "base64"
"""Key of the audio itself in that event, if it is to be hashed."""
_SAMPLES: Final = {"audio/pcm": (2, 24_000), "audio/pcmu": (1, 8_000), "audio/pcma": (1, 8_000)}
"""Bytes per sample of one channel, and the default sample rate."""


def counted_audio(audio: object, *, hashes: bool) -> Json:
    """Return what replaces base64 in an event: its number of bytes, and itself if it is to be hashed."""
    size = len(audio) * 3 // 4 - audio.count("=", -2) if isinstance(audio, str) else 0
    return {BYTES: size, **({BASE64: audio} if hashes else {})}


class Audio:
    """The audio of one part. Its bytes are counted, and hashed if the events contain them."""

    def __init__(self) -> None:
        self._size = 0
        self._hash = sha256()
        self._is_hashed = True

    def add(self, event: Json) -> None:
        """Add the event of an audio message."""
        self._size += count(event, BYTES) or 0
        try:
            self._hash.update(b64decode(event[BASE64], validate=True))
        except (KeyError, TypeError, ValueError):
            self._is_hashed = False

    def reference(self, audio_format: object) -> Json:
        """Return the reference to the audio for a body."""
        return audio_reference(audio_format, self._size, sha256=self._hash.hexdigest() if self._is_hashed else None)


def _mime_of(audio_format: object) -> str | None:
    """Return the MIME type of a format, which is an object or, in the beta, a name."""
    name = text(audio_format, "type") if mapping(audio_format) is not None else audio_format
    return stated_mime({"format": name})


def audio_reference(
    audio_format: object, size: int | None, seconds: float | None = None, sha256: str | None = None
) -> Json:
    """Return the reference to audio in a body: its hash, size, type and seconds, as far as known."""
    mime = _mime_of(audio_format)
    width, rate = _SAMPLES.get(mime or "", (0, 0))
    rate = integer(audio_format, "rate") or rate
    if seconds is None and width and rate > 0 and size is not None:
        seconds = round(size / width / rate, 3)
    fields = {"sha256": sha256, "bytes": size, "mime": mime, "seconds": seconds}
    return {MEDIA_KEY: {name: value for name, value in fields.items() if value is not None}}
