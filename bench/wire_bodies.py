"""Bodies for the mocked transport: requests of a given size, responses and streams."""

from __future__ import annotations

import json
from typing import Any

CHUNKS = 500
_SENTENCE = "The tram leaves the square at seven and takes nine minutes to the harbour. "
_LIMITS = {
    "x-request-id": "req_1",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "8.64s",
    "x-ratelimit-limit-tokens": "200000",
    "x-ratelimit-remaining-tokens": "199000",
    "x-ratelimit-reset-tokens": "6ms",
}
_ANTHROPIC_LIMITS = {
    "request-id": "req_1",
    **{
        f"anthropic-ratelimit-{unit}-{name}": value
        for unit in ("requests", "tokens", "input-tokens", "output-tokens")
        for name, value in (("limit", "4000"), ("remaining", "3999"), ("reset", "2026-01-01T00:00:00Z"))
    },
}
HEADERS = {"openai": _LIMITS, "anthropic": _ANTHROPIC_LIMITS, "google": {"server-timing": "gfet4t7; dur=900"}}


def prose(size: int) -> str:
    """Return about `size` characters of text."""
    return (_SENTENCE * (size // len(_SENTENCE) + 1))[:size]


def messages(size: int, turns: int = 1) -> list[Any]:
    """Return a history of `turns` questions and answers of about `size` bytes in total."""
    each = size // (2 * turns - 1)
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": prose(each)} for place in range(2 * turns - 1)]


def contents(history: list[Any]) -> list[Any]:
    """Return a history in the form of Gemini."""
    roles = {"user": "user", "assistant": "model"}
    return [{"role": roles[message["role"]], "parts": [{"text": message["content"]}]} for message in history]


def openai_answer(size: int = 300) -> bytes:
    """Return a chat completion in the form of api.openai.com, with a text of `size` characters."""
    message = {"role": "assistant", "content": prose(size), "refusal": None, "annotations": []}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": "gpt-5-2025-08-07",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 250,
                "completion_tokens": 70,
                "total_tokens": 320,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 0,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
            "service_tier": "default",
            "system_fingerprint": "fp_1",
        }
    ).encode()


def openai_stream() -> bytes:
    """Return a stream of `CHUNKS` text deltas."""
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": "gpt-5-2025-08-07",
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": " tram"}] * CHUNKS
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"})
    events = [json.dumps({**head, "choices": [choice]}) for choice in choices]
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


def anthropic_answer(size: int = 300) -> bytes:
    """Return a message in the form of api.anthropic.com, with a text of `size` characters."""
    return json.dumps(
        {
            **_anthropic_head(),
            "content": [{"type": "text", "text": prose(size)}],
            "stop_reason": "end_turn",
        }
    ).encode()


def anthropic_tools(number: int) -> bytes:
    """Return a message with a number of calls of the tool `look`."""
    requested = [
        {"type": "tool_use", "id": f"toolu_{index}", "name": "look", "input": {"x": index}} for index in range(number)
    ]
    return json.dumps({**_anthropic_head(), "content": requested, "stop_reason": "tool_use"}).encode()


def anthropic_stream() -> bytes:
    """Return a stream of `CHUNKS` text deltas."""
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " tram"}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**_anthropic_head(), "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[text] * CHUNKS,
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": CHUNKS},
        },
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


def google_answer(size: int = 300) -> bytes:
    """Return a response in the form of generativelanguage.googleapis.com, with a text of `size` characters."""
    return json.dumps(_google_chunk(prose(size), finishReason="STOP")).encode()


def google_stream() -> bytes:
    """Return a stream of `CHUNKS` texts."""
    chunks = [*[_google_chunk(" tram")] * (CHUNKS - 1), _google_chunk(" tram", finishReason="STOP")]
    return "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks).encode()


def _google_chunk(text: str, **end: str) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, **end, "index": 0}],
        "usageMetadata": {
            "promptTokenCount": 250,
            "candidatesTokenCount": 70,
            "totalTokenCount": 320,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 250}],
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "resp_1",
    }


def _anthropic_head() -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-1-20250805",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 250,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 70,
            "service_tier": "standard",
        },
    }
