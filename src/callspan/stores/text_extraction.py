"""Text extraction: what a person would read in a piece of wire JSON, whatever the provider.

Typed messages come from `callspan.providers`; this is only the plain text that SQL users search and see.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from callspan.providers.json_readers import mapping, text
from callspan.record.codec import encode_json

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


class Fragment(NamedTuple):
    """A piece of text."""

    text: str
    verbatim: bool = True
    """True where the JSON holds this very string."""


_LINE_END: Final = Fragment("\n", verbatim=False)


def text_in(value: object) -> str | None:
    """Return the texts in `value` joined by line ends, tool calls as `name(arguments)`; None if there is none."""
    return "".join(fragment.text for fragment in fragments(value)) or None


def fragments(value: object) -> list[Fragment]:
    """Return what `text_in` joins, piece by piece, line ends among them."""
    found: list[Fragment] = []
    _add_lines(value, 0, found)
    return found


def role_of(value: object) -> str:
    """Return who speaks in an element of a request's history: its role, else what its type implies."""
    if mapping(value) is None:
        return "user"
    kind = text(value, "type") or ""
    return text(value, "role") or _ROLE_OF_TYPE.get(kind, "assistant" if kind else "user")


def _add_lines(value: object, depth: int, found: list[Fragment]) -> None:
    if isinstance(value, str):
        _add_line([Fragment(value)], found)
    elif depth > _MAX_DEPTH:
        return
    elif isinstance(value, list):
        for item in value:
            _add_lines(item, depth + 1, found)
    elif isinstance(value, dict):
        if "name" in value:
            _add_line(_tool_call(value), found)
        for key, item in value.items():
            if key in _SPOKEN and item:
                _add_lines(item, depth + 1, found)


def _add_line(line: list[Fragment], found: list[Fragment]) -> None:
    if line and found:
        found.append(_LINE_END)
    found += line


def _tool_call(value: dict[str, object]) -> list[Fragment]:
    name = value.get("name")
    key = next((key for key in _ARGUMENTS if key in value), None)
    if not isinstance(name, str) or key is None:
        return []
    given = value[key]
    arguments = Fragment(given) if isinstance(given, str) else Fragment(encode_json(given).decode(), verbatim=False)
    return [Fragment(f"{name}(", verbatim=False), arguments, Fragment(")", verbatim=False)]
