"""Realtime: bodies of responses in a realtime session, which follow the Responses API with audio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from callspan.providers.base import ResponseInfo
from callspan.providers.fold.events import EventTarget
from callspan.providers.openai.responses import CONTENT, Responses, ResponsesFold
from callspan.providers.streamed_audio import BYTES, Audio
from callspan.providers.wire_json import Json, count, dig, mapping, word
from callspan.record.media_reference import MEDIA_KEY
from callspan.record.messages import Conversation

_AUDIO: Final = ("output_audio", "audio")
_DONE: Final = "response.done"
_TEXTS: Final = (
    ("text", "text", ("message", "text")),
    ("output_audio_transcript", "transcript", ("message", "output_audio")),
    ("audio_transcript", "transcript", ("message", "audio")),
)
_AUDIO_KEY: Final = "sound"
"""Key of the reference to the audio of a part so far, in an event with audio."""
_PARTS: Final = ("response.content_part.added", "response.content_part.done")
"""Events with parts of other types than the parts of items."""


class RealtimeFold(ResponsesFold):
    """Joins the events of a response and counts its audio."""

    ends = frozenset({_DONE})
    defaults: ClassVar = {"object": "realtime.response", "output": []}
    targets: ClassVar = {
        **{kind: target for kind, target in ResponsesFold.targets.items() if kind not in _PARTS},
        _DONE: EventTarget((), "response", "", "done"),
        **{
            f"response.{text}.delta": EventTarget(CONTENT, "delta", name, "grow", kinds) for text, name, kinds in _TEXTS
        },
        **{
            f"response.{kind}.delta": EventTarget(CONTENT, _AUDIO_KEY, "", "last", ("message", kind)) for kind in _AUDIO
        },
        **{f"response.{text}.done": EventTarget(CONTENT, name, name, "whole", kinds) for text, name, kinds in _TEXTS},
    }

    def __init__(self) -> None:
        super().__init__()
        self._audio: dict[tuple[str | int | None, int | None], Audio] = {}
        """The audio so far, by id or else index of its item, and index of its part."""

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried text, audio or a part of a tool call."""
        if type(event) is not dict or BYTES not in event:
            return ResponsesFold.add(self, event)
        item = word(event, "item_id") or count(event, "output_index")
        audio = self._audio.setdefault((item, count(event, "content_index")), Audio())
        audio.add(event)
        audio_format = dig(self._body, "audio", "output", "format") or dig(self._body, "output_audio_format")
        ResponsesFold.add(self, {**event, _AUDIO_KEY: audio.reference(audio_format)})
        return True


class Realtime(Responses):
    """A response of a realtime session. Stateless."""

    accumulator = RealtimeFold
    content = Responses.content | {"audio", "input_audio_transcription"}  # which may have a prompt

    def response_info(self, body: object) -> ResponseInfo:
        """Return the info of a response. Its reason and error are in `status_details`. Total."""
        return super().response_info(_with_reason(body))

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, with transcript and audio as parts; either may be None or any JSON."""
        request_with_audio = (
            {**request, "input": _split_audio(request.get("input"))} if isinstance(request, dict) else request
        )
        answer = _with_reason(response)
        return super().conversation(
            request_with_audio, {**answer, "output": _split_audio(answer.get("output"))} if answer else response
        )


def _with_reason(body: object) -> Json:
    """Return a response with its reason and error in the places of the Responses API."""
    if not isinstance(body, dict):
        return {}
    details = mapping(body, "status_details")
    error = body.get("error") or dig(details, "error")
    return body if details is None else {**body, "incomplete_details": details, "error": error}


def _split_audio(items: object) -> Any:
    """Return items. Each part with a transcript is split into the text, and the audio if it is referenced."""
    if not isinstance(items, list):
        return items
    return [
        {**item, "content": list(_parts(item["content"]))}
        if isinstance(item, dict) and isinstance(item.get("content"), list)
        else item
        for item in items
    ]


def _parts(content: list[object]) -> Iterator[object]:
    for part in content:
        if not isinstance(part, dict) or "audio" not in str(part.get("type")):
            yield part
            continue
        if part.get("transcript"):
            yield {"type": "text", "text": part["transcript"]}
        if MEDIA_KEY in part:
            yield {"type": "input_audio", MEDIA_KEY: part[MEDIA_KEY]}
