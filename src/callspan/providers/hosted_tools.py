"""Hosted tools: finds runs of the provider's tools in an answer: web search, code, files, MCP servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from callspan.providers.wire_json import text
from callspan.record.messages import Message, ToolCall, ToolResult

OF_APPLICATION: Final = frozenset(
    {"function", "custom", "custom_tool", "toolset", "computer", "local_shell", "apply_patch"}
)
"""Types of tools that only the application runs."""
_ANSWERED: Final = frozenset(f"{name}_call" for name in OF_APPLICATION)
"""Types of their items."""
_OF_X: Final = frozenset({"x_keyword_search", "x_semantic_search", "x_user_search", "x_thread_fetch"})
"""Names under which xAI's search of X appears as a custom tool, although xAI runs it."""
_SUFFIXES: Final = ("_tool_use", "_call", "program")
_DATASTORES: Final = frozenset({"file_search"})
_RESULTS: Final = ("output", "outputs", "results")
"""Fields with the result of a tool in items of the Responses API."""
_SERVERS: Final = ("server_name", "server_label")


class ProviderRun(NamedTuple):
    """One run of a hosted tool."""

    call: ToolCall
    position: int
    """Its position in the answer, from 0."""
    kind: str
    """`extension` or `datastore`."""
    server: str | None
    """The MCP server of the tool."""
    result: object
    """None if none was returned."""
    failed: bool


def is_of_application(tool_type: str, fields: object) -> bool:
    """Return whether the application answers a tool call.

    A shell runs at the provider if it has a container there; a tool search runs in the application if its item says so.

    Args:
        tool_type: The type of the tool, as in `ToolCall`, or of its item without `_call`.
        fields: The item, or its other fields.
    """
    if tool_type == "custom_tool":
        return text(fields, "name") not in _OF_X
    if tool_type == "tool_search":
        return text(fields, "execution") == "client"
    if tool_type == "shell":
        return text(fields, "environment", "type") != "container_reference"
    return tool_type in OF_APPLICATION


def has_runs(body: object) -> bool:
    """Return whether an answer may contain a run of a hosted tool. Called for each answer."""
    if not isinstance(body, dict) or "choices" in body:
        return False
    blocks = body.get("content") or body.get("output")
    for block in blocks if isinstance(blocks, list) else ():
        kind = block.get("type") if isinstance(block, dict) else None
        if isinstance(kind, str) and kind.endswith(_SUFFIXES) and kind not in _ANSWERED:
            return True
    return False


def runs_at_provider(output: list[Message]) -> Iterator[ProviderRun]:
    """Yield the runs of hosted tools in the messages of an answer, with their results; none that has not ended."""
    parts = [part for message in output for part in message.parts]
    results = {part.id: part for part in parts if isinstance(part, ToolResult) and part.id is not None}
    calls = [part for part in parts if isinstance(part, ToolCall)]
    runs = [call for call in calls if not is_of_application(call.tool_type, call.extra)]
    for position, call in enumerate(runs):
        extra, answer = call.extra or {}, None if call.id is None else results.get(call.id)
        error = extra.get("error")
        stated = next((extra[name] for name in _RESULTS if extra.get(name) is not None), error)
        result = stated if answer is None else answer.content
        if call.incomplete:
            continue
        yield ProviderRun(
            call, position,
            "datastore" if call.tool_type in _DATASTORES else "extension",
            next((text(extra, name) for name in _SERVERS if name in extra), None),
            result,
            error is not None or extra.get("status") == "failed" or (answer is not None and answer.is_error is True),
        )  # fmt: skip
