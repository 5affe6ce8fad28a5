"""Contents of Gemini's requests and answers as messages with typed parts.

Names may be in snake case wherever the application passed dictionaries, also mixed within one body. Function calls and
their responses rarely have ids: they are then paired by name and order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

import msgspec

from callspan.providers.finishing import tool_finish
from callspan.providers.media_parts import media
from callspan.providers.named_calls import CallNames, call_id
from callspan.providers.wire_json import Json, detached, detached_object, items, mapping, objects, text, word
from callspan.record.call import FinishWord
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

_SNAKE: Final = re.compile("(?<=[a-z0-9])_([a-z])")
_CAMEL: Final = re.compile("(?<=[a-z0-9])([A-Z])")
_URL_SAFE: Final = str.maketrans("-_", "+/")
_ASSISTANT: Final = "assistant"
_CALL_FIELDS: Final = frozenset({"id", "name", "args"})
_FUNCTIONS: Final = "functionDeclarations"
_SOURCES: Final = frozenset({"citationMetadata", "groundingMetadata"})
_MAX_NAMES: Final = 256


def camel(value: Json) -> Json:
    """Return an object with its own names in camel case."""
    if not any("_" in key for key in value if isinstance(key, str)):
        return value
    return {_SNAKE.sub(lambda letter: letter[1].upper(), key): item for key, item in value.items()}


@lru_cache(maxsize=_MAX_NAMES)
def snake(name: str) -> str:
    """Return a name in snake case."""
    return _CAMEL.sub(lambda letter: f"_{letter[1].lower()}", name)


def conversation(request: object, response: object) -> Conversation:
    """Return the messages of one call; either body may be None or any JSON."""
    output = [
        Message(
            role=_ASSISTANT,
            parts=_answer_parts(candidate),
            finish_reason=hidden_finish(candidate) or finish_reason(candidate),
        )
        for candidate in candidates(response)
    ]
    if not isinstance(request, dict):
        return Conversation(output=output)
    body = camel(request)
    contents = body.get("contents")
    return Conversation(
        system=parts(body.get("systemInstruction")),
        input=list(map(message, contents if isinstance(contents, list) else [contents] if contents else [])),
        output=output,
        tools=list(tools(body)),
    )


def tools(body: Json) -> Iterable[Json]:
    """Yield the definitions of tools as other APIs have them: functions by their names, hosted ones by type."""
    for tool in map(camel, objects(body, "tools")):
        for kind, setting in tool.items():
            if kind == _FUNCTIONS:
                yield from map(_function, objects(tool, kind))
            elif setting is not None:
                yield {**detached_object(mapping(setting) or {}), "type": snake(kind)}


def _function(declaration: Json) -> Json:
    fields = detached_object(camel(declaration))
    schema, own = fields.pop("parametersJsonSchema", None), fields.pop("parameters", None)
    parameters = _json_schema(own) if schema is None else schema
    return {"type": "function", **fields, **({} if parameters is None else {"parameters": parameters})}


def _json_schema(schema: object) -> object:
    """Return a schema of OpenAPI with the names of types of JSON Schema, which are in lower case."""
    if isinstance(schema, list):
        return list(map(_json_schema, schema))
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.lower() if key == "type" and isinstance(value, str) else _json_schema(value)
        for key, value in schema.items()
    }


def candidates(response: object) -> list[Json]:
    """Return the candidates of an answer (not copies)."""
    return [candidate for candidate in items(response, "candidates") if isinstance(candidate, dict)]


_FINISH_NUMBERS: Final = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
"""The reasons with the same number on both platforms, as Google's protobuf clients write them."""


def finish_reason(candidate: Json) -> str | None:
    """Return why a candidate ended; None if it has not."""
    reason = candidate.get("finishReason")
    if type(reason) is int:
        return _FINISH_NUMBERS.get(reason, str(reason) if reason else None)
    return word(candidate, "finishReason")


def hidden_finish(candidate: Json) -> FinishWord | None:
    """Return the word for a candidate that has stopped in order to call a function."""
    for part in items(candidate, "content", "parts"):
        if isinstance(part, dict) and "functionCall" in part:
            return tool_finish(finish_reason(candidate), calls=True)
    return None


def _answer_parts(candidate: Json) -> list[Part]:
    """Return the parts of a candidate. The last text has the sources, which the answer states for all texts."""
    answer_parts = parts(candidate.get("content"))
    if _SOURCES.isdisjoint(candidate):
        return answer_parts
    cited, grounding = mapping(candidate, "citationMetadata"), mapping(candidate, "groundingMetadata")
    sources = [*items(cited, "citationSources"), *items(cited, "citations"), *items(grounding, "groundingChunks")]
    last = max((index for index, part in enumerate(answer_parts) if isinstance(part, Text)), default=None)
    if sources and last is not None:
        answer_parts[last] = msgspec.structs.replace(answer_parts[last], annotations=list(map(detached, sources)))
    return answer_parts


def message(content: object) -> Message:
    """Return one content of a request."""
    content_parts = parts(content)
    role = text(content, "role") or "user"
    if content_parts and all(isinstance(part, ToolResult) and part.tool_type == "function" for part in content_parts):
        return Message(role="tool", parts=content_parts)
    return Message(role=_ASSISTANT if role == "model" else role, parts=content_parts)


def parts(content: object) -> list[Part]:
    """Return the parts of a content, which may be a text, one part, or a list of them."""
    if isinstance(content, str):
        return [Text(text=content)] if content else []
    wire_parts = content if isinstance(content, list) else items(content, "parts")
    if not wire_parts and isinstance(content, dict) and content and "parts" not in content:
        wire_parts = [content] if content.keys() != {"role"} else ()
    ids: CallNames = {}
    return [part for wire_part in wire_parts for part in _part(wire_part, ids)]


def _part(wire_part: object, ids: CallNames) -> list[Part]:
    if isinstance(wire_part, str):
        return [Text(text=wire_part)]
    if not isinstance(wire_part, dict):
        return [UnknownPart(data=detached(wire_part))]
    if len(wire_part) == 1 and (alone := text(wire_part, "text")) is not None:  # as most parts are
        return [Text(text=alone)] if alone else []
    fields = camel(wire_part)
    content, signature = text(fields, "text"), word(fields, "thoughtSignature")
    if fields.get("thought") is True and content is not None:
        return [Reasoning(text=content or None, signature=signature)]
    signed: list[Part] = [] if signature is None else [Reasoning(signature=signature)]
    if content is not None:
        return [Text(text=content), *signed] if content else signed
    for name, reader in _READERS.items():
        if (member := mapping(fields, name)) is not None:
            part = reader(camel(member), fields, ids)
            return [UnknownPart(data=detached(wire_part))] if part is None else [part]
    return (
        signed
        if signed and fields.keys() <= {"thoughtSignature", "thought"}
        else [UnknownPart(data=detached(wire_part))]
    )


def _function_call(function_call: Json, part: Json, ids: CallNames) -> Part:
    extra = {key: detached(value) for key, value in function_call.items() if key not in _CALL_FIELDS}
    if (signature := word(part, "thoughtSignature")) is not None:
        extra["thoughtSignature"] = signature
    return ToolCall(
        id=_id(function_call, ids),
        name=text(function_call, "name"),
        arguments=json_text(function_call.get("args", {})),
        incomplete=function_call.get("willContinue") is True,
        extra=extra or None,
    )


def _function_response(answer: Json, _: Json, ids: CallNames) -> Part:
    content = answer.get("response")
    is_error = True if isinstance(content, dict) and content.keys() == {"error"} else None
    return ToolResult(id=_id(answer, ids), content=detached(content), is_error=is_error)


def _id(function: Json, ids: CallNames) -> str | None:
    return call_id(word(function, "id"), word(function, "name"), ids)


def _hosted_call(run: Json, _part: Json, _ids: CallNames) -> Part:
    kind = text(run, "toolType") or "code_execution"
    arguments = run.get("args") if "args" in run else {key: run[key] for key in ("language", "code") if key in run}
    return ToolCall(
        id=word(run, "id"),
        name=kind.lower(),
        arguments=json_text(arguments),
        tool_type=kind.lower(),
        is_of_application=False,
    )


def _hosted_result(run: Json, _part: Json, _ids: CallNames) -> Part:
    kind = text(run, "toolType") or "code_execution"
    outcome = text(run, "outcome")
    return ToolResult(
        id=word(run, "id"),
        content=detached(run.get("response") if "response" in run else run),
        is_error=None if outcome is None else outcome != "OUTCOME_OK",
        tool_type=kind.lower(),
        is_of_application=False,
    )


def _medium(blob: Json, _part: Json, _ids: CallNames) -> Media | Text | None:
    data, mime = blob.get("data"), text(blob, "mimeType")
    if isinstance(data, str):
        data = data.translate(_URL_SAFE)
        data += "=" * (-len(data) % 4)
    return media("document", data if data is not None else blob.get("fileUri"), part=blob, mime=mime)


_READERS: Final[dict[str, Callable[[Json, Json, CallNames], Part | None]]] = {
    "functionCall": _function_call,
    "functionResponse": _function_response,
    "inlineData": _medium,
    "fileData": _medium,
    "executableCode": _hosted_call,
    "toolCall": _hosted_call,
    "codeExecutionResult": _hosted_result,
    "toolResponse": _hosted_result,
}
"""The readers of parts, by the field that has the data of the part."""
