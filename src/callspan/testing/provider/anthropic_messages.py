"""Anthropic's Messages, as bodies and events, with their errors and headers.

Wire reference: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import msgspec

from callspan.testing.provider.answer import (
    Answer,
    ErrorAnswer,
    Family,
    StreamEvent,
    Wire,
    base62,
    encode,
    fragments,
    member,
    objects,
    tool_calls,
    typed,
    with_usage,
    words,
)
from callspan.testing.provider.script import Choice, Json, Reply

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_RESET = "2030-01-01T00:00:00Z"
_EMPTY: dict[str, Json] = {
    "thinking": {"thinking": "", "signature": ""},
    "text": {"text": ""},
    "tool_use": {"input": {}},
}
"""The fields of a block at its start."""


def _arguments(text: str) -> object:
    """The input of a tool as an object; invalid JSON is kept as text."""
    try:
        return msgspec.json.decode(text or b"{}")
    except msgspec.DecodeError:
        return text


def _content(choice: Choice) -> list[Json]:
    blocks: list[Json] = []
    if choice.reasoning is not None:
        blocks.append({"type": "thinking", "thinking": choice.reasoning, "signature": "c2NyaXB0ZWQ="})
    blocks += [{"type": "text", "text": text} for text in (choice.text, choice.refusal) if text is not None]
    for call in tool_calls(choice, lambda: f"toolu_01{base62(22)}"):
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call.arguments)})
    return blocks


def _stop_reason(choice: Choice) -> str:
    if choice.refusal is not None and choice.finish_reason is None:
        return "refusal"
    return _STOP_REASONS.get(choice.reason, choice.reason)


def _usage(reply: Reply) -> Json:
    cache_write = reply.cache_write_tokens
    return {
        "input_tokens": max(0, reply.input_tokens - reply.cache_read_tokens - cache_write),
        "cache_creation_input_tokens": cache_write,
        "cache_read_input_tokens": reply.cache_read_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": cache_write, "ephemeral_1h_input_tokens": 0},
        "output_tokens": reply.output_tokens,
        **({"output_tokens_details": {"thinking_tokens": reply.reasoning_tokens}} if reply.reasoning_tokens else {}),
        "service_tier": "standard",
    }


def _message(answer: Answer) -> Json:
    choice = answer.completions[0]
    body: dict[str, object] = {
        "id": f"msg_01{base62(22)}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": _content(choice),
        "stop_reason": _stop_reason(choice),
        "stop_sequence": None,
    }
    return with_usage(body, answer.reply, _usage(answer.reply))


def _block_deltas(block: Json) -> Iterator[Json]:
    for piece in words(str(block.get("thinking", ""))):
        yield {"type": "thinking_delta", "thinking": piece}
    if block.get("signature"):
        yield {"type": "signature_delta", "signature": block["signature"]}
    for piece in words(str(block.get("text", ""))):
        yield {"type": "text_delta", "text": piece}
    if "input" in block:
        arguments = block["input"] if isinstance(block["input"], str) else encode(block["input"]).decode()
        for fragment in ["", *fragments(arguments)]:
            yield {"type": "input_json_delta", "partial_json": fragment}


def _block_events(index: int, block: Json) -> Iterator[Json]:
    empty_block = {**block, **_EMPTY.get(str(block.get("type")), {})}
    yield {"type": "content_block_start", "index": index, "content_block": empty_block}
    if index == 0:
        yield {"type": "ping"}
    for delta in _block_deltas(block):
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _sequence(body: Json) -> Iterator[Json]:
    usage = member(body, "usage")
    initial = {name: value for name, value in body.items() if name != "stop_details"}
    initial |= {"content": [], "stop_reason": None, "stop_sequence": None}
    initial |= {"usage": {**usage, "output_tokens": 1}} if usage else {}
    yield {"type": "message_start", "message": initial}
    for index, block in enumerate(objects(body.get("content"))):
        yield from _block_events(index, block)
    delta = {name: body[name] for name in ("stop_reason", "stop_sequence", "stop_details") if name in body}
    # The final usage has no breakdown of cache writes.
    final = {name: value for name, value in usage.items() if name not in ("cache_creation", "service_tier")}
    yield {"type": "message_delta", "delta": delta, **({"usage": final} if usage else {})}
    yield {"type": "message_stop"}


def _events(body: Json, _: Answer) -> list[StreamEvent]:
    return [
        StreamEvent(data, str(data["type"]), content=data["type"] == "content_block_delta") for data in _sequence(body)
    ]


def _error(error: ErrorAnswer) -> Json:
    details = {} if error.code is None else {"details": {"error_code": error.code}}
    inner = {"type": error.type or _ERRORS.get(error.status, "api_error"), "message": error.message, **details}
    return {"type": "error", "error": inner, "request_id": error.request_id}


def _error_event(error: ErrorAnswer) -> StreamEvent:
    inner = {"type": error.type or "overloaded_error", "message": error.message}
    return typed("error", error=inner)


def _headers(error: ErrorAnswer) -> dict[str, str]:
    limited = error.status == HTTPStatus.TOO_MANY_REQUESTS
    limits = {"requests": 4000, "tokens": 480000, "input-tokens": 400000, "output-tokens": 80000}
    return {
        "request-id": error.request_id,
        **{
            f"anthropic-ratelimit-{name}-{suffix}": str(value)
            for name, limit in limits.items()
            for suffix, value in (("limit", limit), ("remaining", 0 if limited else limit - 1), ("reset", _RESET))
        },
    }


ANTHROPIC = Family(
    name="anthropic",
    error=_error,
    error_event=_error_event,
    headers=_headers,
    request_id=lambda: f"req_01{base62(22)}",
)

MESSAGES = Wire(ANTHROPIC, _message, _events)
"""`POST /v1/messages`."""

COUNT_TOKENS = Wire(ANTHROPIC, lambda answer: {"input_tokens": answer.reply.input_tokens})
"""`POST /v1/messages/count_tokens`."""
