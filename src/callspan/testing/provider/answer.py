"""Answers: a reply with its request, for rendering, and OpenAI's errors, headers, ids and usage."""

from __future__ import annotations

import base64
import re
import secrets
import string
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple, Protocol

import msgspec

from callspan.testing.provider.script import Choice, Json, ReceivedRequest, Reply

_BASE62 = string.digits + string.ascii_letters
_FRAGMENT = 12
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
"""OpenAI's finish reasons by Anthropic's."""

_DIMENSIONS = 8


class StreamEvent(NamedTuple):
    """One server-sent event."""

    data: Json | str
    """A JSON object, or a string such as `[DONE]`."""
    name: str | None = None
    """The `event:` line, if any."""
    content: bool = False


def typed(kind: str, **fields: object) -> StreamEvent:
    """An event that repeats its name as `type` in its data; a `.delta` has content."""
    return StreamEvent({"type": kind, **fields}, kind, content=kind.endswith(".delta"))


class ToolCall(NamedTuple):
    """One scripted tool call, complete."""

    id: str
    name: str
    arguments: str
    """JSON text, as in OpenAI's APIs."""


class ErrorAnswer(NamedTuple):
    """The content of an error; of any other answer its status and request id."""

    status: int
    type: str | None
    code: str | None
    message: str
    request_id: str


@dataclass(frozen=True)
class Answer:
    """A reply together with its request."""

    request: ReceivedRequest
    reply: Reply
    request_id: str
    path_params: Mapping[str, str]
    """Parameters of the path: the `id` of a response, the `model`."""
    created_s: int = field(default_factory=lambda: int(time.time()))

    @property
    def model(self) -> str:
        """The responding model."""
        requested = self.request.body.get("model", self.path_params.get("model"))
        return self.reply.model or (requested if isinstance(requested, str) else "scripted-model")

    @property
    def completions(self) -> list[Choice]:
        """The scripted completions, or as many as requested."""
        count = self.request.body.get("n")
        return self.reply.completions(count if isinstance(count, int) else 1)

    @property
    def error(self) -> ErrorAnswer:
        """The reply as an error."""
        reply = self.reply
        return ErrorAnswer(reply.status, reply.error_type, reply.error_code, reply.message, self.request_id)


@dataclass(frozen=True)
class Family:
    """The parts shared by all APIs of one provider."""

    name: str
    error: Callable[[ErrorAnswer], Json]
    """The body of an error answer."""
    error_event: Callable[[ErrorAnswer], StreamEvent]
    """An error in the middle of a stream."""
    headers: Callable[[ErrorAnswer], dict[str, str]]
    """The default response headers, by request id and status; of an error also by its type."""
    request_id: Callable[[], str]


class EventEncoder(Protocol):
    """Encodes an event."""

    def __call__(self, event: StreamEvent, *, malformed: bool = False) -> bytes:
        """The bytes of an event; `malformed` sends only half of its data, or a wrong checksum."""


class Framing(NamedTuple):
    """How the events of a stream are sent, if not as server-sent events."""

    content_type: str
    encode: EventEncoder


@dataclass(frozen=True)
class Wire:
    """The answers of one endpoint."""

    family: Family
    body: Callable[[Answer], Json]
    """The plain response body."""
    events: Callable[[Json, Answer], list[StreamEvent]] | None = None
    """Splits a body into events; None if the endpoint has no streams."""
    framing: Framing | None = None
    """None: as server-sent events."""
    headers: Callable[[Answer], dict[str, str]] | None = None
    """Response headers of a plain answer that depend on it."""


def base62(length: int) -> str:
    """Random letters and digits."""
    return "".join(_BASE62[byte % 62] for byte in secrets.token_bytes(length))


def words(text: str) -> list[str]:
    """The text split as models stream it: each word with the space before it."""
    return re.findall(r"\s*\S+|\s+\Z", text)


def fragments(text: str) -> list[str]:
    """The text in short pieces, as arguments of tools are streamed."""
    return [text[start : start + _FRAGMENT] for start in range(0, len(text), _FRAGMENT)]


def tool_calls(choice: Choice, make_id: Callable[[], str]) -> list[ToolCall]:
    """The choice's tool calls, with an id and arguments as JSON text."""
    return [_tool_call(call, make_id) for call in choice.tool_calls]


def _tool_call(call: Json, make_id: Callable[[], str]) -> ToolCall:
    arguments = call.get("arguments", {})
    text = arguments if isinstance(arguments, str) else encode(arguments).decode()
    return ToolCall(str(call.get("id") or make_id()), str(call["name"]), text)


def encode(value: object) -> bytes:
    """Compact JSON."""
    return msgspec.json.encode(value)


def json_line(event: StreamEvent, *, malformed: bool = False) -> bytes:
    """An event as a line of JSON; `malformed` sends only half of it."""
    data = encode(event.data)
    return (data[: len(data) // 2] if malformed else data) + b"\n"


def objects(value: object) -> list[Json]:
    """The objects of a list; none for anything else."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def member(value: Json, name: str) -> Json:
    """An object inside an object, or an empty one."""
    inner = value.get(name)
    return inner if isinstance(inner, Mapping) else {}


def usage(reply: Reply) -> Json:
    """The usage object of chat completions, from the reply's counters."""
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


def with_usage(body: dict[str, object], reply: Reply, default: Json) -> dict[str, object]:
    """The body with the scripted usage, by default `default`; an empty usage omits it."""
    usage = default if reply.usage is None else reply.usage
    return {**body, "usage": usage} if usage else body


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


def _headers(error: ErrorAnswer) -> dict[str, str]:
    return {
        "x-request-id": error.request_id,
        "openai-processing-ms": "1",
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-requests": "0" if error.status == HTTPStatus.TOO_MANY_REQUESTS else "9999",
        "x-ratelimit-remaining-tokens": "1999962",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "1ms",
    }


OPENAI = Family(
    name="openai",
    error=_error,
    error_event=lambda error: StreamEvent(_error(error)),
    headers=_headers,
    request_id=lambda: f"req_{secrets.token_hex(16)}",
)
"""OpenAI and compatible providers."""


def input_count(value: object) -> int:
    """The number of inputs of a request: a list of tokens is one input, a list of strings or token lists several."""
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
    encoded = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if packed else list(vector)
    body: dict[str, object] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encoded}
            for index in range(input_count(answer.request.body.get("input")))
        ],
        "model": answer.model,
    }
    tokens = answer.reply.input_tokens
    return with_usage(body, answer.reply, {"prompt_tokens": tokens, "total_tokens": tokens})


EMBEDDINGS = Wire(OPENAI, _embeddings)
"""`POST /v1/embeddings`."""
