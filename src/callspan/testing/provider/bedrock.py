"""Bedrock's Converse and the models that it invokes, as bodies and binary event streams, with their errors.

Wire reference: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

import base64
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping
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
    encode,
    fragments,
    member,
    objects,
    tool_calls,
    words,
)
from callspan.testing.provider.anthropic_messages import MESSAGES
from callspan.testing.provider.script import Choice, Json, Reply

_ERRORS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "guardrail_intervened",
}
_LLAMA_REASONS = {"max_tokens": "length"}
_COUNT = "x-amzn-bedrock-{}-token-count"
_TEXT_HEADER = 7
"""The type of an event's header with a text as value."""
_METRICS = "amazon-bedrock-invocationMetrics"
_EXCEPTIONS = frozenset(
    {
        "internalServerException", "modelStreamErrorException", "modelTimeoutException", "serviceUnavailableException",
        "throttlingException", "validationException",
    }
)  # fmt: skip
"""Those that a stream may have as events of their own."""
_ERROR = "error"
"""The name of an event that is an error; other events have none."""


def _content(choice: Choice) -> list[Json]:
    blocks: list[Json] = []
    if choice.reasoning is not None:
        signed = {"text": choice.reasoning, "signature": "c2NyaXB0ZWQ="}
        blocks.append({"reasoningContent": {"reasoningText": signed}})
    if choice.text is not None:
        blocks.append({"text": choice.text})
    for call in tool_calls(choice, lambda: f"tooluse_{base62(22)}"):
        arguments = msgspec.json.decode(call.arguments)
        blocks.append({"toolUse": {"toolUseId": call.id, "name": call.name, "input": arguments}})
    return blocks


def _usage(reply: Reply) -> Json:
    fresh = reply.input_tokens - reply.cache_read_tokens - reply.cache_write_tokens
    cached = {"cacheReadInputTokens": reply.cache_read_tokens, "cacheWriteInputTokens": reply.cache_write_tokens}
    return {
        "inputTokens": max(0, fresh),
        "outputTokens": reply.output_tokens,
        "totalTokens": reply.input_tokens + reply.output_tokens,
        **{name: tokens for name, tokens in cached.items() if tokens},
    }


def _answered(answer: Answer) -> Json:
    choice, reply = answer.completions[0], answer.reply
    counted = _usage(reply) if reply.usage is None else reply.usage
    return {
        "metrics": {"latencyMs": 5},
        "output": {"message": {"role": "assistant", "content": _content(choice)}},
        "stopReason": _STOP_REASONS.get(choice.reason, choice.reason),
        **({"usage": counted} if counted else {}),
    }


def _deltas(block: Json) -> Iterator[Json]:
    thought = member(member(block, "reasoningContent"), "reasoningText")
    for piece in words(str(thought.get("text", ""))):
        yield {"reasoningContent": {"text": piece}}
    if thought.get("signature"):
        yield {"reasoningContent": {"signature": thought["signature"]}}
    for piece in words(str(block.get("text", ""))):
        yield {"text": piece}
    if "toolUse" in block:
        for fragment in fragments(encode(member(block, "toolUse").get("input")).decode()):
            yield {"toolUse": {"input": fragment}}


def _sequence(body: Json) -> Iterator[Json]:
    message = member(member(body, "output"), "message")
    yield {"messageStart": {"role": message.get("role", "assistant")}}
    for index, block in enumerate(objects(message.get("content"))):
        if "toolUse" in block:
            start = {name: item for name, item in member(block, "toolUse").items() if name != "input"}
            yield {"contentBlockStart": {"contentBlockIndex": index, "start": {"toolUse": start}}}
        for delta in _deltas(block):
            yield {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}
        yield {"contentBlockStop": {"contentBlockIndex": index}}
    yield {"messageStop": {"stopReason": body.get("stopReason")}}
    yield {"metadata": {name: item for name, item in body.items() if name not in ("output", "stopReason")}}


def _events(body: Json, _: Answer) -> list[StreamEvent]:
    return [StreamEvent(event, content="contentBlockDelta" in event) for event in _sequence(body)]


def _invoked(answer: Answer) -> Json:
    """The body of Anthropic's, Nova's or Llama's model, by the fields of the request."""
    requested = answer.request.body
    if "anthropic_version" in requested:
        return MESSAGES.body(answer)
    converse = _answered(answer)
    if "messages" in requested:
        return converse
    choice, reply = answer.completions[0], answer.reply
    reason = str(converse["stopReason"])
    return {
        "generation": choice.text or "",
        "prompt_token_count": reply.input_tokens,
        "generation_token_count": reply.output_tokens,
        "stop_reason": _LLAMA_REASONS.get(reason, "stop"),
    }


def _invoked_events(body: Json, answer: Answer) -> list[StreamEvent]:
    events = MESSAGES.events if "anthropic_version" in answer.request.body else _events
    pieces = _llama_pieces(body) if "generation" in body or events is None else events(body, answer)
    last, reply = pieces[-1], answer.reply
    counted = {
        "inputTokenCount": reply.input_tokens, "outputTokenCount": reply.output_tokens, "invocationLatency": 5,
        "firstByteLatency": 1,
    }  # fmt: skip
    whole = last.data if isinstance(last.data, Mapping) else {}
    return [*pieces[:-1], last._replace(data={**whole, _METRICS: counted})]


def _llama_pieces(body: Json) -> list[StreamEvent]:
    ended = {name: body.get(name) for name in ("generation_token_count", "stop_reason")}
    pieces = [
        StreamEvent({"generation": piece, "generation_token_count": number, "stop_reason": None}, content=True)
        for number, piece in enumerate(words(str(body.get("generation"))), start=1)
    ]
    return [*pieces, StreamEvent({"generation": "", **ended})]


def _counts(answer: Answer) -> dict[str, str]:
    """The headers of the answer of a model that was invoked."""
    reply = answer.reply
    cached = {"cache-read-input": reply.cache_read_tokens, "cache-write-input": reply.cache_write_tokens}
    fresh = reply.input_tokens - sum(cached.values())
    counted = {"input": max(0, fresh), "output": reply.output_tokens, **cached}
    return {_COUNT.format(name): str(tokens) for name, tokens in counted.items()} | {
        "x-amzn-bedrock-invocation-latency": "5"
    }


def _error(error: ErrorAnswer) -> Json:
    return {"message": error.message}


def _error_event(error: ErrorAnswer) -> StreamEvent:
    return StreamEvent({_type(error) or "modelStreamErrorException": {"message": error.message}}, _ERROR)


def _headers(error: ErrorAnswer) -> dict[str, str]:
    kind = _type(error) or _ERRORS.get(error.status)
    errors = {"x-amzn-errortype": kind} if kind and error.status >= HTTPStatus.BAD_REQUEST else {}
    return {"x-amzn-requestid": error.request_id, **errors}


def _type(error: ErrorAnswer) -> str | None:
    """The only name that an error has on this wire."""
    return error.type or error.code


def _message(kind: str, payload: object, *, is_error: bool = False, malformed: bool) -> bytes:
    """An event as a binary message: its lengths, headers, payload, and a checksum after each half."""
    content = encode(payload)
    head = b"".join(_header(name, text) for name, text in _headers_of(kind, payload, is_error=is_error))
    prelude = struct.pack(">II", 16 + len(head) + len(content), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + content
    return message + struct.pack(">I", zlib.crc32(message) ^ malformed)


def _headers_of(kind: str, payload: object, *, is_error: bool) -> Iterator[tuple[str, str]]:
    """The headers of an event. An error that the API does not name has all in its headers."""
    if is_error and kind not in _EXCEPTIONS:
        yield ":message-type", "error"
        yield ":error-code", kind
        yield ":error-message", str(payload.get("message", "")) if isinstance(payload, Mapping) else ""
        return
    holder = "exception" if kind in _EXCEPTIONS else "event"
    yield f":{holder}-type", kind
    yield ":content-type", "application/json"
    yield ":message-type", holder


def _header(name: str, text: str) -> bytes:
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _TEXT_HEADER, len(text)) + text.encode()


def _converse_message(event: StreamEvent, *, malformed: bool = False) -> bytes:
    kind, payload = next(iter(event.data.items())) if isinstance(event.data, Mapping) else (str(event.data), {})
    return _message(kind, payload, is_error=event.name == _ERROR, malformed=malformed)


def _chunk_message(event: StreamEvent, *, malformed: bool = False) -> bytes:
    data = event.data if isinstance(event.data, Mapping) else {}
    if event.name == _ERROR or (len(data) == 1 and next(iter(data)) in _EXCEPTIONS):
        return _converse_message(event, malformed=malformed)
    return _message("chunk", {"bytes": base64.b64encode(encode(data)).decode()}, malformed=malformed)


_TYPE = "application/vnd.amazon.eventstream"
BEDROCK = Family(
    name="bedrock", error=_error, error_event=_error_event, headers=_headers, request_id=lambda: str(uuid.uuid4())
)  # fmt: skip

CONVERSE = Wire(BEDROCK, _answered, _events, framing=Framing(_TYPE, _converse_message))
"""`POST /model/{model}/converse` and `/converse-stream`."""

INVOKE = Wire(BEDROCK, _invoked, _invoked_events, framing=Framing(_TYPE, _chunk_message), headers=_counts)
"""`POST /model/{model}/invoke` and `/invoke-with-response-stream`."""
