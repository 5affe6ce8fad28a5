"""Contents of Converse's requests and answers as messages with typed parts: a block is an object with one field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from callspan.providers.hosted_tools import is_of_application
from callspan.providers.media_parts import media
from callspan.providers.wire_json import Json, detached, detached_object, flag, items, mapping, objects, text, word
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

_FUNCTION: Final = ("tool_use", None)
"""The `type` of a call of the application's tool; hosted tools have other types."""
_MEDIA: Final = ("image", "document", "video", "audio")
_FORMATS: Final = {
    "pdf": "application/pdf", "csv": "text/csv", "html": "text/html", "txt": "text/plain", "md": "text/markdown",
    "jpg": "image/jpeg", "mp3": "audio/mpeg",
}  # fmt: skip
"""Media types by format; other images, videos and sounds have a type made of the kind and the format."""
_CALL_FIELDS: Final = frozenset({"toolUseId", "name", "input", "type", "incomplete"})
_CACHE_POINT: Final = "cachePoint"


def conversation(request: object, response: object) -> Conversation:
    """Return the messages of one call; either body may be None or any JSON."""
    answer = mapping(response, "output", "message")
    output = [] if answer is None else [message(answer, "assistant", word(response, "stopReason"))]
    if not isinstance(request, dict):
        return Conversation(output=output)
    return Conversation(
        system=parts(items(request, "system")),
        input=[message(turn, "user") for turn in objects(request, "messages")],
        output=output,
        tools=list(tools(request)),
    )


def tools(request: object) -> Iterable[Json]:
    """Yield the definitions of tools, as name, description and schema."""
    for tool in objects(request, "toolConfig", "tools"):
        specification, hosted = mapping(tool, "toolSpec"), mapping(tool, "systemTool")
        if specification is not None:
            fields = detached_object({key: item for key, item in specification.items() if key != "inputSchema"})
            yield {**fields, "input_schema": detached(mapping(specification, "inputSchema", "json") or {})}
        elif hosted is not None:
            yield {"type": text(hosted, "name"), **detached_object(hosted)}
        elif _CACHE_POINT not in tool:
            yield detached_object(tool)


def message(turn: object, role: str, reason: str | None = None) -> Message:
    """Return one message; `role` is the default for a message without a role."""
    message_parts = parts(items(turn, "content"))
    if message_parts and all(isinstance(part, ToolResult) and part.tool_type == "function" for part in message_parts):
        return Message(role="tool", parts=message_parts)
    return Message(role=word(turn, "role") or role, parts=message_parts, finish_reason=reason)


def parts(blocks: Iterable[object]) -> list[Part]:
    """Return the parts of the blocks of a message."""
    return [part for block in blocks for part in _parts(block)]


def _parts(block: object) -> list[Part]:
    if not isinstance(block, dict):
        return [UnknownPart(data=detached(block))]
    content = text(block, "text")
    if content is not None:
        return [Text(text=content)] if content else []
    for name, reader in _READERS.items():
        if (member := mapping(block, name)) is not None:
            part = reader(member, name)
            return [UnknownPart(data=detached(block)) if part is None else part]
    return [] if block.keys() == {_CACHE_POINT} else [UnknownPart(data=detached(block))]


def _tool_call(use: Json, _: str) -> Part:
    kind = word(use, "type")
    tool_type = "function" if kind in _FUNCTION else word(use, "name") or str(kind)
    extra = {key: item for key, item in use.items() if key not in _CALL_FIELDS}
    return ToolCall(
        id=word(use, "toolUseId"),
        name=word(use, "name"),
        arguments=json_text(use.get("input", {})),
        tool_type=tool_type,
        is_of_application=is_of_application(tool_type, use),
        incomplete=flag(use, "incomplete") is True,
        extra=detached_object(extra) or None,
    )


def _tool_result(result: Json, _: str) -> Part:
    kind, status = word(result, "type"), word(result, "status")
    tool_type = "function" if kind in ("tool_result", None) else str(kind)
    return ToolResult(
        id=word(result, "toolUseId"),
        content=_result_content(items(result, "content")),
        is_error=None if status is None else status == "error",
        tool_type=tool_type,
        is_of_application=is_of_application(tool_type, result),
    )


def _result_content(blocks: list[object] | tuple[()]) -> object:
    """Return the content of a result: the text or JSON of its only block, else its blocks as received."""
    only = blocks[0] if len(blocks) == 1 else None
    if isinstance(only, dict) and len(only) == 1:
        for name in ("text", "json"):
            if name in only:
                return detached(only[name])
    return detached(list(blocks))


def _reasoning(thought: Json, _: str) -> Part:
    words = mapping(thought, "reasoningText")
    return Reasoning(
        text=word(words, "text"), signature=word(words, "signature"), sealed=word(thought, "redactedContent")
    )


def _cited_text(cited: Json, _: str) -> Part:
    content = "".join(text(piece, "text") or "" for piece in objects(cited, "content"))
    return Text(text=content, annotations=list(map(detached, items(cited, "citations"))) or None)


def _guarded(guarded: Json, _: str) -> Part | None:
    """Return content that is marked for a guardrail."""
    content, image = text(guarded, "text", "text"), mapping(guarded, "image")
    if content is not None:
        return Text(text=content)
    return None if image is None else _medium(image, "image")


def _medium(medium: Json, kind: str) -> Media | Text | None:
    source, suffix = mapping(medium, "source") or {}, word(medium, "format")
    texts = [content for piece in (source, *objects(source, "content")) if (content := text(piece, "text")) is not None]
    if texts:
        return Text(text="".join(texts))
    mime = None if suffix is None else _FORMATS.get(suffix) or (None if kind == "document" else f"{kind}/{suffix}")
    location = source.get("bytes") or text(source, "s3Location", "uri")
    return media(kind, location, part=source, mime=mime)


_READERS: Final[dict[str, Callable[[Json, str], Part | None]]] = {
    "toolUse": _tool_call,
    "toolResult": _tool_result,
    "reasoningContent": _reasoning,
    "citationsContent": _cited_text,
    "guardContent": _guarded,
    **dict.fromkeys(_MEDIA, _medium),
}
"""The readers of blocks, by the field that has the data of the block."""
