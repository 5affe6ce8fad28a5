"""Tool definitions: those of every API in the form of chat completions."""

from __future__ import annotations

from collections import Counter
from typing import Final

_KEPT: Final = ("name", "description", "parameters", "strict")


def chat_tools(tools: list[object], dropped: Counter[str]) -> list[dict[str, object]]:
    """Return definitions as chat completions take them; tools the provider hosts are counted and left out."""
    return [written for tool in tools if (written := _tool(tool, dropped)) is not None]


def tool_name(tool: dict[str, object]) -> str:
    """Return the name of a definition, or of a call, in the form of chat completions."""
    inner = tool.get("function") or tool.get("custom")
    return str(inner.get("name")) if isinstance(inner, dict) else ""


def _tool(tool: object, dropped: Counter[str]) -> dict[str, object] | None:
    if not isinstance(tool, dict):
        dropped["tool definition of unknown form"] += 1
        return None
    kind = tool.get("type") or ("function" if "input_schema" in tool or "parameters" in tool else "unknown")
    if isinstance(tool.get("function"), dict) or isinstance(tool.get("custom"), dict):
        return {"type": kind, str(kind): tool[str(kind)]} if str(kind) in tool else None
    # The Messages API names its schema otherwise; `custom` there is what `function` is here.
    if "input_schema" in tool:
        function = {"name": tool.get("name"), "parameters": tool["input_schema"]}
        return {"type": "function", "function": _with_description(function, tool)}
    if kind == "function":
        return {"type": "function", "function": {key: tool[key] for key in _KEPT if tool.get(key) is not None}}
    if kind == "custom":
        return {"type": "custom", "custom": {key: value for key, value in tool.items() if key != "type"}}
    dropped[f"hosted tool: {kind}"] += 1
    return None


def _with_description(function: dict[str, object], tool: dict[str, object]) -> dict[str, object]:
    return function | ({"description": tool["description"]} if tool.get("description") else {})
