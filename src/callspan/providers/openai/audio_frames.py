"""Audio frames: websocket messages with audio, recognised by their first characters and counted instead of parsed."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import msgspec

from callspan.providers.sockets import MESSAGES, REPEATED
from callspan.providers.streamed_audio import BYTES, Audio, counted_audio
from callspan.providers.wire_json import Json


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
        fields = {key: value for key, value in event.items() if key != self._field}
        return {**fields, **counted_audio(audio, hashes=self._hashes)}

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
