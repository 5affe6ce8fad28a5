"""Audio frames: messages of a websocket that carry audio, known by their first characters and counted, never parsed."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from callspan.providers.sockets import Json
from callspan.providers.wire_json import integer, mapping, text
from callspan.record.media_reference import MEDIA_KEY

BYTES: Final = "bytes"
"""How many bytes of audio there are, in the event that stands for a message of audio."""
_MAX_HEAD: Final = 512
_MAX_KNOWN: Final = 64
_SAMPLES: Final = {"audio/pcm": (2, 24_000), "audio/pcmu": (1, 8_000), "audio/pcma": (1, 8_000)}
"""Bytes of a sample of one channel, and how many a second has where the format does not say."""
_OLD_FORMATS: Final = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}


class AudioFrames:
    """Recognises the messages of audio of one connection."""

    def __init__(self, kinds: str, field: str, needs: str = "type") -> None:
        """`kinds`: a pattern of the types of their events. `field`: the one with base64. `needs`: one before it."""
        name = r'"event_id"\s*:\s*"[^"]*"\s*,\s*'
        head = rf'\s*{{\s*(?:{name})?"type"\s*:\s*"({kinds})"\s*,\s*(?:{name})?'
        self._text = re.compile(head), f'"{field}"', '"', "="
        self._bytes = re.compile(head.encode()), f'"{field}"'.encode(), b'"', b"="
        self._needs = needs
        self._known: dict[Any, Json | None] = {}
        """The other fields of an event, by their text: those of the messages of one item are the same."""

    def counted(self, message: Any) -> Json | None:  # noqa: ANN401 - text or bytes
        """Return an event with the number of bytes in place of the audio; None for any other message."""
        pattern, field, quote, padding = self._text if isinstance(message, str) else self._bytes
        head = pattern.match(message)
        if head is None:
            return None
        at = message.find(field, head.end(), _MAX_HEAD)
        begin = message.find(quote, at + len(field)) + 1
        end = message.find(quote, begin)
        if at < 0 or begin <= 0 or end < 0:
            return None
        key = head[1], message[head.end() : at]
        if key not in self._known:
            self._learn(*key)
        event = self._known.get(key)
        padded = message.count(padding, max(begin, end - 2), end)
        return None if event is None else {**event, BYTES: (end - begin) * 3 // 4 - padded}

    def _learn(self, kind: Any, fields: Any) -> None:  # noqa: ANN401 - text or bytes
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        name, others = (one if isinstance(one, str) else one.decode("utf-8", "replace") for one in (kind, fields))
        try:
            event = msgspec.json.decode(f'{{"type":"{name}",{others.rstrip(", ")}}}'.replace(",}", "}"))
        except msgspec.DecodeError:
            event = {}
        self._known[kind, fields] = event if self._needs in event else None


def counted_event(event: Json, field: str) -> Json:
    """Return a parsed event with the number of bytes in place of its audio, which is in `field`."""
    audio = event.get(field)
    size = len(audio) * 3 // 4 - audio.count("=", -2) if isinstance(audio, str) else 0
    return {**{key: value for key, value in event.items() if key != field}, BYTES: size}


def mime_of(audio_format: object) -> str | None:
    """Return the MIME type of a format, which is an object or one of the names of the beta."""
    name = text(audio_format, "type") if mapping(audio_format) is not None else audio_format
    return _OLD_FORMATS.get(name, name) if isinstance(name, str) else None


def audio_reference(audio_format: object, size: int | None, seconds: float | None = None) -> Json:
    """Return the reference that stands for audio in a body: its bytes, type and seconds, as far as they are known."""
    mime = mime_of(audio_format)
    width, rate = _SAMPLES.get(mime or "", (0, 0))
    rate = integer(audio_format, "rate") or rate
    if seconds is None and width and rate > 0 and size is not None:
        seconds = round(size / width / rate, 3)
    known = {"bytes": size, "mime": mime, "seconds": seconds}
    return {MEDIA_KEY: {name: value for name, value in known.items() if value is not None}}
