"""What OpenAI's endpoints share: errors, headers, ids, usage; and the embeddings and lists."""

from __future__ import annotations

import base64
import secrets
import struct
from collections.abc import Sequence
from http import HTTPStatus

from callspan.testing.provider.answer import Answer, ErrorAnswer, Event, Family, Wire
from callspan.testing.provider.script import Json, Reply

_ERRORS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_SERVER_ERROR: tuple[str, str | None] = ("server_error", None)

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Anthropic's words in OpenAI's."""


def usage(reply: Reply) -> Json:
    """The usage of chat completions out of the reply's counters."""
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": reply.cache_read_tokens,
            "cache_write_tokens": reply.cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reply.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def with_usage(body: dict[str, object], reply: Reply, made: Json) -> dict[str, object]:
    """The body with the usage scripted: as given, `made` where none was given, none where an empty one was."""
    given = made if reply.usage is None else reply.usage
    return {**body, "usage": given} if given else body


def models(_: Answer) -> Json:
    """`GET /v1/models`."""
    model = {"id": "scripted-model", "object": "model", "created": 1700000000, "owned_by": "callspan"}
    return {"object": "list", "data": [model]}


def _error_object(error: ErrorAnswer) -> Json:
    kind, code = _ERRORS.get(error.status, _SERVER_ERROR)
    return {
        "message": error.message,
        "type": error.type or kind,
        "param": None,
        "code": error.code or (code if error.type is None else None),
    }


def _error(error: ErrorAnswer) -> Json:
    return {"error": _error_object(error)}


def _headers(request_id: str, status: int) -> dict[str, str]:
    return {
        "x-request-id": request_id,
        "openai-processing-ms": "42",
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-requests": "0" if status == HTTPStatus.TOO_MANY_REQUESTS else "9999",
        "x-ratelimit-remaining-tokens": "1999962",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "1ms",
    }


OPENAI = Family(
    name="openai",
    error=_error,
    error_event=lambda error: Event(_error(error)),
    headers=_headers,
    request_id=lambda: f"req_{secrets.token_hex(16)}",
)
"""OpenAI and everything that speaks like it."""


_DIMENSIONS = 8


def _input_count(value: object) -> int:
    """A list of tokens is one input, a list of texts or of token lists is several."""
    return len(value) if isinstance(value, list) and value and not isinstance(value[0], int) else 1


def _vector(answer: Answer) -> Sequence[float]:
    if answer.reply.embedding is not None:
        return answer.reply.embedding
    requested = answer.request.body.get("dimensions")
    size = requested if isinstance(requested, int) else _DIMENSIONS
    return [1 / (position + 1) for position in range(size)]


def _embeddings(answer: Answer) -> Json:
    vector = _vector(answer)
    packed = answer.request.body.get("encoding_format") == "base64"
    shown = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if packed else list(vector)
    body: dict[str, object] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": shown}
            for index in range(_input_count(answer.request.body.get("input")))
        ],
        "model": answer.model,
    }
    tokens = answer.reply.input_tokens
    return with_usage(body, answer.reply, {"prompt_tokens": tokens, "total_tokens": tokens})


EMBEDDINGS = Wire(OPENAI, _embeddings)
"""`POST /v1/embeddings`."""
