"""Runs: which calls outside of sessions belong together, by their trace or by the tool calls that they answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from callspan.records import CallRecord, ToolCall, ToolResult
from callspan.stores import spoken

_Tool: TypeAlias = tuple[str, str | None]
"""The id of a tool call and the first words of its conversation: some providers count the tool calls of each."""


def runs_of(calls: Iterable[CallRecord]) -> Mapping[str, str]:
    """Return the id of the first call of each call's run, by the call's id.

    Calls are of one run if they have one trace, or if one sends the result of a tool that the other requested.
    """
    first: dict[str, str] = {}
    by_trace: dict[str, str] = {}
    by_tool: dict[_Tool, str] = {}
    for call in sorted(calls, key=lambda call: call.timing.start_ns):
        trace_id = call.trace_id or call.call_id
        answered = next((by_tool[tool] for tool in _answered(call) if tool in by_tool), call.call_id)
        first[call.call_id] = by_trace.setdefault(trace_id, answered)
        by_tool.update(dict.fromkeys(_requested(call), first[call.call_id]))
    return first


def _answered(call: CallRecord) -> Iterator[_Tool]:
    """Yield the tools that a call sends results of, the last one first."""
    about = _first_words(call)
    for message in reversed(spoken(call)):
        yield from ((part.id, about) for part in message.parts if isinstance(part, ToolResult) and part.id)


def _requested(call: CallRecord) -> Iterator[_Tool]:
    about = _first_words(call)
    for message in call.conversation.output if call.conversation is not None else ():
        yield from ((part.id, about) for part in message.parts if isinstance(part, ToolCall) and part.id)


def _first_words(call: CallRecord) -> str | None:
    return next((message.text for message in spoken(call) if message.role == "user"), None)
