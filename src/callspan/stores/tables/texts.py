"""Texts: what a piece of a body says, and who says it, in the same form for every API.

The adapter of the API reads the piece, as it reads the whole body. If it reads no text, or there is no adapter, the
fields that have texts in most APIs are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from callspan.providers import registry
from callspan.providers.base import Endpoint
from callspan.providers.wire_json import mapping, text
from callspan.record.apis import OTHER, nested
from callspan.record.codec import encode_json
from callspan.record.messages import (
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
    role_of_item,
)

_MAX_DEPTH: Final = 32
_MAX_WORD: Final = 1024
"""Characters of a text without spaces; a longer one is data."""
_ANY_TEXTS: Final = frozenset(OTHER.texts)

Side: TypeAlias = Literal["message", "instructions", "content", "answer"]
"""`content` are texts that are searched and are no message, such as documents."""


class Place(NamedTuple):
    """Where in a body a piece with texts is."""

    api: str
    side: Side
    field: str = ""
    is_element: bool = False
    """Whether it is one element of the list in `field`."""
    is_plain: bool = False
    """Whether it is a message that may have only a role and a text."""


class Said(msgspec.Struct, frozen=True, gc=False):
    """The texts of a piece, as fragments that are joined without anything between them."""

    role: str
    words: list[str]
    """What was said: texts, refusals, tool calls as `name(arguments)` and tool results, each on a line of its own."""
    reasoning: list[str]
    """The reasoning of the model."""
    messages: list[Message]
    """What the adapter of the API read; empty if it read nothing, or there is none."""


def said(value: object, place: Place) -> Said:
    """Return what the parsed JSON of a piece says. Never raises."""
    if place.side == "content":
        return Said("user", [*_searched(value)], [], [])
    endpoint = registry.by_api(place.api)
    try:
        messages = [] if endpoint is None else _messages(endpoint, value, place)
    except RecursionError:
        messages = []
    words: list[str] = []
    reasoning: list[str] = []
    for message in messages:
        for part in message.parts:
            if type(part) is Text:
                _add_text(part.text, words)
            elif type(part) is Reasoning:
                _add_text(part.text, reasoning)
            else:
                _add_part(part, words)
    if not (words or reasoning):
        _add_lines(value, 0, words)
    return Said(_role(value, place, messages), words, reasoning, messages)


def _searched(value: object, depth: int = 0) -> Iterator[str]:
    """Yield the texts in JSON, each on a line of its own; not base64, which has no spaces."""
    if isinstance(value, str):
        if 0 < len(value) <= _MAX_WORD or " " in value:
            yield value
            yield "\n"
    elif isinstance(value, dict | list) and depth <= _MAX_DEPTH:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _searched(item, depth + 1)


def _messages(endpoint: Endpoint, value: object, place: Place) -> list[Message]:
    if place.side == "answer":
        conversation = endpoint.conversation(None, value)
        return [*conversation.input, *conversation.output] if conversation.input else conversation.output
    conversation = endpoint.conversation(nested(place.field, [value] if place.is_element else value), None)
    if place.side == "instructions":
        return [Message(role="system", parts=conversation.system)]
    return conversation.input


def _role(value: object, place: Place, messages: list[Message]) -> str:
    if place.side == "message":
        return messages[0].role if messages else _stated_role(value)
    return "system" if place.side == "instructions" else "assistant"


def _stated_role(value: object) -> str:
    """Return the role of a message, else the one that its type implies."""
    if mapping(value) is None:
        return "user"
    kind = text(value, "type") or ""
    return text(value, "role") or (role_of_item(kind) if kind else "user")


def _add_part(part: Part, words: list[str]) -> None:
    match part:
        case ToolCall():
            _add_line(_tool_call(part.name, part.arguments), words)
        case ToolResult():
            _add_result(part.content, words)
        case Refusal():
            _add_text(part.text, words)
        case UnknownPart():
            _add_lines(part.data, 0, words)


def _tool_call(name: object, arguments: object) -> list[str]:
    if not isinstance(name, str) or arguments is None:
        return []
    return [f"{name}(", arguments if isinstance(arguments, str) else encode_json(arguments).decode(), ")"]


def _add_result(content: object, words: list[str]) -> None:
    """Add the result of a tool: its text, the texts of its blocks, or the JSON of the application."""
    if isinstance(content, str):
        _add_text(content, words)
    elif isinstance(content, list):
        for item in content:
            if isinstance(item, dict) and ("type" in item or item.keys() == {"text"}):
                _add_lines(item, 0, words)
            else:
                _add_result(item, words)
    elif content is not None:
        _add_line([encode_json(content).decode()], words)


def _add_lines(value: object, depth: int, words: list[str]) -> None:
    """Add the texts in `value`, each on a line of its own."""
    if isinstance(value, str):
        _add_text(value, words)
    elif depth > _MAX_DEPTH:
        return
    elif isinstance(value, list):
        for item in value:
            _add_lines(item, depth + 1, words)
    elif isinstance(value, dict):
        key = next((key for key in OTHER.arguments if key in value), None)
        if key is not None:
            _add_line(_tool_call(value.get("name"), value[key]), words)
        for key, item in value.items():
            if key in _ANY_TEXTS and item:
                _add_lines(item, depth + 1, words)


def _add_text(content: str | None, words: list[str]) -> None:
    if content:
        if words:
            words.append("\n")
        words.append(content)


def _add_line(line: list[str], words: list[str]) -> None:
    if line and words:
        words.append("\n")
    words += line
