"""Images, speech, transcripts and moderations of OpenAI: what a reply is at each path, in one piece and as events."""

from __future__ import annotations

import base64
import io
import re
import wave
from collections.abc import Callable
from dataclasses import replace
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Final

from callspan.testing import ReceivedRequest, Reply

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAADElEQVR4nGNgoA4AAABIAAEuuDx+AAAAAElFTkSuQmCC")
"""A black square of eight pixels' side."""


def wav() -> bytes:
    """Half a second of silence."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    return made.getvalue()


def _usage(reply: Reply, **details: object) -> dict[str, Any]:
    total = reply.input_tokens + reply.output_tokens
    counters = {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens, "total_tokens": total}
    return {"usage": {**counters, **details} if reply.usage is None else reply.usage}


def _images(request: ReceivedRequest, reply: Reply) -> Reply:
    """As many images as requested, whose revised prompt is the text; as events one, after its partial images."""
    sent: Any = request.body
    repeated = {name: sent[name] for name in ("background", "output_format", "quality", "size") if name in sent}
    image = {"b64_json": base64.b64encode(PNG).decode()}
    given = {"input_tokens_details": {"image_tokens": 0, "text_tokens": reply.input_tokens}}
    if request.stream:
        kind, shown = request.path.rpartition("/")[2], {**image, **repeated, "created_at": 1}
        kind = "image_edit" if kind == "edits" else "image_generation"
        events = [
            {"type": f"{kind}.partial_image", **shown, "partial_image_index": number}
            for number in range(int(sent.get("partial_images") or 0))
        ]
        return replace(reply, raw=[*events, {"type": f"{kind}.completed", **shown, **_usage(reply, **given)}])
    if reply.text is not None:
        image["revised_prompt"] = reply.text
    made = {"output_tokens_details": {"image_tokens": reply.output_tokens, "text_tokens": 0}}
    data = [image] * int(sent.get("n") or 1)
    return replace(reply, raw={"created": 1, "data": data, **repeated, **_usage(reply, **given, **made)})


def _transcript(request: ReceivedRequest, reply: Reply) -> Reply:
    """The text of the reply. Whisper counts seconds, the other models tokens; a translation states no usage."""
    sent, text = request.body, reply.completions()[0].text or ""
    if sent.get("response_format") in ("text", "srt", "vtt"):
        return _file(reply, text.encode(), "text/plain; charset=utf-8")
    body: dict[str, Any] = {"text": text}
    if request.path.endswith("transcriptions"):
        details = {"audio_tokens": reply.input_tokens, "text_tokens": 0}
        body |= _usage(reply, type="tokens", input_token_details=details)
        if str(reply.model or sent.get("model")).startswith("whisper") and reply.usage is None:
            body["usage"] = {"type": "duration", "seconds": 1}
    if not request.stream:
        return replace(reply, raw=body)
    deltas = [{"type": "transcript.text.delta", "delta": word} for word in re.findall(r"\s*\S+", text)]
    return replace(reply, raw=[*deltas, {"type": "transcript.text.done", **body}])


def _speech(request: ReceivedRequest, reply: Reply) -> Reply:
    """Half a second of silence as WAV, whatever was requested; as events in two pieces."""
    sound = wav()
    if not request.stream:
        return _file(reply, sound, "audio/wav")
    pieces = [base64.b64encode(part).decode() for part in (sound[:4000], sound[4000:])]
    deltas = [{"type": "speech.audio.delta", "audio": piece} for piece in pieces]
    return replace(reply, raw=[*deltas, {"type": "speech.audio.done", **_usage(reply)}])


def _moderation(request: ReceivedRequest, reply: Reply) -> Reply:
    """A result for each input, which is flagged if the reply is a refusal."""
    given, flagged = request.body.get("input"), reply.refusal is not None
    result = {
        "flagged": flagged,
        "categories": {"harassment": flagged},
        "category_scores": {"harassment": 0.9 if flagged else 0.001},
        "category_applied_input_types": {"harassment": ["text"]},
    }
    count = len(given) if isinstance(given, list) and all(isinstance(one, str) for one in given) else 1
    return replace(reply, raw={"id": "modr-1", "model": request.body.get("model"), "results": [result] * count})


def _file(reply: Reply, content: bytes, kind: str) -> Reply:
    return replace(reply, raw=content, headers={"content-type": kind, **reply.headers})


ANSWERS: Final[dict[str, Callable[[ReceivedRequest, Reply], Reply]]] = {
    "/images/generations": _images,
    "/images/edits": _images,
    "/audio/transcriptions": _transcript,
    "/audio/translations": _transcript,
    "/audio/speech": _speech,
    "/moderations": _moderation,
}
"""By the end of a path: the reply as it is sent there."""


def form_fields(content_type: str, content: bytes) -> dict[str, object]:
    """Return the fields of a form by name; files as name, type and size."""
    form = BytesParser(policy=HTTP).parsebytes(f"content-type: {content_type}\r\n\r\n".encode() + content)
    fields: dict[str, Any] = {}
    for part in form.iter_parts():
        name, data = str(part.get_param("name", header="content-disposition")), part.get_payload(decode=True)
        value: object = data.decode("utf-8", "replace")
        if (filename := part.get_filename()) is not None:
            value = {"filename": filename, "type": part.get_content_type(), "bytes": len(data)}
        if name.endswith("[]"):
            fields.setdefault(name.removesuffix("[]"), []).append(value)
        else:
            fields[name] = value
    return fields
