"""Audio frames: websocket messages with audio, recognised by their first characters and counted instead of parsed."""

from __future__ import annotations

import re
from base64 import b64decode
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

import msgspec

from callspan.providers.sockets import MESSAGES, REPEATED, Json
from callspan.providers.wire_json import count, integer, mapping, text
from callspan.record.media_reference import MEDIA_KEY, stated_mime

BYTES: Final = "bytes"
"""Key of the number of audio bytes in the event that stands for an audio message."""
_BASE64: Final = "base64"
"""Key of the audio itself in that event, if it is to be hashed."""
_SAMPLES: Final = {"audio/pcm": (2, 24_000), "audio/pcmu": (1, 8_000), "audio/pcma": (1, 8_000)}
"""Bytes per sample of one channel, and the default sample rate."""


class AudioFrames:
    """Recognises the audio messages of one connection."""

    def __init__(self, *kinds: str, field: str, hashes: bool = False) -> None:
        """`kinds`: the types of their events. `field`: the field with base64. `hashes`: read and hash each message."""
        name, either = r'"event_id"\s*:\s*"[^"]*"\s*,\s*', "|".join(map(re.escape, kinds))
        head = rf'\s*{{\s*(?:{name})?"type"\s*:\s*"({either})"\s*,\s*(?:{name})?'
        self._text = re.compile(head), '"}', "="
        self._bytes = re.compile(head.encode()), b'"}', b"="
        self._field, self._hashes = field, hashes
        self._last: Json = {}
        """The event of the last parsed message, without its audio."""
        self._like: tuple[int, int, Any, Any, Any, Any] = (0, 0, None, "", "", "")
        """Position and text of the fields of that message before its audio, its beginning, end and base64 padding."""
        self._number = self._size = 0
        """Number of messages like it since `repeated`, and their audio bytes."""

    def short_event(self, message: Any) -> Json | None:
        """Return an event with the number of bytes in place of the audio; None for any other message.

        A message that differs from the last only in its audio and event id is `REPEATED`, see `repeated`.
        """
        begin, end, fields, head, tail, padding = self._like
        if message[begin:end] == fields and message.startswith(head) and message.endswith(tail):
            self._number += 1
            self._size += (len(message) - end - 2) * 3 // 4 - message.count(padding, -4)
            return REPEATED
        return None if self._hashes else self._read(message)

    def repeated(self) -> Json | None:
        """Return one event for all messages that were only counted since the last call; None if there were none."""
        if not self._number:
            return None
        number, size, self._number, self._size = self._number, self._size, 0, 0
        return {**self._last, BYTES: size, MESSAGES: number}

    def event_of(self, event: Json) -> Json:
        """Return a parsed event with the number of bytes in place of its audio."""
        if BYTES in event:
            return event
        audio = event.get(self._field)
        size = len(audio) * 3 // 4 - audio.count("=", -2) if isinstance(audio, str) else 0
        fields = {key: value for key, value in event.items() if key != self._field}
        return {**fields, BYTES: size, **({_BASE64: audio} if self._hashes else {})}

    def by_reference(self, item: Any, audio_format: object) -> Any:
        """Return an item with references in place of the audio in its parts."""
        if not isinstance(item, dict) or not isinstance(item.get("content"), list):
            return item
        return {**item, "content": [self._part(part, audio_format) for part in item["content"]]}

    def _part(self, part: Any, audio_format: object) -> Any:
        if not isinstance(part, dict) or not isinstance(part.get(self._field), str):
            return part
        audio = Audio()
        audio.add(self.event_of(part))
        fields = {key: value for key, value in part.items() if key != self._field}
        return {**fields, **audio.reference(audio_format)}

    def _read(self, message: Any) -> Json | None:
        pattern, tail, padding = self._text if isinstance(message, str) else self._bytes
        head = pattern.match(message)
        if head is None:
            return None
        event: Json = {}
        with suppress(ValueError, RecursionError):
            event = msgspec.json.decode(message)
        audio = event.get(self._field)
        if not isinstance(audio, str):
            return None
        event_without_audio, ending = self.event_of(event), f'"{self._field}":"{audio}"}}'
        is_last = message.endswith(ending if isinstance(message, str) else ending.encode("utf-8", "replace"))
        if is_last and not self._number:
            begin, end = head.end(), len(message) - len(audio) - len(tail)
            self._last, self._like = (
                event_without_audio,
                (begin, end, message[begin:end], message[: head.end(1)], tail, padding),
            )
        return event_without_audio


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
            self._hash.update(b64decode(event[_BASE64], validate=True))
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
