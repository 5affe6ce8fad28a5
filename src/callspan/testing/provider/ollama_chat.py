"""Ollama's own API: chat, generation and embeddings, as bodies and JSON lines, with their errors.

Wire reference: https://docs.ollama.com/api
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import msgspec

from callspan.testing.provider.answer import (
    Answer,
    ErrorAnswer,
    Family,
    Framing,
    StreamEvent,
    Wire,
    base62,
    json_line,
    member,
    objects,
    tool_calls,
    words,
)
from callspan.testing.provider.script import Choice, Json, Reply

_FINISH_REASONS = {"tool_calls": "stop", "max_tokens": "length"}
_TEXTS = ("thinking", "content", "response")
_FRAMING = Framing("application/x-ndjson", json_line)


def _counted(reply: Reply) -> Json:
    """The counters; a prompt from the cache has none."""
    prompt = {"prompt_eval_count": reply.input_tokens} if reply.cache_read_tokens < reply.input_tokens else {}
    durations = {"total_duration": 5_000_000, "load_duration": 1_000_000, "eval_duration": 3_000_000}
    return {**prompt, "eval_count": reply.output_tokens, **durations}


def _message(choice: Choice) -> Json:
    thoughts = {} if choice.reasoning is None else {"thinking": choice.reasoning}
    calls = [
        {"function": {"name": call.name, "arguments": msgspec.json.decode(call.arguments)}}
        for call in tool_calls(choice, str)
    ]
    named = {"role": "assistant", "content": choice.text or "", **thoughts}
    return {**named, "tool_calls": calls} if calls else named


def _answered(answer: Answer, content: Json) -> Json:
    choice, reply = answer.completions[0], answer.reply
    created = datetime.fromtimestamp(answer.created_s, tz=timezone.utc).isoformat().replace("+00:00", "Z")
    ended = {"done": True, "done_reason": _FINISH_REASONS.get(choice.reason, choice.reason)}
    counted = _counted(reply) if reply.usage is None else reply.usage
    return {"model": answer.model, "created_at": created, **content, **ended, **counted}


def _chat(answer: Answer) -> Json:
    return _answered(answer, {"message": _message(answer.completions[0])})


def _generated(answer: Answer) -> Json:
    message = _message(answer.completions[0])
    thoughts = {"thinking": message["thinking"]} if "thinking" in message else {}
    return _answered(answer, {"response": message["content"], **thoughts, "context": [1, 2, 3]})


def _lines(body: Json) -> Iterator[tuple[Json, bool]]:
    """The lines of an answer, each with whether it has content: a word each, tool calls whole, then the counters."""
    head = {name: body[name] for name in ("model", "created_at") if name in body}
    holder = member(body, "message") or body
    for name in _TEXTS:
        for piece in words(str(holder.get(name, ""))):
            yield {**head, **_placed(body, {"content": "", name: piece}), "done": False}, True
    if calls := objects(holder.get("tool_calls")):
        yield {**head, **_placed(body, {"content": "", "tool_calls": calls}), "done": False}, True
    ended = {name: item for name, item in body.items() if name not in (*_TEXTS, "message")}
    yield {**ended, **_placed(body, {"content": ""})}, False


def _placed(body: Json, fields: Json) -> Json:
    """Fields of a message where this API has them."""
    if "message" in body:
        return {"message": {"role": "assistant", **fields}}
    return {"response": "", **{name: item for name, item in fields.items() if name != "content"}}


def _events(body: Json, _: Answer) -> list[StreamEvent]:
    return [StreamEvent(line, content=content) for line, content in _lines(body)]


def _embeddings(answer: Answer) -> Json:
    vector, requested = list(answer.reply.embedding or [1.0, 0.5]), answer.request.body.get("input")
    if answer.request.path.endswith("/embeddings"):
        return {"embedding": vector}
    number = len(requested) if isinstance(requested, list) else 1
    counted = {"prompt_eval_count": answer.reply.input_tokens} if answer.reply.usage is None else answer.reply.usage
    return {"model": answer.model, "embeddings": [vector] * number, "total_duration": 5_000_000, **counted}


def _error(error: ErrorAnswer) -> Json:
    return {"error": error.message}


OLLAMA = Family(
    name="ollama",
    error=_error,
    error_event=lambda error: StreamEvent(_error(error)),
    headers=lambda _error: {},
    request_id=lambda: base62(22),
)

OLLAMA_CHAT = Wire(OLLAMA, _chat, _events, framing=_FRAMING)
"""`POST /api/chat`."""

OLLAMA_GENERATE = Wire(OLLAMA, _generated, _events, framing=_FRAMING)
"""`POST /api/generate`."""

OLLAMA_EMBEDDINGS = Wire(OLLAMA, _embeddings)
"""`POST /api/embed` and `/api/embeddings`."""
