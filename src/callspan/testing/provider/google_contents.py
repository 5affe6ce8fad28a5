"""Google's generateContent and embedContent, as bodies and chunks, with their errors.

Wire reference: https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from callspan.testing.provider.answer import (
    Answer,
    ErrorAnswer,
    Family,
    StreamEvent,
    Wire,
    base62,
    member,
    objects,
    tool_calls,
    words,
)
from callspan.testing.provider.script import Choice, Json, Reply

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FINISH_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}


def _parts(choice: Choice) -> list[Json]:
    parts: list[Json] = []
    if choice.reasoning is not None:
        parts.append({"text": choice.reasoning, "thought": True})
    if choice.text is not None:
        parts.append({"text": choice.text})
    for call in tool_calls(choice, lambda: ""):
        identity = {"id": call.id} if call.id else {}
        parts.append({"functionCall": {**identity, "name": call.name, "args": msgspec.json.decode(call.arguments)}})
    return parts


def _usage(reply: Reply) -> Json:
    counted = {
        "promptTokenCount": reply.input_tokens,
        "candidatesTokenCount": reply.output_tokens - reply.reasoning_tokens,
        "thoughtsTokenCount": reply.reasoning_tokens,
        "cachedContentTokenCount": reply.cache_read_tokens,
    }
    total = {"totalTokenCount": reply.input_tokens + reply.output_tokens}
    details = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": reply.input_tokens}]}
    # A counter of zero is absent.
    return {name: number for name, number in counted.items() if number} | total | details


def _body(answer: Answer) -> Json:
    reply = answer.reply
    counted = _usage(reply) if reply.usage is None else reply.usage
    candidates = [
        {
            "content": {"parts": _parts(choice), "role": "model"},
            "finishReason": _FINISH_REASONS.get(choice.reason, choice.reason),
            "index": index,
        }
        for index, choice in enumerate(answer.completions)
    ]
    return {
        "candidates": candidates,
        **({"usageMetadata": counted} if counted else {}),
        "modelVersion": answer.model,
        "responseId": base62(22),
    }


def _chunks(body: Json) -> Iterator[Json]:
    """The chunks of an answer: one for each word or function call, each with the usage so far."""
    pieces = [(candidate, piece) for candidate in objects(body.get("candidates")) for piece in _pieces(candidate)]
    counted = member(body, "usageMetadata")
    for position, (candidate, part) in enumerate(pieces):
        is_last = position + 1 == len(pieces)
        ended = {"finishReason": candidate["finishReason"]} if part is _last(pieces, candidate) else {}
        chunk = {"content": {"parts": [part], "role": "model"}, **ended, "index": candidate["index"]}
        so_far = {name: counted[name] for name in ("promptTokenCount", "totalTokenCount") if name in counted}
        usage = counted if is_last else so_far
        yield {**body, "candidates": [chunk], **({"usageMetadata": usage} if usage else {})}


def _last(pieces: list[tuple[Json, Json]], candidate: Json) -> Json:
    return [part for owner, part in pieces if owner is candidate][-1]


def _pieces(candidate: Json) -> Iterator[Json]:
    parts = objects(member(candidate, "content").get("parts"))
    for part in parts or [{"text": ""}]:
        if "text" in part:
            yield from ({**part, "text": word} for word in words(str(part["text"])) or [""])
        else:
            yield part


def _events(body: Json, _: Answer) -> list[StreamEvent]:
    return [StreamEvent(chunk, content=True) for chunk in _chunks(body)]


def _error(error: ErrorAnswer) -> Json:
    status = error.type or _STATUSES.get(error.status, "INTERNAL")
    return {"error": {"code": error.status, "message": error.message, "status": status}}


def _error_event(error: ErrorAnswer) -> StreamEvent:
    status = error.type or "UNAVAILABLE"
    codes = {name: code for code, name in _STATUSES.items()}
    return StreamEvent({"error": {"code": codes.get(status, 500), "message": error.message, "status": status}})


def _headers(error: ErrorAnswer) -> dict[str, str]:
    del error
    return {"server-timing": "gfet4t7; dur=5"}


def _embeddings(answer: Answer) -> Json:
    vector = list(answer.reply.embedding or [1.0, 0.5])
    number = len(objects(answer.request.body.get("requests"))) or 1
    counted = {"promptTokenCount": answer.reply.input_tokens}
    usage = counted if answer.reply.usage is None else answer.reply.usage
    return {"embeddings": [{"values": vector}] * number, **({"usageMetadata": usage} if usage else {})}


GOOGLE = Family(name="google", error=_error, error_event=_error_event, headers=_headers, request_id=lambda: base62(22))

CONTENTS = Wire(GOOGLE, _body, _events)
"""`POST …/models/{model}:generateContent` and `:streamGenerateContent`."""

CONTENT_EMBEDDINGS = Wire(GOOGLE, _embeddings)
"""`POST …/models/{model}:embedContent` and `:batchEmbedContents`."""
