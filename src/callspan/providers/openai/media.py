"""Media: requests, responses and streams of OpenAI's endpoints for images, transcripts, translations and speech.

An answer that is no JSON is kept as equivalent JSON: a transcript of any format as `{"text": ...}`, speech as
`{"audio": ...}` with a reference to its bytes. A stream of images is folded into the body that the
endpoint returns without streaming: its complete images, else the last partial one, marked by `"incomplete": true`.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, ClassVar, Final

import msgspec

from callspan.providers.base import ResponseInfo
from callspan.providers.error_kinds import error_in
from callspan.providers.finishing import finish_of
from callspan.providers.fold.entries import Entry
from callspan.providers.fold.events import EventFold, EventTarget
from callspan.providers.fold.merge import merge
from callspan.providers.fold.usage_merge import UsageRule, merge_usage
from callspan.providers.media_parts import from_base64, media
from callspan.providers.openai.base import OpenAIEndpoint
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.openai.usage import usage_of
from callspan.providers.wire_json import (
    Json,
    detached,
    dig,
    items,
    mapping,
    objects,
    text,
    word,
)
from callspan.record.media_reference import HEADER_BYTES, described_reference, stated_mime
from callspan.record.messages import Conversation, Message, Part, Text
from callspan.record.usage import Usage

_INCOMPLETE: Final = "incomplete"
_IMAGE: Final = "b64_json"
_IMAGE_STREAMS: Final = ("image_generation", "image_edit")
_DATA: Final = (("data", "index"),)
_SECONDS: Final = (
    ("usage", "seconds"),
    # DashScope, gateways
    ("usage", "duration"),
    ("usage", "audio_seconds"),
    ("usage", "audio_duration_seconds"),
)
"""Where servers count the seconds of a transcribed sound."""
_LENGTHS: Final = (
    ("duration",),  # `verbose_json` of OpenAI, Groq, Fireworks, vLLM, whisper.cpp
    ("audio_duration",),
    ("metadata", "duration"),
)
"""Where answers without a counter state the length of the sound."""
_SOUNDS: Final = ("audio", "audio_data", "b64")
"""Fields of events with a piece of speech: OpenAI's, Mistral's, Together's."""
_NOT_FIELDS: Final = ("type", "usage", *_SOUNDS)
_HEARD: Final = "conversation.item.input_audio_transcription"
"""Prefix of transcription events in a realtime session."""


class TranscriptFold(EventFold):
    """Joins the events of a transcript, or the pieces of a plain-text one."""

    usage_rule = "last of each"
    targets: ClassVar = {
        "transcript.text.delta": EventTarget((), "delta", "text", "grow", has_body_fields=True),
        "transcript.text.segment": EventTarget((), "", "segment", "grow"),
        "transcript.text.done": EventTarget((), "text", "text", "done", has_body_fields=True),
        f"{_HEARD}.delta": EventTarget((), "delta", "text", "grow", has_body_fields=True),
        f"{_HEARD}.segment": EventTarget((), "", "segment", "grow"),
        f"{_HEARD}.completed": EventTarget((), "transcript", "text", "done", has_body_fields=True),
        None: EventTarget((), "text", "text", "done", has_body_fields=True),
    }

    def __init__(self) -> None:
        super().__init__()
        self._plain = bytearray()

    def add(self, event: object) -> bool:
        """Fold in one event. vLLM's are chunks like those of chat completions."""
        if isinstance(event, dict) and isinstance(choices := event.get("choices"), list):
            fields = {key: value for key, value in event.items() if key not in ("choices", "object")}
            pieces = [text(choice, "delta", "content") or "" for choice in objects({"choices": choices}, "choices")]
            event = {**fields, "type": "transcript.text.delta", "delta": "".join(pieces)}
            self.terminated = self.terminated or any(word(choice, "finish_reason") for choice in choices)
        return super().add(event)

    def add_bytes(self, piece: bytes, mime: str | None) -> None:
        """Add a piece of a transcript that is not JSON."""
        del mime
        self._plain += piece

    def body(self) -> Json | None:
        """Return the transcript so far; None if nothing was received."""
        if self._plain:
            return {"text": self._plain.decode("utf-8", "replace")}
        body = super().body()
        if body is not None and not body.get("text") and (segments := list(objects(body, "segments"))):
            body["text"] = " ".join(text(segment, "text") or "" for segment in segments)
        return body


def _sound_usage(body: object) -> Usage | None:
    """Return the usage of a transcript: tokens, or seconds of audio."""
    usage = usage_of(body) or Usage()
    is_counted = usage.input_tokens is not None or usage.input_audio_seconds is not None
    paths = _SECONDS if is_counted else (*_SECONDS, *_LENGTHS)
    seconds = next((length for path in paths if (length := _seconds(dig(body, *path))) is not None), None)
    if seconds is not None:
        return msgspec.structs.replace(usage, input_audio_seconds=seconds)
    return None if usage == Usage() else usage


def _seconds(value: object) -> float | None:
    """Return a length in seconds, which some servers state as text; None unless it is a finite number from 0."""
    try:
        length = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        return None
    return length if 0 <= length < math.inf else None


class Transcriptions(OpenAIEndpoint):
    """The endpoints for transcriptions and translations: speech to text in its own language or English."""

    message_key = "file"
    response_key = "text"
    response_type = str
    returns_files = True
    _usage = staticmethod(_sound_usage)
    accumulator = TranscriptFold

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the audio with the prompt as a user's message, and the transcript; either may be None."""
        sound = media("audio", dig(request, "file"))
        parts: list[Part] = [] if sound is None else [sound]
        if (prompt := word(request, "prompt")) is not None:
            parts.append(Text(text=prompt))
        transcript = word(response, "text")
        return Conversation(
            input=[Message(role="user", parts=parts)] if parts else [],
            output=[] if transcript is None else [Message(role="assistant", parts=[Text(text=transcript)])],
        )


class SpeechFold:
    """Hashes speech, received as bytes or events, and keeps only its header."""

    usage_rule: ClassVar[UsageRule] = "last of each"
    __slots__ = ("_digest", "_fields", "_header", "_mime", "_size", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._digest = hashlib.sha256()
        self._fields: dict[str, Any] = {}
        self._header = b""
        self._mime: str | None = None
        self._size = 0

    def add(self, chunk: object) -> bool:
        """Fold in one event; True if it carried audio."""
        if not isinstance(chunk, dict):
            return False
        if (error := error_in(chunk)) is not None:
            self._fields.setdefault("error", detached(error))
            return False
        kind, encoded = text(chunk, "type") or "", next(filter(None, (word(chunk, name) for name in _SOUNDS)), None)
        if encoded is not None:
            sound = from_base64(encoded)
            if sound is None:
                return False
            self.add_bytes(sound, None)
        self.complete = self.complete or kind.endswith(".done")
        merge(self._fields, {key: value for key, value in chunk.items() if key not in _NOT_FIELDS}, last=True)
        if (usage := mapping(chunk, "usage")) is not None:
            self._fields["usage"] = merge_usage(self._fields.get("usage") or {}, usage, self.usage_rule)
        return encoded is not None

    def add_bytes(self, piece: bytes, mime: str | None) -> None:
        """Add a piece of the audio; `mime` is its type according to the response."""
        self._digest.update(piece)
        self._size += len(piece)
        self._mime = mime
        if len(self._header) < HEADER_BYTES:
            self._header += piece[: HEADER_BYTES - len(self._header)]

    def body(self) -> dict[str, object] | None:
        """Return the reference to the audio so far, with its usage; None if nothing was received."""
        body = detached(self._fields)
        if self._size:
            body["audio"] = described_reference(self._digest.hexdigest(), self._size, self._header, self._mime)
        return body or None


class Speech(OpenAIEndpoint):
    """The speech endpoint. Stateless."""

    response_key = "audio"
    response_type = dict
    returns_files = True
    is_folded = True
    """Whether a JSON answer, as of Mistral, is read like an event, so that its sound is not kept."""
    accumulator = SpeechFold

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the text as a user's message, the instructions, and the audio; either may be None."""
        sound = media("audio", dig(response, "audio"))
        instructions = word(request, "instructions")
        return Conversation(
            system=[] if instructions is None else [Text(text=instructions)],
            input=prompt_messages(dig(request, "input")),
            output=[] if sound is None else [Message(role="assistant", parts=[sound])],
        )


class ImageFold(EventFold):
    """Joins the events of an image stream. Keeps one partial image at a time."""

    entries = "data"
    usage_rule = "last of each"
    ends = frozenset(f"{kind}.completed" for kind in _IMAGE_STREAMS)
    has_one_end = False  # there is one for each image
    targets: ClassVar = {
        **{
            f"{kind}.partial_image": EventTarget(_DATA, _IMAGE, _IMAGE, "last", has_body_fields=True)
            for kind in _IMAGE_STREAMS
        },
        **{
            f"{kind}.completed": EventTarget(_DATA, _IMAGE, _IMAGE, "whole", has_body_fields=True)
            for kind in _IMAGE_STREAMS
        },
        None: EventTarget((), "", "", "done"),
    }

    def __init__(self) -> None:
        super().__init__()
        self._completed = 0
        """The number of complete images. Events do not say which image they are of: the next one."""

    def add(self, event: object) -> bool:
        """Fold in one event."""
        kind = word(event, "type")
        if isinstance(event, dict) and kind in self.targets and kind is not None:
            event = {"index": self._completed, **event}
            self._completed += kind in self.ends
        return super().add(event)

    def _is_cut(self, entry: Entry, fields: Json) -> bool:
        del fields
        return not entry.settled


def _image_usage(body: object) -> Usage | None:
    """Return the usage of an answer with the number of its complete images.

    Output without details is all image tokens, as in events and older answers. The usage of the SVG model (`svg_usage`)
    has other prices and is kept only in `raw`.
    """
    stated_usage = usage_of(body)
    count = sum(1 for image in items(body, "data") if mapping(image) is not None and not dig(image, _INCOMPLETE))
    if stated_usage is None and not count:
        return None
    usage = stated_usage or Usage()
    raw, svg = usage.raw, mapping(body, "svg_usage")
    if svg is not None:
        raw = {**(raw or {}), "svg_usage": detached(svg)}
    image_tokens = usage.output_image_tokens
    if image_tokens is None and usage.output_text_tokens is None:
        image_tokens = usage.output_tokens
    return msgspec.structs.replace(usage, output_images=count, output_image_tokens=image_tokens, raw=raw)


class Images(OpenAIEndpoint):
    """The endpoints that generate or edit images. Stateless."""

    message_key = "prompt"
    response_key = "data"
    accumulator = ImageFold
    _usage = staticmethod(_image_usage)

    def response_info(self, body: object) -> ResponseInfo:
        """Return the info of a response, and whether a filter held a picture back."""
        info = super().response_info(body)
        reasons = [reason for image in objects(body, "data") if (reason := word(image, "finish_reason")) is not None]
        is_refused = info.response.refused or finish_of(tuple(reasons)).refused or _is_filtered(body)
        response = msgspec.structs.replace(
            info.response, finish_reasons=[*info.response.finish_reasons, *reasons], refused=is_refused
        )
        return msgspec.structs.replace(info, response=response) if is_refused or reasons else info

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the prompt with the images and masks as a user's message, and each image as an answer."""
        images = [*_listed(request, "image"), *_listed(request, "images"), *_listed(request, "mask")]
        prompt = word(request, "prompt")
        parts: list[Part] = [] if prompt is None else [Text(text=prompt)]
        parts += [part for image in images if (part := media("image", image)) is not None]
        message = [Message(role="user", parts=parts)] if parts else []
        return Conversation(input=message, output=_outputs(response))


def _is_filtered(body: object) -> bool:
    """Return whether the answer says so itself: xAI by a flag of each picture, Azure by the verdicts of its filters."""
    pictures = list(objects(body, "data"))
    verdicts = [
        verdict
        for holder in (*pictures, *objects(body, "prompt_filter_results"))
        for name in ("content_filter_results", "prompt_filter_results")
        for verdict in (mapping(holder, name) or {}).values()
    ]
    return any(image.get("respect_moderation") is False for image in pictures) or any(
        dig(verdict, "filtered") is True for verdict in verdicts
    )


class ImageVariations(Images):
    """The endpoint that varies an image. Stateless."""

    message_key = "image"


def _listed(request: object, key: str) -> list[object]:
    """Return the files of a form: one, or a list."""
    files = dig(request, key)
    return files if isinstance(files, list) else [] if files is None else [files]


def _outputs(body: object) -> list[Message]:
    """Return one message per image, with the revised prompt if the provider returns it."""
    messages, mime = [], stated_mime(body)
    for image in objects(body, "data"):
        media_part = media("image", image.get(_IMAGE) or image.get("url"), mime=mime)
        parts: list[Part] = [] if media_part is None else [media_part]
        if (revised := word(image, "revised_prompt")) is not None:
            parts.append(Text(text=revised))
        messages.append(Message(role="assistant", parts=parts))
    return messages
