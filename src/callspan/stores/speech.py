"""Speech: what a person would read in a piece of wire JSON, whatever the provider.

Typed messages come from `callspan.providers`; this is only the plain text that SQL users search and see.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from callspan.providers.wire import mapping, text

_MAX_DEPTH: Final = 32
_SPOKEN: Final = frozenset(
    {
        "choices", "content", "custom", "function", "input_text", "message", "output", "refusal", "summary",
        "text", "thinking", "tool_calls",
    }
)  # fmt: skip
_ARGUMENTS: Final = ("arguments", "input")
_ROLE_OF_TYPE: Final = {
    "custom_tool_call_output": "tool",
    "function_call_output": "tool",
    "computer_call_output": "tool",
    "local_shell_call_output": "tool",
    "mcp_approval_response": "user",
}


def said(value: object) -> str | None:
    """Return the texts in `value` joined by line ends, tool calls as `name(arguments)`; None if there is none."""
    found = "\n".join(_texts(value, 0))
    return found or None


def role_of(value: object) -> str:
    """Return who speaks in an element of a request's history: its role, else what its type implies."""
    if mapping(value) is None:
        return "user"
    kind = text(value, "type") or ""
    return text(value, "role") or _ROLE_OF_TYPE.get(kind, "assistant" if kind else "user")


def _texts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth > _MAX_DEPTH:
        return
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, depth + 1)
    elif isinstance(value, dict):
        call = _tool_call(value)
        if call is not None:
            yield call
        for key, item in value.items():
            if key in _SPOKEN and item:
                yield from _texts(item, depth + 1)


def _tool_call(value: dict[str, object]) -> str | None:
    name = value.get("name")
    key = next((key for key in _ARGUMENTS if key in value), None)
    if not isinstance(name, str) or key is None:
        return None
    given = value[key]
    return f"{name}({given if isinstance(given, str) else msgspec.json.encode(given).decode()})"
