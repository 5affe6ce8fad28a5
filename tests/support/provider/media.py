"""Images, speech and transcripts: forms that send files, and answers of OpenAI in one piece and as events."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Callable
from email.parser import BytesHeaderParser
from email.policy import HTTP
from typing import Any, NamedTuple

from callspan.testing import Reply
from callspan.testing.provider.answer import OPENAI, Answer, StreamEvent, Wire, objects, typed, with_usage, words
from callspan.testing.provider.script import Json

_TEXTS = ("text", "srt", "vtt")


class File(NamedTuple):
    """An answer that is not JSON."""

    content: bytes
    type: str
    """Its media type."""


PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAADElEQVR4nGNgoA4AAABIAAEuuDx+AAAAAElFTkSuQmCC")
"""A black square of eight pixels' side."""


def _image_usage(reply: Reply) -> Json:
    return {
        **_counters(reply),
        "input_tokens_details": {"image_tokens": 0, "text_tokens": reply.input_tokens},
        "output_tokens_details": {"image_tokens": reply.output_tokens, "text_tokens": 0},
    }


def _counters(reply: Reply) -> Json:
    total = reply.input_tokens + reply.output_tokens
    return {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens, "total_tokens": total}


def _settings(answer: Answer) -> Json:
    """What an answer repeats of its request."""
    sent = answer.request.body
    return {name: sent[name] for name in ("background", "output_format", "quality", "size") if name in sent}


def _images(answer: Answer) -> Json:
    revised = {} if answer.reply.text is None else {"revised_prompt": answer.reply.text}
    image = {"b64_json": base64.b64encode(PNG).decode(), **revised}
    count = int(str(answer.request.body.get("n") or 1))
    body = {"created": answer.created_s, "data": [image] * count, **_settings(answer)}
    return with_usage(body, answer.reply, _image_usage(answer.reply))


def _image_events(body: Json, answer: Answer) -> list[StreamEvent]:
    """As many partial images as were requested, and the complete ones."""
    kind = "image_edit" if answer.request.path.endswith("/edits") else "image_generation"
    partial = int(str(answer.request.body.get("partial_images") or 0))
    usage: Any = body.get("usage") or {}
    counted = {name: value for name, value in usage.items() if name != "output_tokens_details"}
    events = []
    for image in objects(body.get("data")):
        shown = {"b64_json": image.get("b64_json"), "created_at": answer.created_s, **_settings(answer)}
        events += [typed(f"{kind}.partial_image", **shown, partial_image_index=number) for number in range(partial)]
        events.append(typed(f"{kind}.completed", **shown, **({"usage": counted} if counted else {})))
    return [event._replace(content=True) for event in events]


IMAGES = Wire(OPENAI, _images, _image_events)
"""`POST /v1/images/generations`; the text of a reply is the revised prompt."""


def wav() -> bytes:
    """Half a second of silence."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    return made.getvalue()


def _text(answer: Answer) -> str:
    return answer.reply.completions()[0].text or ""


def _transcript(answer: Answer) -> Json:
    """Whisper counts seconds, the other models tokens."""
    usage: Json = {"type": "duration", "seconds": 1}
    if not answer.model.startswith("whisper"):
        details = {"audio_tokens": answer.reply.input_tokens, "text_tokens": 0}
        usage = {"type": "tokens", **_counters(answer.reply), "input_token_details": details}
    return with_usage({"text": _text(answer)}, answer.reply, usage)


def _transcript_file(answer: Answer) -> File | None:
    if answer.request.body.get("response_format") not in _TEXTS:
        return None
    return File(_text(answer).encode(), "text/plain; charset=utf-8")


def _transcript_events(body: Json, answer: Answer) -> list[StreamEvent]:
    deltas = [typed("transcript.text.delta", delta=word) for word in words(_text(answer))]
    return [*deltas, typed("transcript.text.done", **body)]


TRANSCRIPTIONS = Wire(OPENAI, _transcript, _transcript_events)
"""`POST /v1/audio/transcriptions`: the text of the reply, plain where the request has such a format."""

TRANSLATIONS = Wire(OPENAI, lambda answer: {"text": _text(answer)})
"""`POST /v1/audio/translations`: the text of the reply, which states no usage."""


def _speech(answer: Answer) -> File:
    """The sound is WAV, whatever was requested."""
    return File(wav(), "audio/wav")


def _speech_events(body: Json, answer: Answer) -> list[StreamEvent]:
    data = wav()
    middle = len(data) // 2
    deltas = [
        typed("speech.audio.delta", audio=base64.b64encode(part).decode()) for part in (data[:middle], data[middle:])
    ]
    return [*deltas, typed("speech.audio.done", **body)]


SPEECH = Wire(OPENAI, lambda answer: with_usage({}, answer.reply, _counters(answer.reply)), _speech_events)
"""`POST /v1/audio/speech`: half a second of silence; events with `stream_format="sse"`."""

FILES: dict[Wire, Callable[[Answer], File | None]] = {
    TRANSCRIPTIONS: _transcript_file,
    TRANSLATIONS: _transcript_file,
    SPEECH: _speech,
}
"""The answers that are not JSON, where they are not streamed; None: it is JSON after all."""


def form_fields(content_type: str, content: bytes) -> dict[str, object]:
    """Return the fields of a form by name; files as name, type and size."""
    fields: dict[str, object] = {}
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    for part in content.split(boundary)[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
        headers = BytesHeaderParser(policy=HTTP).parsebytes(head + b"\r\n\r\n")
        disposition: Any = headers["content-disposition"]
        if disposition is None:
            continue
        name, filename = disposition.params.get("name", ""), disposition.params.get("filename")
        value: object = data.decode("utf-8", "replace")
        if filename is not None:
            value = {"filename": filename, "type": headers.get_content_type(), "bytes": len(data)}
        known = fields.setdefault(name.removesuffix("[]"), []) if name.endswith("[]") else None
        if isinstance(known, list):
            known.append(value)
        else:
            fields[name] = value
    return fields
