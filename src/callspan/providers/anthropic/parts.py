"""Messages of the Messages API, of requests and responses, as typed parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callspan.providers.hosted_tools import is_of_application
from callspan.providers.media_parts import media_of_source
from callspan.providers.wire_json import detached, flag, items, text
from callspan.record.codec import json_text
from callspan.record.messages import (
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)

_Block = dict[str, object]

_CALL_FIELDS: Final = frozenset({"type", "id", "name", "input", "incomplete", "cache_control"})
_TOOL_USE: Final = "_tool_use"
_TOOL_RESULT: Final = "_tool_result"


def conversation(request: object, response: object) -> Conversation:
    """Return the messages of one call; either body may be None or any JSON."""
    output = [] if response is None else _answer(response)
    if not isinstance(request, dict):
        return Conversation(output=output)
    return Conversation(
        system=parts(request["system"]) if "system" in request else [],
        input=list(map(_message, items(request, "messages"))),
        output=output,
        tools=list(map(detached, items(request, "tools"))) if "tools" in request else [],
    )


def parts(content: object) -> list[Part]:
    """Return content, a string or a list of blocks, as parts in order. Unknown kinds are kept."""
    if isinstance(content, str):
        return [Text(text=content)]
    return list(map(_part, content)) if isinstance(content, list) else []


def _message(message: object) -> Message:
    if not isinstance(message, dict):
        return Message(role="unknown", parts=[UnknownPart(data=detached(message))])
    role, content = message.get("role"), message.get("content")
    content_parts: list[Part] = [Text(text=content)] if type(content) is str else parts(content)
    return Message(role=role if isinstance(role, str) and role else "unknown", parts=content_parts)


def _answer(response: object) -> list[Message]:
    if not isinstance(response, dict) or not isinstance(response.get("content"), list | str):
        return []
    role, reason = text(response, "role") or "assistant", text(response, "stop_reason") or None
    return [Message(role=role, parts=parts(response["content"]), finish_reason=reason)]


def _part(block: object) -> Part:
    if isinstance(block, str):
        return Text(text=block)
    kind = text(block, "type")
    if not isinstance(block, dict) or kind is None:
        return UnknownPart(data=detached(block))
    reader = _READERS.get(kind)
    if reader is None and kind.endswith(_TOOL_USE):
        reader = _tool_call
    if reader is None and kind.endswith(_TOOL_RESULT):
        reader = _tool_result
    part = None if reader is None else reader(block)
    return UnknownPart(data=detached(block)) if part is None else part


def _text(block: _Block) -> Part | None:
    content = text(block, "text")
    citations = list(map(detached, items(block, "citations"))) if "citations" in block else None
    return None if content is None else Text(text=content, annotations=citations or None)


def _thinking(block: _Block) -> Part:
    thought, signature = text(block, "thinking") or None, text(block, "signature") or None
    return Reasoning(text=thought, signature=signature, sealed=text(block, "data"))


def _tool_call(block: _Block) -> Part:
    name = text(block, "name")
    tool_type = _tool_type(text(block, "type") or "", name)
    extra = {key: detached(value) for key, value in block.items() if key not in _CALL_FIELDS}
    return ToolCall(
        id=text(block, "id"),
        name=name,
        arguments=json_text(block.get("input")),
        tool_type=tool_type,
        is_of_application=is_of_application(tool_type, block),
        incomplete=flag(block, "incomplete") is True,
        extra=extra or None,
    )


def _tool_type(kind: str, name: str | None) -> str:
    """Return `function` for the application's tools, the name of hosted tools, and the kind of toolsets and MCP."""
    if kind == "tool_use":
        return "function"
    hosted = kind.removesuffix(_TOOL_USE)
    return name or hosted if hosted == "server" else hosted


def _tool_result(block: _Block) -> Part:
    kind, has_failed = text(block, "type") or "", (text(block, "content", "type") or "").endswith("_error")
    tool_type = "function" if kind == "tool_result" else kind.removesuffix(_TOOL_RESULT)
    return ToolResult(
        id=text(block, "tool_use_id"),
        content=detached(block.get("content")),
        is_error=True if has_failed else flag(block, "is_error"),
        tool_type=tool_type,
        is_of_application=is_of_application(tool_type, block),
    )


def _upload(block: _Block) -> Part:
    return Media(modality="document", file_id=text(block, "file_id"))


_READERS: Final[dict[str, Callable[[_Block], Part | None]]] = {
    "text": _text,
    "thinking": _thinking,
    "redacted_thinking": _thinking,
    "tool_use": _tool_call,
    "tool_result": _tool_result,
    "image": media_of_source,
    "document": media_of_source,
    "container_upload": _upload,
}
