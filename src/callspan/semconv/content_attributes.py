"""Content attributes: byte limits, the selection of messages that fit, and messages as JSON of the conventions.

The JSON follows the schemas of semantic-conventions-genai 0.1.0 for input messages, output messages, system
instructions and tool definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final, TypeAlias

import msgspec

from callspan.providers.wire_json import Json
from callspan.record.bounded import EMPTY, fit_json, newest_that_fit, text_attribute, weight
from callspan.record.call import CallRecord
from callspan.record.finish_reasons import TOOL_CALLS, normalised
from callspan.record.messages import (
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
    parse_arguments,
    tool_name,
)

AttributeValue: TypeAlias = str | bool | int | float | tuple[str, ...]
"""Attribute values of types that OpenTelemetry's SDK stores unchanged."""
Attributes: TypeAlias = dict[str, AttributeValue]
ReadBody: TypeAlias = Callable[[CallRecord, int], tuple[bytes, int] | None]
"""Returns part of a body as JSON within a number of bytes, and the number of bytes removed; None if it is absent."""
_MIN_CUT_BYTES: Final = 32
"""Minimum size of a truncated text, which includes the note of its original size."""

_UNKNOWN_FINISH: Final = "unknown"
_USER: Final = "user"
TOOL: Final = "tool"
"""The role of input from outside the model: results of tools and messages of an environment."""


MAX_SPAN_BYTES: Final = 128 * 1024
"""Limit of the content of all attributes of one span; exporters reject larger spans."""


class ByteBudget(msgspec.Struct, eq=False):
    """The number of bytes that content attributes of one span may still use. Not thread-safe.

    `room` is what the next attribute may use, none if 0 or less: at first the limit of each attribute, at most
    `remaining_bytes`, the limit of all together. `cut` counts removed bytes, or characters where bytes are expensive to
    count. Earlier attributes are served first.
    """

    room: int
    remaining_bytes: int
    cut: int = 0

    def spend(self, size: int, cut: int = 0) -> None:
        """Use `size` bytes for an attribute that has lost `cut` bytes."""
        self.remaining_bytes -= size
        self.cut += cut
        self.room = min(self.room, self.remaining_bytes)


def put_text(attributes: Attributes, name: str, text: str, budget: ByteBudget) -> None:
    """Set `name` to `text`, truncated to the budget; not set if not even the note of its size fits."""
    room = budget.room
    if type(text) is not str:
        text = str.__str__(text)  # such as a member of an Enum in a request
    if room < _MIN_CUT_BYTES and len(text) > room:
        budget.cut += len(text)
        return
    attributes[name] = value = text_attribute(text, room)
    cut = 0 if value is text else max(0, len(text) - len(value))
    budget.spend(len(value) if value.isascii() else len(value.encode()), cut)


def put_json(
    attributes: Attributes, name: str, value: object, budget: ByteBudget, size_bound: int | None = None
) -> None:
    """Set `name` to `value` as JSON, truncated to the budget; not set if the budget is used up.

    `size_bound` is an upper bound of the size of the value, if known.
    """
    if budget.room > 1:
        data, cut = fit_json(value, budget.room, size_bound)
        if not cut or data != EMPTY:
            attributes[name] = data.decode()
        budget.spend(len(data), cut)


def put_body(attributes: Attributes, name: str, read: ReadBody, record: CallRecord, budget: ByteBudget) -> bool:
    """Set `name` to the result of `read`; return whether the record has it."""
    body = read(record, budget.room) if budget.room > 1 else None
    if body is None:
        return False
    data, cut = body
    if not cut or data != EMPTY:
        attributes[name] = data.decode()
    budget.spend(len(data), cut)
    return True


_TEXT_MESSAGE: Final = 64
"""Approximate bytes of a message of one text besides the text."""


def request_bound(record: CallRecord) -> int | None:
    """Return an upper bound of the size of any part of a request: its size as sent, else as recorded.

    None if neither is known.
    """
    request = record.request
    return request.body_bytes or len(memoryview(request.body)) or None


def select_messages(messages: Sequence[Message], record: CallRecord, budget: ByteBudget) -> Sequence[Message]:
    """Return the first (system) message and the newest ones that fit, with a note (role `callspan`) for the others.

    If the whole body fits, all messages are returned without measuring them.
    """
    bound, limit = request_bound(record), budget.room
    if bound is not None and bound <= limit:
        return messages
    size = record.request.body_bytes
    start = newest_that_fit(len(messages), lambda index: _size(messages[index], limit), limit)
    if start <= 1:
        return messages
    budget.cut += max(0, (size or 0) - limit)
    size_note = "" if size is None else f" of a request of {size} bytes"
    note = Text(text=f"[callspan: {start - 1} messages{size_note} left out]")
    return [messages[0], Message(role="callspan", parts=[note]), *messages[start:]]


def _size(message: Message, limit: int) -> int:
    """Return the approximate size of a message as JSON; of most, which are one text, without making the JSON."""
    parts = message.parts
    if len(parts) == 1 and type(text := parts[0]) is Text:
        return len(text.text) + _TEXT_MESSAGE
    return weight(message_json(message), limit)


class SpanContent(msgspec.Struct, eq=False):
    """The content of one record that may be exported, and its byte budget. Not thread-safe."""

    budget: ByteBudget
    conversation: Conversation = Conversation()
    has_content: bool = False
    """Whether content may be exported."""
    is_only: bool = True
    """Whether there is no other vocabulary, which has the messages too."""


NO_CONTENT: Final = SpanContent(ByteBudget(0, 0))
"""For attributes that are set before a call has any content; its budget is never used."""


@lru_cache(maxsize=64)
def finish_word(reason: str) -> str:
    """Return a finish reason in the official instrumentations' spelling: `tool_call`, not `tool_calls`."""
    word = normalised(reason)
    return "tool_call" if word == TOOL_CALLS else word


def answer_messages(outcome: str, messages: Sequence[Message]) -> list[Json]:
    """Return one message per choice, each with its finish reason, or the call's outcome if it has none."""
    unfinished = _UNKNOWN_FINISH if outcome == "success" else outcome
    answers = []
    for message in messages:
        json = message_json(message)
        json["finish_reason"] = finish_word(message.finish_reason) if message.finish_reason else unfinished
        answers.append(json)
    return answers


def parts_json(parts: Sequence[Part]) -> list[Json]:
    """Return parts as JSON of the conventions."""
    return [
        {"type": "text", "content": part.text} if type(part) is Text else _SHAPES[type(part)](part) for part in parts
    ]


def tool_definitions(tools: Sequence[object]) -> list[Json]:
    """Return tool definitions of any provider as type, name, description and JSON Schema of the parameters."""
    return [_tool(tool) for tool in tools if isinstance(tool, dict)]


def messages_json(messages: Sequence[Message]) -> list[Json]:
    """Return messages of a request as JSON of the conventions; results of tools have the role `tool`.

    Anthropic's API has them in user messages, which are split if they have other parts too.
    """
    encoded: list[Json] = []
    for message in messages:
        parts = message.parts
        if message.role == _USER and parts and (len(parts) > 1 or type(parts[0]) is ToolResult):
            encoded += map(message_json, _by_speaker(message))
        else:
            encoded.append(message_json(message))
    return encoded


def _by_speaker(message: Message) -> Iterator[Message]:
    for are_results, parts in groupby(message.parts, _is_result):
        role = TOOL if are_results else message.role
        yield msgspec.structs.replace(message, role=role, parts=list(parts))


def _is_result(part: Part) -> bool:
    return type(part) is ToolResult


def message_json(message: Message) -> Json:
    """Return a message as JSON of the conventions: role, parts, and the name if it has one."""
    parts = message.parts
    # The fast path: nearly every message has one text part.
    plain = parts[0] if len(parts) == 1 else None
    part_objects = [{"type": "text", "content": plain.text}] if type(plain) is Text else parts_json(parts)
    json: Json = {"role": message.role, "parts": part_objects}
    if message.name:
        json["name"] = message.name
    return json


def _text(part: Text | Refusal) -> Json:
    return {"type": "text", "content": part.text}


def _reasoning(part: Reasoning) -> Json:
    if part.text is None:
        return {"type": "sealed_reasoning", "size": len(part.sealed or "")}
    return {"type": "reasoning", "content": part.text}


def _tool_call(part: ToolCall) -> Json:
    arguments: Json = {} if part.arguments is None else {"arguments": _arguments(part.arguments)}
    if part.is_of_application:
        return {**_identified("tool_call", part.id), "name": part.name or "", **arguments}
    details = {"type": part.tool_type, **arguments}
    name = part.name or part.tool_type
    return {**_identified("server_tool_call", part.id), "name": name, "server_tool_call": details}


def _tool_result(part: ToolResult) -> Json:
    error_flag: Json = {"is_error": True} if part.is_error else {}
    if part.is_of_application:
        return {**_identified("tool_call_response", part.id), "response": part.content, **error_flag}
    kind, details = "server_tool_call_response", {"type": part.tool_type, "content": part.content}
    return {**_identified(kind, part.id), kind: details, **error_flag}


def _identified(kind: str, identity: str | None) -> Json:
    return {"type": kind} if identity is None else {"type": kind, "id": identity}


def _media(part: Media) -> Json:
    """Return the location or the hash of a medium; its bytes would outweigh the rest of the span."""
    json: Json = {"modality": part.modality}
    if part.mime:
        json["mime_type"] = part.mime
    if part.file_id is not None:
        return {"type": "file", **json, "file_id": part.file_id}
    uri = part.url or (f"urn:sha256:{part.sha256}" if part.sha256 else "")
    if part.size is not None:
        json["size"] = part.size
    return {"type": "uri", **json, "uri": uri}


def _unknown(part: UnknownPart) -> Json:
    kind = part.data.get("type") if isinstance(part.data, dict) else None
    return {"type": kind if isinstance(kind, str) and kind else "unknown", "data": part.data}


def _arguments(text: str) -> object:
    """Return the arguments parsed if they are a JSON object, else (truncated or invalid) the text."""
    return parse_arguments(text) if text.startswith("{") else text


def _tool(tool: dict[str, object]) -> Json:
    nested = tool.get("function") or tool.get("custom")
    inner = nested if isinstance(nested, dict) else tool
    kind = tool.get("type")
    has_schema = "input_schema" in inner
    json: Json = {"type": kind if isinstance(kind, str) and not (has_schema and kind == "custom") else "function"}
    json["name"] = tool_name(tool) or json["type"]
    if inner.get("description"):
        json["description"] = inner["description"]
    parameters = inner.get("input_schema") if has_schema else inner.get("parameters")
    if parameters is not None:
        json["parameters"] = parameters
    return json


_SHAPES: Final[dict[type, Callable[..., Json]]] = {
    Text: _text,
    Reasoning: _reasoning,
    Refusal: _text,  # the conventions have no part for it
    ToolCall: _tool_call,
    ToolResult: _tool_result,
    Media: _media,
    UnknownPart: _unknown,
}
