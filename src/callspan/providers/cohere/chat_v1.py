"""Chat of version 1: a message and the history before it. Streams are JSON lines; the last one has the whole answer.

Tool calls and results have no ids and are paired by name and order.
"""

from __future__ import annotations

from typing import ClassVar, Final

from callspan.providers.cohere.base import CohereEndpoint, hidden_finish
from callspan.providers.error_kinds import error_in
from callspan.providers.fold.merge import finished_copy, grow, merge
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.named_calls import CallNames, call_id
from callspan.providers.openai.parts import list_or_none
from callspan.providers.wire_json import (
    Json,
    detached,
    detached_object,
    flag,
    integer,
    items,
    mapping,
    objects,
    text,
    word,
)
from callspan.record.codec import json_text
from callspan.record.messages import Conversation, Message, Part, Text, ToolCall, ToolResult

_ROLES: Final = {"user": "user", "chatbot": "assistant", "system": "system", "tool": "tool"}
"""Roles by Cohere's, in lower case."""
_LISTS: Final = ("citations", "documents", "search_results", "search_queries")
"""Lists of an answer that events extend."""
_END: Final = "stream-end"
_CALLS: Final = "tool_calls"
_PARAMETERS: Final = "parameter_definitions"
_TYPES: Final = {
    "str": "string", "string": "string", "int": "integer", "integer": "integer", "float": "number", "number": "number",
    "bool": "boolean", "boolean": "boolean", "list": "array", "array": "array", "dict": "object", "object": "object",
}  # fmt: skip
"""Types of JSON Schema by the names of Python's."""


class ChatV1Fold:
    """Joins the events of a stream; the last one has the whole answer."""

    usage_rule: ClassVar[UsageRule] = "last whole"

    def __init__(self) -> None:
        self._body: Json = {}
        self._message: Json = {}
        """A message of chat completions with the tool calls under construction; their pieces have the same form."""
        self.complete = False
        """True once the last event was received."""

    @property
    def ended(self) -> bool:
        """True once the last event was received."""
        return self.complete

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried content."""
        if not isinstance(event, dict):
            return False
        kind = event.get("event_type")
        if kind == _END:
            return self._end(event)
        if kind == "text-generation":
            return self._grow(self._body, "text", event.get("text"))
        if kind == "tool-calls-chunk":
            return self._grow_call(mapping(event, "tool_call_delta") or {})
        if kind == "tool-calls-generation":
            self._body[_CALLS] = detached(items(event, _CALLS))
            return True
        if (generation := word(event, "generation_id")) is not None:
            self._body["generation_id"] = generation
        if (error := error_in(event) or word(event, "message")) is not None:
            self._body["error"] = detached(error)
        stated = [name for name in _LISTS if items(event, name)]
        for name in stated:
            self._body.setdefault(name, []).extend(detached(items(event, name)))
        return bool(stated)

    @staticmethod
    def _grow(holder: Json, key: str, piece: object) -> bool:
        return isinstance(piece, str) and piece != "" and grow(holder, key, piece)

    def _grow_call(self, delta: Json) -> bool:
        piece = {"name": delta.get("name"), "arguments": delta.get("parameters")}
        return merge(self._message, {_CALLS: [{"index": integer(delta, "index"), "function": piece}]})

    def _end(self, event: Json) -> bool:
        self.complete = True
        answer = {name: value for name, value in (mapping(event, "response") or {}).items() if value is not None}
        ended = {name: event[name] for name in ("finish_reason", "error") if event.get(name)}
        self._body |= detached({**answer, **ended})
        return False

    def body(self) -> Json | None:
        """Return the body so far; None if nothing was received."""
        if not (self._body or self._message):
            return None
        folded: Json = finished_copy(self._body)
        if self._message and not folded.get(_CALLS):
            folded[_CALLS] = [
                {"name": text(call, "name"), "parameters": text(call, "arguments"), "incomplete": True}
                for piece in finished_copy(self._message[_CALLS])
                if (call := mapping(piece, "function"))
            ]
        return folded


class ChatV1(CohereEndpoint):
    """`/v1/chat`. Stateless."""

    content = frozenset(
        {"model", "stream", "message", "chat_history", "preamble", "documents", "tools", "tool_results"}
    )  # fmt: skip
    answer = frozenset({"text", "generation_id", "response_id", "chat_history", "finish_reason"})
    finishes = True

    def accumulator(self) -> ChatV1Fold:
        """Return a fresh accumulator."""
        return ChatV1Fold()

    def _message_count(self, body: dict[str, object]) -> int | None:
        return len(items(body, "chat_history")) + 1

    def _id(self, body: object) -> str | None:
        return word(body, "response_id") or word(body, "generation_id")

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""
        preamble, reason = text(request, "preamble"), word(response, "finish_reason")
        turns = [_turn(turn, _role(turn)) for turn in objects(request, "chat_history")]
        asked = _turn({"message": text(request, "message")}, "user")
        results = _turn({"tool_results": items(request, "tool_results")}, "tool")
        answered = Message(
            role="assistant", parts=_parts(response, "text"), finish_reason=hidden_finish(response) or reason
        )
        return Conversation(
            system=[Text(text=preamble)] if preamble else [],
            input=[*turns, *(message for message in (asked, results) if message.parts)],
            output=[answered] if self._is_answer(response) else [],
            tools=list(map(_tool, objects(request, "tools"))),
        )


def _tool(tool: Json) -> Json:
    """Return the definition of a tool with its parameters as a schema; the API names the types of Python."""
    fields = detached_object(tool)
    parameters = mapping(fields.pop(_PARAMETERS, None)) or {}
    return {
        **fields,
        "parameters": {
            "type": "object",
            "properties": {name: _property(parameter) for name, parameter in parameters.items()},
            "required": [name for name, parameter in parameters.items() if flag(parameter, "required")],
        },
    }


def _property(parameter: object) -> Json:
    kind = (text(parameter, "type") or "").partition("[")[0].lower()
    described = text(parameter, "description")
    stated = {"type": _TYPES.get(kind), "description": described}
    return {key: value for key, value in stated.items() if value is not None}


def _role(turn: Json) -> str:
    role = text(turn, "role") or "user"
    return _ROLES.get(role.casefold(), role)


def _turn(turn: Json, role: str) -> Message:
    return Message(role=role, parts=_parts(turn, "message"))


def _parts(turn: object, text_key: str) -> list[Part]:
    """Return the text, the calls and the results of a turn."""
    parts: list[Part] = []
    names, answered = CallNames(), CallNames()
    if content := text(turn, text_key):
        citations = turn.get("citations") if isinstance(turn, dict) else None
        parts.append(Text(text=content, annotations=list_or_none(citations)))
    for call in objects(turn, "tool_calls"):
        name = word(call, "name")
        arguments = json_text(call.get("parameters", {}))
        incomplete = flag(call, "incomplete") is True
        parts.append(ToolCall(id=call_id(None, name, names), name=name, arguments=arguments, incomplete=incomplete))
    for result in objects(turn, "tool_results"):
        name = word(mapping(result, "call"), "name")
        parts.append(ToolResult(id=call_id(None, name, answered), content=detached(result.get("outputs"))))
    return parts
