"""Span messages: reads the messages that spans of other instrumentations state as bodies of the API `span_messages`.

Under which names they state them is in `vocabularies`. Each vocabulary has its own words for a text, a tool call or its
result; all become those of chat completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from callspan.providers.wire_json import Json, mapping, objects, text
from callspan.record.codec import json_text
from callspan.record.foreign_json import read_json
from callspan.semconv.records_from_spans import ForeignSpan
from callspan.semconv.vocabularies import (
    ANSWER_TEXT,
    ANSWERED,
    ANSWERED_FLAT,
    ASKED,
    ASKED_FLAT,
    CALL_ARGUMENTS,
    CALL_IDS,
    CALL_NAMES,
    CALL_PARTS,
    CALL_RESULTS,
    DETAILS,
    FLAT_WORDS,
    INSTRUCTIONS,
    REASONING,
    RESULT_PARTS,
    TOOL_CALLS,
    TOOLS,
    TOOLS_FLAT,
)

SPAN_MESSAGES: Final = "span_messages"
"""The API of these bodies."""
_CONTENT: Final = ("parts", "contents", "content")
_TEXTS: Final = frozenset({"text", "input_text", "output_text"})
_THOUGHTS: Final = frozenset({"reasoning", "thinking"})
_MAX_DEPTH: Final = 8
"""Names of a flat attribute's value, one within the other."""


def bodies_of(span: ForeignSpan) -> tuple[Json | None, Json | None]:
    """Return the request and the answer that the span of a call states; None for what it does not state."""
    attributes = {**span.attributes, **span.events.get(DETAILS, {})}
    instructions = [*_messages(_stated(attributes, INSTRUCTIONS), "system")]
    asked = _stated(attributes, ASKED) or _tree(attributes, ASKED_FLAT)
    messages = [*instructions, *_messages(asked, "user")]
    tools = _objects(_stated(attributes, TOOLS) or _tree(attributes, TOOLS_FLAT))
    request: Json | None = (
        {"messages": messages, **({"tools": tools} if tools else {})} if _have_words(messages) else None
    )
    answers = [*_messages(_answer(attributes), "assistant")]
    if not _have_words(answers):
        return request, None
    if span.kind is not None and span.kind.api == "responses":
        answers = _joined(answers)  # its items, which are one answer
    choices = [
        {"index": index, "message": message, "finish_reason": message.pop("finish_reason", None)}
        for index, message in enumerate(answers)
    ]
    return request, {"choices": choices}


def _have_words(messages: list[Json]) -> bool:
    """Return whether messages state more than roles: some instrumentations leave the content out of the parts."""
    return any(message["content"] or "tool_calls" in message for message in messages)


def _answer(attributes: Mapping[str, object]) -> object:
    if (stated := _stated(attributes, ANSWERED) or _tree(attributes, ANSWERED_FLAT)) is not None:
        return stated
    said, thought = _stated(attributes, ANSWER_TEXT), _stated(attributes, REASONING)
    calls = _objects(_stated(attributes, TOOL_CALLS))
    parts = [{"type": kind, "text": piece} for kind, piece in (("reasoning", thought), ("text", said)) if piece]
    return [{"content": parts, "tool_calls": calls}] if parts or calls else None


def _stated(attributes: Mapping[str, object], names: tuple[str, ...]) -> object:
    """Return the value of the first of these attributes that is not empty; None without one."""
    return next((value for name in names if (value := attributes.get(name))), None)


def _tree(attributes: Mapping[str, object], prefixes: tuple[str, ...]) -> object:
    """Return the value of the attributes with the first prefix that some have: `0.content` is a member of an element.

    None without any.
    """
    for prefix in prefixes:
        root: dict[str, object] = {}
        for name in attributes:
            *path, last = _path(name, prefix)
            node = root
            for step in path:
                inner = node.setdefault(step, {})
                node = inner if isinstance(inner, dict) else {}
            if last:
                node[last] = attributes[name]
        if root:
            return _with_lists(root)
    return None


def _path(name: str, prefix: str) -> list[str]:
    """Return the steps to a flat attribute's value, without the words that only group others; one, empty, for none."""
    path = name.removeprefix(prefix).split(".", _MAX_DEPTH) if name.startswith(prefix) else []
    return [step for step in path if step not in FLAT_WORDS] or [""]


def _with_lists(node: object) -> object:
    if not isinstance(node, dict):
        return node
    members = {step: _with_lists(member) for step, member in node.items()}
    if all(step.isascii() and step.isdigit() for step in members):
        return [members[step] for step in sorted(members, key=lambda step: (len(step), step))]
    return members


def _parsed(value: object) -> object:
    """Return JSON text as its value; any other value unchanged."""
    reading = read_json(value) if isinstance(value, str) and value.startswith(("{", "[")) else None
    return value if reading is None else reading.value


def _objects(stated: object) -> list[Json]:
    """Return the objects of a list, of which each may be JSON text."""
    listed = _parsed(stated)
    items = [_parsed(item) for item in listed] if isinstance(listed, list | tuple) else []
    items = [
        _parsed(item["json_schema"]) if isinstance(item, dict) and "json_schema" in item else item for item in items
    ]
    return [item for item in items if isinstance(item, dict)]


def _messages(stated: object, role: str) -> Iterator[Json]:
    """Yield messages in the words of chat completions; `role` is the role of one that states none."""
    listed = _parsed(stated)
    if listed is None:
        return
    if not isinstance(listed, list | tuple):
        listed = [listed]
    if role == "system":  # instructions are parts
        yield from _said({"parts": [part if isinstance(part, dict) else _text(part) for part in listed]}, role)
        return
    for message in listed:
        yield from _said(message if isinstance(message, dict) else {"content": message}, role)


def _text(said: object) -> Json:
    return {"type": "text", "text": said}


def _said(message: Mapping[str, object], role: str) -> Iterator[Json]:
    """Yield a message; the results of tools in it, each as a message of its own, come first."""
    role = text(message, "role") or role
    content = next((value for name in _CONTENT if (value := message.get(name)) not in (None, "")), None)
    parts = _parsed(content)
    if not isinstance(parts, list | tuple) or not all(isinstance(part, dict) for part in parts):
        parts = None
    calls = [_call(call) for call in objects(message, "tool_calls")]
    pieces: list[Json] = []
    has_results = False
    for kind, part in map(_kind_of, parts or ()):
        if kind in CALL_PARTS:
            calls.append(_call(part))
        elif kind in RESULT_PARTS:
            has_results = True
            yield {"role": "tool", "tool_call_id": _first(part, CALL_IDS), "content": _result(part)}
        elif part.keys() != {"type"}:
            pieces.append(_piece(kind, part))
    if has_results and not (pieces or calls):
        return
    said: Json = {"role": role, "content": content if parts is None else _plain(pieces)}
    said |= {name: message[name] for name in ("name", "tool_call_id", "finish_reason") if message.get(name)}
    yield {**said, "tool_calls": calls} if calls else said


def _kind_of(part: Json) -> tuple[str, Json]:
    """Return the type of a part, and the part; of one without a type the only object in it, by its name."""
    kind, (first, *others) = text(part, "type"), [*part] or [""]
    if kind is None and not others and (inner := mapping(part, first)) is not None:
        return first, inner
    return kind or "", part


def _piece(kind: str, part: Json) -> Json:
    """Return a part that is neither a tool call nor a result."""
    said = _first(part, ("text", "content", "thinking"))
    if kind in _TEXTS and said is not None:
        return _text(said)
    if kind in _THOUGHTS and said is not None:
        return {"type": "thinking", "thinking": said}
    if kind in ("uri", "blob") and (modality := text(part, "modality")):
        inline = f"data:{text(part, 'mime_type') or modality};base64,{text(part, 'content')}"
        return {"type": f"{modality}_url", f"{modality}_url": {"url": text(part, "uri") or inline}}
    return part


def _plain(pieces: list[Json]) -> object:
    """Return the parts of a message; of one that is only a text the text."""
    if not pieces:
        return None
    return pieces[0]["text"] if len(pieces) == 1 and pieces[0].keys() == {"type", "text"} else pieces


def _call(part: Json) -> Json:
    inner = mapping(part, "function") or mapping(part, "tool_call") or part
    arguments = _first(inner, CALL_ARGUMENTS)
    function = {"name": _first(inner, CALL_NAMES), "arguments": None if arguments is None else json_text(arguments)}
    return {"id": _first(part, CALL_IDS) or _first(inner, CALL_IDS), "type": "function", "function": function}


def _result(part: Json) -> object:
    result = _first(part, CALL_RESULTS)
    return result["value"] if isinstance(result, dict) and result.keys() == {"type", "value"} else result


def _first(part: Mapping[str, object], names: tuple[str, ...]) -> object:
    return next((value for name in names if (value := part.get(name)) is not None), None)


def _joined(messages: list[Json]) -> list[Json]:
    """Return the messages as one: their parts, and their tool calls."""
    if len(messages) <= 1:
        return messages
    contents = [message.get("content") for message in messages]
    parts = [part for said in contents for part in (said if isinstance(said, list) else [_text(said)] if said else [])]
    calls = [call for message in messages for call in objects(message, "tool_calls")]
    joined: Json = {"role": "assistant", "content": _plain(parts)}
    return [{**joined, "tool_calls": calls} if calls else joined]
