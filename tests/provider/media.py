"""Images, speech and transcripts as OpenAI's endpoints answer them, in one piece and as the events of a stream."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from callspan.testing import Reply
from callspan.testing.provider.answer import OPENAI, Answer, StreamEvent, Wire, objects, typed, with_usage, words
from callspan.testing.provider.script import Json

_SIDE = 8
_RATE = 8000
_SECONDS = 0.5
_TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "pcm": "audio/pcm"}
_TEXTS = ("text", "srt", "vtt")


class File(NamedTuple):
    """An answer that is not JSON."""

    content: bytes
    type: str
    """Its media type."""


def png() -> bytes:
    """A black square of eight pixels' side."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\0" * _SIDE) * _SIDE)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _image_usage(reply: Reply) -> Json:
    return {
        "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": reply.input_tokens},
        "output_tokens_details": {"image_tokens": reply.output_tokens, "text_tokens": 0},
    }


def _setting(answer: Answer, name: str, usual: str) -> str:
    given = answer.request.body.get(name)
    return given if isinstance(given, str) and given != "auto" else usual


def _images(answer: Answer) -> Json:
    image = _image(answer)
    count = answer.request.body.get("n")
    body: dict[str, object] = {
        "created": answer.created_s,
        "background": _setting(answer, "background", "opaque"),
        "data": [image] * (int(str(count)) if str(count).isdecimal() else 1),
        "output_format": _setting(answer, "output_format", "png"),
        "quality": _setting(answer, "quality", "high"),
        "size": _setting(answer, "size", f"{_SIDE}x{_SIDE}"),
    }
    return with_usage(body, answer.reply, _image_usage(answer.reply))


def _image(answer: Answer) -> Json:
    revised = {} if answer.reply.text is None else {"revised_prompt": answer.reply.text}
    if answer.request.body.get("response_format") == "url":
        return {"url": "https://images.example.com/scripted.png", **revised}
    return {"b64_json": base64.b64encode(png()).decode(), **revised}


def _image_events(body: Json, answer: Answer) -> list[StreamEvent]:
    """As many partial images as were requested, and the complete ones."""
    kind = "image_edit" if answer.request.path.endswith("/edits") else "image_generation"
    about = {name: body[name] for name in ("background", "output_format", "quality", "size") if name in body}
    about["created_at"] = answer.created_s
    requested = answer.request.body.get("partial_images")
    partial = int(str(requested)) if str(requested).isdecimal() else 0
    events = []
    for image in objects(body.get("data")):
        shown = {"b64_json": image.get("b64_json"), **about}
        events += [typed(f"{kind}.partial_image", **shown, partial_image_index=number) for number in range(partial)]
        usage = body.get("usage")
        counted = {"usage": _without_parts(usage)} if isinstance(usage, Mapping) else {}
        events.append(typed(f"{kind}.completed", **shown, **counted))
    return [event._replace(content=True) for event in events]


def _without_parts(usage: Json) -> Json:
    return {name: value for name, value in usage.items() if name != "output_tokens_details"}


IMAGES = Wire(OPENAI, _images, _image_events)
"""`POST /v1/images/generations`; the text of a reply is the revised prompt."""


def wav() -> bytes:
    """Half a second of silence."""
    data = b"\0\0" * int(_RATE * _SECONDS)
    about = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _RATE, _RATE * 2, 2, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE") + about + struct.pack("<4sI", b"data", len(data)) + data
    )


def _token_usage(reply: Reply) -> Json:
    return {
        "type": "tokens",
        "input_tokens": reply.input_tokens,
        "output_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "input_token_details": {"audio_tokens": reply.input_tokens, "text_tokens": 0},
    }


def _usage_of(answer: Answer) -> Json:
    """Whisper counts seconds, the other models tokens."""
    return {"type": "duration", "seconds": 1} if answer.model.startswith("whisper") else _token_usage(answer.reply)


def _text(answer: Answer) -> str:
    return answer.reply.completions()[0].text or ""


def _transcript(answer: Answer) -> Json:
    body: dict[str, object] = {"text": _text(answer)}
    if answer.request.body.get("response_format") in ("verbose_json", "diarized_json"):
        body |= {"task": "transcribe", "duration": _SECONDS, "language": "english", "segments": []}
    return with_usage(body, answer.reply, _usage_of(answer))


def _transcript_file(answer: Answer) -> File | None:
    if answer.request.body.get("response_format") not in _TEXTS:
        return None
    return File(_text(answer).encode(), "text/plain; charset=utf-8")


def _transcript_events(body: Json, answer: Answer) -> list[StreamEvent]:
    deltas = [typed("transcript.text.delta", delta=word) for word in words(_text(answer))]
    return [*deltas, typed("transcript.text.done", **{name: body[name] for name in ("text", "usage") if name in body})]


TRANSCRIPTIONS = Wire(OPENAI, _transcript, _transcript_events)
"""`POST /v1/audio/transcriptions`: the text of the reply, plain where the request has such a format."""


def _translation(answer: Answer) -> Json:
    return {"text": _text(answer)}


TRANSLATIONS = Wire(OPENAI, _translation)
"""`POST /v1/audio/translations`: the text of the reply, which states no usage."""


def _speech(answer: Answer) -> File:
    """By default the sound is WAV, whatever was requested; the type is the requested one."""
    kind = answer.request.body.get("response_format")
    return File(wav(), _TYPES.get(str(kind), "audio/wav" if kind == "wav" else "audio/mpeg"))


def _speech_body(answer: Answer) -> Json:
    return with_usage({}, answer.reply, _token_usage(answer.reply))


def _speech_events(body: Json, answer: Answer) -> list[StreamEvent]:
    data = wav()
    middle = len(data) // 2
    parts = (data[:middle], data[middle:])
    deltas = [typed("speech.audio.delta", audio=base64.b64encode(part).decode()) for part in parts]
    usage = body.get("usage")
    counters = ("input_tokens", "output_tokens", "total_tokens")
    done = {}
    if isinstance(usage, dict):
        done["usage"] = {name: usage[name] for name in counters if name in usage}
    return [*deltas, typed("speech.audio.done", **done)]


SPEECH = Wire(OPENAI, _speech_body, _speech_events)
"""`POST /v1/audio/speech`: half a second of silence; events with `stream_format="sse"`."""

FILES: dict[Wire, Callable[[Answer], File | None]] = {
    TRANSCRIPTIONS: _transcript_file,
    TRANSLATIONS: _transcript_file,
    SPEECH: _speech,
}
"""The answers that are not JSON, where they are not streamed; None: it is JSON after all."""
