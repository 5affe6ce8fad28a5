"""Hosted tools: finds runs of the provider's tools in an answer: web search, code, files, MCP servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from callspan.providers.wire_json import text
from callspan.record.apis import APIS
from callspan.record.messages import Conversation, Message, Part, ToolCall, ToolResult
from callspan.record.usage import Usage
from callspan.record.wire_fields import APPLICATION_TOOLS

_ANSWERED: Final = frozenset(f"{name}_call" for name in APPLICATION_TOOLS)
"""Types of their items."""
_OF_X: Final = frozenset({"x_keyword_search", "x_semantic_search", "x_user_search", "x_thread_fetch"})
"""Names under which xAI's search of X appears as a custom tool, although xAI runs it."""
_SUFFIXES: Final = ("_tool_use", "_tool_result", "_call", "program")
_DATASTORES: Final = frozenset({"file_search"})
_RESULTS: Final = ("output", "outputs", "results")
"""Fields with the result of a tool in items of the Responses API."""
SERVERS: Final = ("server_name", "server_label")
"""Fields with the name of an MCP server."""
_COMPLETED: Final = (None, "completed")
_FAILED: Final = frozenset({"failed", "error", "cancelled", "canceled", "expired", "timed_out"})
"""States of items with a tool that has ended. In any other state it has not, or may not have."""
PAUSED: Final = "pause_turn"
"""The finish reason of an answer that another request continues."""
_STATELESS: Final = frozenset(name for name, row in APIS.items() if not row.states_tool_runs)
"""APIs whose answers only show by a tool's result that it has ended."""


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
        fields: The item, or its name and other fields.
    """
    if tool_type in ("custom_tool", "custom"):
        return text(fields, "name") not in _OF_X
    if tool_type == "tool_search":
        return text(fields, "execution") == "client"
    if tool_type == "shell":
        return text(fields, "environment", "type") != "container_reference"
    return tool_type in APPLICATION_TOOLS


def has_runs(body: object, usage: Usage | None) -> bool:
    """Return whether an answer may contain a run of a hosted tool, or pause one. Called for each answer."""
    if not isinstance(body, dict):
        return False
    if "choices" in body:
        return usage is not None and bool(usage.hosted_tools)
    blocks = body.get("content") or body.get("output")
    for block in blocks if isinstance(blocks, list) else ():
        kind = block.get("type") if isinstance(block, dict) else None
        is_tool = isinstance(kind, str) and kind.endswith(_SUFFIXES)
        if is_tool and (kind not in _ANSWERED or text(block, "name") in _OF_X):
            return True
    return body.get("stop_reason") == PAUSED


def unanswered(conversation: Conversation) -> list[ToolCall]:
    """Return the calls of hosted tools in the last answers, and in the request, that have no result there."""
    parts = _parts([*conversation.input, *conversation.output])
    answered = {part.id for part in parts if isinstance(part, ToolResult)}
    calls = [part for part in parts if isinstance(part, ToolCall) and part.id not in answered]
    return [call for call in calls if not call.is_of_application]


def runs_at_provider(conversation: Conversation, api: str) -> Iterator[ProviderRun]:
    """Yield the runs of hosted tools that have ended, as the answer says, with their results.

    A tool that was running when the answer before was paused has its result in this one, and its call in the request.
    """
    output = _parts(conversation.output)
    results = {part.id: part for part in output if isinstance(part, ToolResult)}
    calls = [part for part in output if isinstance(part, ToolCall)]
    if api in _STATELESS:
        calls = [*_paused(conversation, calls, results), *calls]
    hosted = [call for call in calls if not call.is_of_application]
    for position, call in enumerate(hosted):
        run = _run(call, position, results.get(call.id))
        if run is not None and (api not in _STATELESS or call.id in results or run.result is not None):
            yield run


def _parts(messages: list[Message]) -> list[Part]:
    return [part for message in messages for part in message.parts]


def _paused(
    conversation: Conversation, calls: list[ToolCall], results: dict[str | None, ToolResult]
) -> Iterator[ToolCall]:
    """Yield the calls of results without one in the answer, as the request has them."""
    unmatched_ids = results.keys() - {call.id for call in calls} - {None}
    calls_in_request = (
        {part.id: part for part in _parts(conversation.input) if isinstance(part, ToolCall)} if unmatched_ids else {}
    )
    for name in (name for name in results if name in unmatched_ids):
        kind = results[name].tool_type
        yield calls_in_request.get(name) or ToolCall(id=name, name=kind, tool_type=kind, is_of_application=False)


def _run(call: ToolCall, position: int, answer: ToolResult | None) -> ProviderRun | None:
    """Return the run of a call; None if it has not ended, or is not known to have."""
    extra = call.extra or {}
    status, error = text(extra, "status"), extra.get("error")
    output = next((extra[name] for name in _RESULTS if extra.get(name) is not None), error)
    result = output if answer is None else answer.content
    has_failed = error is not None or status in _FAILED or (answer is not None and answer.is_error is True)
    if call.incomplete or not (has_failed or result is not None or status in _COMPLETED):
        return None
    server = next((text(extra, name) for name in SERVERS if name in extra), None)
    kind = "datastore" if call.tool_type in _DATASTORES else "extension"
    return ProviderRun(call, position, kind, server, result, has_failed)
