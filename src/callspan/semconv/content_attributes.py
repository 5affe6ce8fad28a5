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

from callspan.record.bounded import fit_json, newest_that_fit, text_attribute, weight
from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.messages import (
    TOOL_CALLS,
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
    normalised,
    tool_name,
)

AttributeValue: TypeAlias = str | bool | int | float | tuple[str, ...]
"""Attribute values of types that OpenTelemetry's SDK stores unchanged."""
Attributes: TypeAlias = dict[str, AttributeValue]
ReadBody: TypeAlias = Callable[[CallRecord, int, Conversation], tuple[bytes, int] | None]
"""Returns part of a body as JSON within a number of bytes, and the number of bytes removed; None if it is absent."""
_MIN_CUT_BYTES: Final = 32
"""Minimum size of a truncated text, which includes the note of its original size."""
_EMPTY_RESULTS: Final = (b"{}", b"0")
"""Results of truncation that have no room even for a note."""
_PER_PART = 60
_MAX_SHARE = 2
"""A message larger than 1/2 of the room counts as 1/2: it is truncated, not omitted."""

Json = dict[str, object]
_CLIENT_TOOLS: Final = frozenset({"function", "custom"})
_UNKNOWN_FINISH: Final = "unknown"
_USER: Final = "user"
TOOL: Final = "tool"
"""The role of input from outside the model: results of tools and messages of an environment."""
_EMPTY: Final = Conversation()

_decode = msgspec.json.Decoder().decode


class ByteBudget(msgspec.Struct, eq=False):
    """The number of bytes that content attributes of one span may still use. Not thread-safe.

    `attribute` limits each attribute, `left` is what remains for all together, `cut` counts removed bytes (or
    characters, if bytes are expensive to count). `plenty` states that everything certainly fits: then nothing is
    measured. Earlier attributes are served first.
    """

    attribute: int
    left: int
    plenty: bool = False
    cut: int = 0

    @property
    def room(self) -> int:
        """The number of bytes that the next attribute may use; none if 0 or less."""
        return min(self.left, self.attribute)


def put_text(attributes: Attributes, name: str, text: str, budget: ByteBudget) -> None:
    """Set `name` to `text`, truncated to the budget; not set if not even the note of its size fits."""
    if budget.plenty and text.isascii():
        attributes[name] = text
        return
    room = budget.room
    if room < _MIN_CUT_BYTES and len(text) > room:
        budget.cut += len(text)
        return
    attributes[name] = kept = text_attribute(text, room)
    budget.left -= len(kept) if kept.isascii() else len(kept.encode())
    budget.cut += len(text) - len(kept) if len(text) > len(kept) else 0


def put_json(
    attributes: Attributes, name: str, value: object, budget: ByteBudget, size_bound: int | None = None
) -> None:
    """Set `name` to `value` as JSON, truncated to the budget; not set if the budget is used up.

    `size_bound` is an upper bound of the size of the value, if known.
    """
    if budget.plenty:
        attributes[name] = encode_json(value).decode()
        return
    room = budget.room
    if room > 1:
        data, cut = fit_json(value, room, size_bound)
        put_encoded(attributes, name, data, budget, cut)


def put_encoded(attributes: Attributes, name: str, data: bytes, budget: ByteBudget, cut: int = 0) -> None:
    """Set `name` to JSON from which `cut` bytes were removed; not set if nothing of it is left."""
    if cut and data in _EMPTY_RESULTS:
        budget.cut += cut
        return
    attributes[name] = data.decode()
    if not budget.plenty:
        budget.left -= len(data)
        budget.cut += cut


def put_body(
    attributes: Attributes, name: str, read: ReadBody, record: CallRecord, shown: SpanContent, parts: int = 1
) -> bool:
    """Set `name` to the result of `read`, in at most 1/`parts` of the room; return whether it was set."""
    room = shown.budget.room // parts
    found = read(record, room, shown.conversation) if room > 1 else None
    if found is not None:
        put_encoded(attributes, name, found[0], shown.budget, found[1])
    return found is not None


class MessageSelection(msgspec.Struct, frozen=True):
    """The messages of a request to export: the first ones, then, after `omitted` others, the rest."""

    first: Sequence[Message]
    omitted: int
    rest: Sequence[Message]
    size_bound: int | None = None
    """Upper bound of the size of the selected messages, if known."""


def select_messages(messages: Sequence[Message], record: CallRecord, budget: ByteBudget) -> MessageSelection:
    """Select the first (system) message and the newest ones that fit into the budget.

    If the whole body fits, all messages are returned without measuring them.
    """
    body_bytes = record.request.body_bytes
    if budget.plenty:
        return MessageSelection((), 0, messages, body_bytes)
    limit = budget.room
    if body_bytes is not None and body_bytes <= limit:
        return MessageSelection((), 0, messages, body_bytes)
    most = limit // _MAX_SHARE
    giants = []

    def room_for(index: int) -> int:
        found = message_weight(messages[index], limit)
        if found > most:
            giants.append(index)
        return min(most, found)

    start = newest_that_fit(len(messages), room_for, limit)
    if start <= 1:
        return MessageSelection((), 0, messages)
    budget.cut += max(0, (body_bytes or 0) - limit)
    return MessageSelection(messages[:1], start - 1, messages[start:], None if giants else limit)


def omission(count: int, record: CallRecord) -> str:
    """Return the note that replaces omitted messages."""
    whole = record.request.body_bytes
    size = "" if whole is None else f" of a request of {whole} bytes"
    return f"[callspan: {count} messages{size} left out]"


def message_weight(message: Message, limit: int) -> int:
    """Return the approximate size of a message as JSON in bytes; counts no further than `limit`."""
    total = _PER_PART
    for part in message.parts:
        total += _PER_PART + _part_weight(part, limit - total)
        if total > limit:
            break
    return total


def _part_weight(part: Part, limit: int) -> int:
    match part:
        case Text() | Refusal():
            return len(part.text)
        case Reasoning():
            return len(part.text or "")
        case ToolCall():
            return len(part.arguments or "") + len(part.name or "")
        case ToolResult():
            return weight(part.content, limit)
    return weight(getattr(part, "data", None), limit)


class SpanContent:
    """The content of one record that may be exported, and its byte budget. Not thread-safe."""

    __slots__ = ("_tools", "budget", "conversation", "has_content", "raw_answer", "raw_request")

    def __init__(self, conversation: Conversation | None, budget: ByteBudget, *, raw: bool = True) -> None:
        """`conversation` is None if no content may be exported."""
        self.has_content = conversation is not None
        self.conversation = _EMPTY if conversation is None else conversation
        self.budget = budget
        self.raw_request = raw or not self.conversation.input
        """Whether to set `llm.prompts` and `llm.prompts.raw`; not if another vocabulary has the input messages."""
        self.raw_answer = raw or not self.conversation.output
        """Whether to set `llm.completions.raw`; not if another vocabulary has the output messages."""
        self._tools: list[Json] | None = None

    @property
    def tools(self) -> list[Json]:
        """The tool definitions of the request in the conventions' JSON, computed once."""
        if self._tools is None:
            self._tools = tool_definitions(self.conversation.tools) if self.conversation.tools else []
        return self._tools


NO_CONTENT: Final = SpanContent(None, ByteBudget(0, 0))
"""For attributes that are set before a call has any content; its budget is never used."""


@lru_cache(maxsize=64)
def finish_word(reason: str) -> str:
    """Return a finish reason in the official instrumentations' spelling: `tool_call`, not `tool_calls`."""
    found = normalised(reason)
    return "tool_call" if found == TOOL_CALLS else found


def input_messages(picked: MessageSelection, record: CallRecord) -> list[Json]:
    """Return the selected messages of a request, with a note (role `callspan`) in place of omitted ones."""
    rest = messages_json(picked.rest)
    if not picked.omitted:
        return rest
    note = {"type": "text", "content": omission(picked.omitted, record)}
    return [*messages_json(picked.first), {"role": "callspan", "parts": [note]}, *rest]


def answer_messages(outcome: str, messages: Sequence[Message]) -> list[Json]:
    """Return one message per choice, each with its finish reason, or the call's outcome if it has none."""
    unfinished = _UNKNOWN_FINISH if outcome == "success" else outcome
    shown = []
    for message in messages:
        json = message_json(message)
        json["finish_reason"] = finish_word(message.finish_reason) if message.finish_reason else unfinished
        shown.append(json)
    return shown


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
    shown: list[Json] = []
    for message in messages:
        parts = message.parts
        if message.role == _USER and parts and (len(parts) > 1 or type(parts[0]) is ToolResult):
            shown += map(message_json, _by_speaker(message))
        else:
            shown.append(message_json(message))
    return shown


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
    shown = [{"type": "text", "content": plain.text}] if type(plain) is Text else parts_json(parts)
    json: Json = {"role": message.role, "parts": shown}
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
    if part.tool_type in _CLIENT_TOOLS:
        json = _named("tool_call", part.id, part.name)
        if part.arguments is not None:
            json["arguments"] = _arguments(part.arguments)
        return json
    json = _named("server_tool_call", part.id, part.name or part.tool_type)
    details: Json = {"type": part.tool_type}
    if part.arguments is not None:
        details["arguments"] = _arguments(part.arguments)
    json["server_tool_call"] = details
    return json


def _tool_result(part: ToolResult) -> Json:
    if part.tool_type in _CLIENT_TOOLS:
        json = _named("tool_call_response", part.id, None)
        json["response"] = part.content
    else:
        json = _named("server_tool_call_response", part.id, None)
        json["server_tool_call_response"] = {"type": part.tool_type, "content": part.content}
    if part.is_error:
        json["is_error"] = True
    return json


def _media(part: Media) -> Json:
    json: Json = {"modality": part.modality}
    if part.mime:
        json["mime_type"] = part.mime
    if part.data is not None:
        return {"type": "blob", **json, "content": part.data}
    if part.file_id is not None:
        return {"type": "file", **json, "file_id": part.file_id}
    uri = part.url or (f"urn:sha256:{part.sha256}" if part.sha256 else "")
    if part.size is not None:
        json["size"] = part.size
    return {"type": "uri", **json, "uri": uri}


def _unknown(part: UnknownPart) -> Json:
    kind = part.data.get("type") if isinstance(part.data, dict) else None
    return {"type": kind if isinstance(kind, str) and kind else "unknown", "data": part.data}


def _named(kind: str, identity: str | None, name: str | None) -> Json:
    json: Json = {"type": kind}
    if identity is not None:
        json["id"] = identity
    if name is not None:
        json["name"] = name
    elif kind.endswith("call"):
        json["name"] = ""
    return json


def _arguments(text: str) -> object:
    """Return the arguments parsed if they are a JSON object, else (truncated or invalid) the text."""
    if not text.startswith("{"):
        return text
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text


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
