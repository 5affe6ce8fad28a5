"""Request bodies of OpenAI's endpoints: model, parameters, counts and tool names."""

from __future__ import annotations

from typing import Final

from callspan.providers.copies import detached
from callspan.providers.json_readers import dig, items, objects, text, word
from callspan.record.call import Request
from callspan.record.codec import encode_json

_CONTENT: Final = frozenset(
    {"model", "stream", "messages", "input", "prompt", "tools", "instructions", "functions", "questions"}
)
_MAX_PARAM_BYTES: Final = 4096


def read_request(body: object, message_key: str) -> Request:
    """Return model, stream, parameters and counts of a request; `message_key` holds the messages. Total."""
    if not isinstance(body, dict):
        return Request()
    return Request(
        model=word(body, "model"),
        stream=body.get("stream") is True,
        params=_params(body),
        message_count=_message_count(body.get(message_key)),
        tool_names=_tool_names(body) if "tools" in body or "functions" in body else None,
    )


def _params(body: dict[object, object]) -> dict[str, object]:
    params: dict[str, object] = {}
    for key, value in body.items():
        if key not in _CONTENT and value is not None and isinstance(key, str):
            if isinstance(value, int | float):
                params[key] = value
            elif _is_small(value):
                params[key] = detached(value)
    return params


def _is_small(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_PARAM_BYTES
    return len(encode_json(value)) <= _MAX_PARAM_BYTES


def _message_count(messages: object) -> int | None:
    """One text and one array of token ids are one message each."""
    if isinstance(messages, str):
        return 1
    if not isinstance(messages, list):
        return None
    return 1 if messages and isinstance(messages[0], int) else len(messages)


def _tool_names(body: object) -> list[str] | None:
    if not isinstance(dig(body, "tools"), list) and not isinstance(dig(body, "functions"), list):
        return None
    names = [_tool_name(tool) for tool in objects(body, "tools")]
    names += [text(function, "name") for function in items(body, "functions")]
    return [name for name in names if name]


def _tool_name(tool: dict[str, object]) -> str | None:
    """Hosted tools have no name but their type; MCP servers go by their label."""
    places = (("function", "name"), ("custom", "name"), ("name",), ("server_label",), ("type",))
    return next((name for place in places if (name := text(tool, *place))), None)
