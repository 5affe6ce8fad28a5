"""Cohere's chat in both versions, embeddings and reranking, as bodies and events, with their errors.

Version 1 streams JSON lines. Wire reference: https://docs.cohere.com/reference/chat
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from http import HTTPStatus

import msgspec

from callspan.testing.provider.answer import (
    Answer,
    ErrorAnswer,
    Family,
    Framing,
    StreamEvent,
    Wire,
    base62,
    fragments,
    json_line,
    member,
    objects,
    tool_calls,
    words,
)
from callspan.testing.provider.script import Choice, Json, Reply

_DONE = StreamEvent("[DONE]")
_FINISH_REASONS = {
    "stop": "COMPLETE",
    "stop_sequence": "STOP_SEQUENCE",
    "length": "MAX_TOKENS",
    "max_tokens": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "error": "ERROR",
}
_TEMPLATE = 60
"""Tokens that the model reads besides those that are billed."""


def _counts(reply: Reply) -> dict[str, object]:
    """The units that are billed, and the tokens that the model read and wrote."""
    counted: dict[str, object] = {
        "billed_units": {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens},
        "tokens": {"input_tokens": reply.input_tokens + _TEMPLATE, "output_tokens": reply.output_tokens + 2},
    }
    return counted | ({"cached_tokens": reply.cache_read_tokens} if reply.cache_read_tokens else {})


def _reason(choice: Choice) -> str:
    return _FINISH_REASONS.get(choice.reason, choice.reason)


def _message(choice: Choice) -> Json:
    """A message: the reasoning before tool calls is a plan, otherwise a part of the content."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in tool_calls(choice, lambda: f"call_{base62(12)}")
    ]
    thoughts = [] if choice.reasoning is None or calls else [{"type": "thinking", "thinking": choice.reasoning}]
    texts = [] if choice.text is None else [{"type": "text", "text": choice.text}]
    message: dict[str, object] = {"role": "assistant"}
    if calls and choice.reasoning is not None:
        message["tool_plan"] = choice.reasoning
    if thoughts or texts:
        message["content"] = [*thoughts, *texts]
    return {**message, "tool_calls": calls} if calls else message


def _chat(answer: Answer) -> Json:
    choice, reply = answer.completions[0], answer.reply
    counted = _counts(reply) if reply.usage is None else reply.usage
    body = {"id": str(uuid.uuid4()), "message": _message(choice), "finish_reason": _reason(choice)}
    return {**body, "usage": counted} if counted else body


def _event(kind: str, *, index: int | None = None, content: bool = False, **fields: object) -> StreamEvent:
    place = {} if index is None else {"index": index}
    return StreamEvent({"type": kind, **place, **fields}, kind, content=content)


def _piece(kind: str, message: Json, *, index: int | None = None) -> StreamEvent:
    return _event(kind, index=index, content=True, delta={"message": message})


def _sequence(body: Json) -> Iterator[StreamEvent]:
    message = member(body, "message")
    empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield _event("message-start", id=body.get("id"), delta={"message": empty})
    for word in words(str(message.get("tool_plan", ""))):
        yield _piece("tool-plan-delta", {"tool_plan": word})
    for index, part in enumerate(objects(message.get("content"))):
        kind = str(part.get("type"))
        yield _event("content-start", index=index, delta={"message": {"content": {"type": kind, kind: ""}}})
        for word in words(str(part.get(kind, ""))):
            yield _piece("content-delta", {"content": {kind: word}}, index=index)
        yield _event("content-end", index=index)
    for index, call in enumerate(objects(message.get("tool_calls"))):
        function = member(call, "function")
        start = {**call, "function": {**function, "arguments": ""}}
        yield _piece("tool-call-start", {"tool_calls": start}, index=index)
        for fragment in fragments(str(function.get("arguments", ""))):
            yield _piece("tool-call-delta", {"tool_calls": {"function": {"arguments": fragment}}}, index=index)
        yield _event("tool-call-end", index=index)
    yield _event("message-end", delta={name: item for name, item in body.items() if name not in ("id", "message")})
    yield _DONE


def _events(body: Json, _: Answer) -> list[StreamEvent]:
    return list(_sequence(body))


def _chat_v1(answer: Answer) -> Json:
    choice, reply = answer.completions[0], answer.reply
    counted = {"api_version": {"version": "1"}, **_counts(reply)} if reply.usage is None else reply.usage
    calls = [{"name": call.name, "parameters": msgspec.json.decode(call.arguments)} for call in tool_calls(choice, str)]
    body = {
        "response_id": str(uuid.uuid4()),
        "text": choice.text or "",
        "generation_id": str(uuid.uuid4()),
        "chat_history": [*objects(answer.request.body.get("chat_history"))],
        "finish_reason": "COMPLETE" if calls else _reason(choice),
    }
    return {**body, **({"tool_calls": calls} if calls else {}), **({"meta": counted} if counted else {})}


def _events_v1(body: Json, _: Answer) -> list[StreamEvent]:
    def event(kind: str, *, content: bool = False, **fields: object) -> StreamEvent:
        return StreamEvent({"is_finished": kind == "stream-end", "event_type": kind, **fields}, content=content)

    calls = objects(body.get("tool_calls"))
    return [
        event("stream-start", generation_id=body.get("generation_id")),
        *(event("text-generation", content=True, text=word) for word in words(str(body.get("text", "")))),
        *([event("tool-calls-generation", content=True, tool_calls=calls)] if calls else []),
        event("stream-end", finish_reason=body.get("finish_reason"), response=body),
    ]


def _inputs(body: Json) -> int:
    return sum(len(listed) for name in ("texts", "images", "inputs") if isinstance(listed := body.get(name), list))


def _meta(units: Json, answer: Answer) -> Json:
    stated: Json = {"api_version": {"version": "2"}, "billed_units": units}
    counted = stated if answer.reply.usage is None else answer.reply.usage
    return {"meta": counted} if counted else {}


def _embeddings(answer: Answer) -> Json:
    vectors = [list(answer.reply.embedding or [1.0, 0.5])] * _inputs(answer.request.body)
    by_type = answer.request.body.get("embedding_types") is not None
    return {
        "id": str(uuid.uuid4()),
        "embeddings": {"float": vectors} if by_type else vectors,
        "texts": answer.request.body.get("texts") or [],
        "response_type": "embeddings_by_type" if by_type else "embeddings_floats",
        **_meta({"input_tokens": answer.reply.input_tokens}, answer),
    }


def _ranking(answer: Answer) -> Json:
    documents, limit = answer.request.body.get("documents"), answer.request.body.get("top_n")
    number = len(documents) if isinstance(documents, list) else 0
    number = min(number, limit) if isinstance(limit, int) else number
    results = [{"index": index, "relevance_score": 1 / (index + 1)} for index in range(number)]
    return {"id": str(uuid.uuid4()), "results": results, **_meta({"search_units": 1}, answer)}


def _error(error: ErrorAnswer) -> Json:
    return {"id": error.request_id, "message": error.message}


def _error_event(error: ErrorAnswer) -> StreamEvent:
    return _event("message-end", delta={"finish_reason": error.type or "ERROR", "error": error.message})


def _error_line(error: ErrorAnswer) -> StreamEvent:
    ended = {"finish_reason": error.type or "ERROR", "error": error.message}
    return StreamEvent({"is_finished": True, "event_type": "stream-end", **ended})


def _headers(error: ErrorAnswer) -> dict[str, str]:
    left = "0" if error.status == HTTPStatus.TOO_MANY_REQUESTS else "39"
    return {"x-trial-endpoint-call-limit": "40", "x-trial-endpoint-call-remaining": left}


COHERE = Family(
    name="cohere", error=_error, error_event=_error_event, headers=_headers, request_id=lambda: str(uuid.uuid4())
)  # fmt: skip
_COHERE_V1 = Family(
    name="cohere", error=_error, error_event=_error_line, headers=_headers, request_id=lambda: str(uuid.uuid4())
)  # fmt: skip

COHERE_CHAT = Wire(COHERE, _chat, _events)
"""`POST /v2/chat`."""

COHERE_CHAT_V1 = Wire(_COHERE_V1, _chat_v1, _events_v1, framing=Framing("application/stream+json", json_line))
"""`POST /v1/chat`."""

COHERE_EMBEDDINGS = Wire(COHERE, _embeddings)
"""`POST /v1/embed` and `/v2/embed`."""

COHERE_RANKING = Wire(COHERE, _ranking)
"""`POST /v1/rerank` and `/v2/rerank`."""
