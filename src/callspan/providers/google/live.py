"""Live: turns of a live session of Gemini, as requests and answers of `generateContent`.

A session has no such bodies: the request is its settings and what was sent since the turn before, the answer the parts
of its messages. Audio is counted, and what was said is text.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callspan.providers.base import ResponseInfo
from callspan.providers.google.generate_content import GenerateContent, GenerateContentFold
from callspan.providers.google.usage import added, estimated
from callspan.providers.streamed_audio import BYTES, Audio
from callspan.providers.wire_json import Json, count, flag, mapping, objects, text, word

BLOB: Final = "inlineData"
INTERRUPTED: Final = "INTERRUPTED"
"""The finish reason of an answer that the user interrupted."""
_TOOL_CALL: Final = "TOOL_CALL"
"""The finish reason of an answer that waits for the results of functions. The wire does not name it."""
_STOP: Final = "STOP"
_UNSPECIFIED: Final = "TURN_COMPLETE_REASON_UNSPECIFIED"
_OF_CANDIDATE: Final = ("groundingMetadata", "urlContextMetadata")
_USAGES: Final = "usageMessages"
"""Number of the messages with a usage, in a body with more than one."""


class LiveFold(GenerateContentFold):
    """Joins the messages of a turn. Each usage counts one run of the model: they add up."""

    def __init__(self) -> None:
        super().__init__()
        self._usages = 0
        self._audio: dict[str, Audio] = {}
        """The audio of the answer by its type."""

    def add(self, message: object) -> bool:
        """Fold in one message; return True if it carried text, audio or a call of a function."""
        if not isinstance(message, dict):
            return False
        content = mapping(message, "serverContent") or {}
        parts, has_audio = self._parts(content)
        if words := text(content, "outputTranscription", "text"):
            parts.append({"text": words})
        parts += [{"functionCall": call} for call in objects(message, "toolCall", "functionCalls")]
        candidate: Json = {name: content[name] for name in _OF_CANDIDATE if name in content}
        if (reason := self._finish(message, content)) is not None:
            candidate["finishReason"] = reason
        if parts:
            candidate["content"] = {"role": "model", "parts": parts}
        chunk: Json = {"usageMetadata": message["usageMetadata"]} if "usageMetadata" in message else {}
        if candidate or has_audio:
            chunk["candidates"] = [candidate]
        return super().add(chunk) or has_audio

    def _parts(self, content: Json) -> tuple[list[Any], bool]:
        """Return the parts of a message without its audio, and whether it has any."""
        parts, has_audio = list[Any](), False
        for part in objects(content, "modelTurn", "parts"):
            blob = mapping(part, BLOB)
            if blob is None or BYTES not in blob:
                parts.append(part)
            else:
                self._audio.setdefault(word(blob, "mimeType") or "", Audio()).add(blob)
                has_audio = True
        return parts, has_audio

    def _finish(self, message: Json, content: Json) -> str | None:
        """Return why the turn ended with this message; None if it goes on, or had ended before."""
        if self.complete:
            return None
        if "toolCall" in message:
            return _TOOL_CALL
        if flag(content, "interrupted") is True:
            return INTERRUPTED
        if flag(content, "turnComplete") is not True:
            return None
        reason = word(content, "turnCompleteReason")
        return _STOP if reason in (None, _UNSPECIFIED) else reason

    def _add_usage(self, counters: object) -> None:
        if isinstance(counters, dict):
            self._usages += 1
            self._usage = self._largest = added(self._usage, counters)

    def body(self) -> Json | None:
        """Return the answer so far; None if nothing was received."""
        body = super().body()
        if body is None:
            return None
        if self._audio and body.get("candidates"):
            content = body["candidates"][0]["content"]
            content["parts"] = [*content["parts"], *(_sound(mime, audio) for mime, audio in self._audio.items())]
        return {**body, _USAGES: self._usages} if self._usages > 1 else body


def _sound(mime: str, audio: Audio) -> Json:
    """Return the part for the audio of an answer. Its type states the rate: `audio/pcm;rate=24000`."""
    kind, _, parameter = mime.partition(";")
    name, _, rate = parameter.strip().partition("=")
    stated = {"type": kind or None, "rate": int(rate) if name == "rate" and rate.isdecimal() else None}
    return {BLOB: {"mimeType": kind or None, "data": audio.reference(stated)}}


class BidiGenerateContent(GenerateContent):
    """A turn of a live session. Stateless."""

    accumulator = LiveFold

    def response_info(self, body: object) -> ResponseInfo:
        """Return the info of an answer; a sum of several usages is estimated, as they may overlap."""
        info = super().response_info(body)
        if info.usage is None or (count(body, _USAGES) or 0) < 2:  # noqa: PLR2004 - a single one is exact
            return info
        return msgspec.structs.replace(info, usage=estimated(info.usage))
