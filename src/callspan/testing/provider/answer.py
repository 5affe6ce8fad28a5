"""One reply to one request: what the wires render, and the small tools they share."""

from __future__ import annotations

import re
import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from callspan.testing.provider.script import Choice, Json, ReceivedRequest, Reply

_BASE62 = string.digits + string.ascii_letters
_FRAGMENT = 12


class Event(NamedTuple):
    """One server-sent event."""

    data: Json | str
    """A JSON object, or a text such as `[DONE]`."""
    name: str | None = None
    """The `event:` line; None for none."""
    content: bool = False
    """Whether it has content."""


class ToolCall(NamedTuple):
    """One scripted tool call, complete."""

    id: str
    name: str
    arguments: str
    """JSON text, as OpenAI carries it."""


class ErrorAnswer(NamedTuple):
    """What an error says."""

    status: int
    type: str | None
    code: str | None
    message: str
    request_id: str


@dataclass(frozen=True)
class Answer:
    """A reply together with the request it answers."""

    request: ReceivedRequest
    reply: Reply
    request_id: str
    named: Mapping[str, str]
    """What the path names: the `id` of a response, the `model`."""
    created_s: int = field(default_factory=lambda: int(time.time()))

    @property
    def model(self) -> str:
        """The model that answers."""
        requested = self.request.body.get("model", self.named.get("model"))
        return self.reply.model or (requested if isinstance(requested, str) else "scripted-model")

    @property
    def completions(self) -> list[Choice]:
        """As many completions as were scripted or requested."""
        count = self.request.body.get("n")
        return self.reply.completions(count if isinstance(count, int) else 1)

    @property
    def error(self) -> ErrorAnswer:
        """The reply read as an error."""
        reply = self.reply
        return ErrorAnswer(reply.status, reply.error_type, reply.error_code, reply.message, self.request_id)


@dataclass(frozen=True)
class Family:
    """What all wires of one provider share."""

    name: str
    error: Callable[[ErrorAnswer], Json]
    """The body of an error answer."""
    error_event: Callable[[ErrorAnswer], Event]
    """An error in the middle of a stream."""
    headers: Callable[[str, int], dict[str, str]]
    """The usual response headers for a request id and a status."""
    request_id: Callable[[], str]


@dataclass(frozen=True)
class Wire:
    """How one endpoint answers."""

    family: Family
    body: Callable[[Answer], Json]
    """The whole answer in one piece."""
    events: Callable[[Json, Answer], list[Event]] | None = None
    """A whole answer cut into events; None: this endpoint does not stream."""


def base62(length: int) -> str:
    """Random letters and digits."""
    return "".join(_BASE62[byte % 62] for byte in secrets.token_bytes(length))


def words(text: str) -> list[str]:
    """The text in pieces as models stream it: each word with the space before it."""
    return re.findall(r"\s*\S+|\s+\Z", text)


def fragments(text: str) -> list[str]:
    """The text in short pieces that respect nothing, as the arguments of tools are streamed."""
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


def objects(value: object) -> list[Json]:
    """The objects of a list; nothing if it is none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def member(value: Json, name: str) -> Json:
    """An object within an object; empty if there is none."""
    inner = value.get(name)
    return inner if isinstance(inner, Mapping) else {}
