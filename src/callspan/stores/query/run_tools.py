"""Run tools: the tools that ran between the calls of a run, as the next request tells.

A tool ran after the answer that asked for it, and before the request that brings its result: its arguments are in the
answer, its result in the request, and it took at most the time between. Computed when a run is read; nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.events import EventRecord
from callspan.record.messages import ToolCall, ToolResult, parse_arguments


def run_tools(calls: Iterable[CallRecord]) -> Iterator[EventRecord]:
    """Yield the tools of a run, given its calls by their start, each with the call that brought its result."""
    asked: dict[str, tuple[CallRecord, list[ToolCall]]] = {}
    for call in calls:
        previous = asked.get(call.place.previous_call_id or "")
        if previous is not None and call.conversation is not None:
            asker, tools = previous
            flow = [
                part for message in call.conversation.input for part in message.parts
                if isinstance(part, ToolCall | ToolResult)
            ]  # fmt: skip
            for number, tool in enumerate(tools):
                if (result := _result_of(tool, tools, flow)) is not None:
                    yield _event(asker, number, tool, result, call)
            # Of several requests that bring a result, the first one was sent when the tool had run.
            tools.clear()
        output = [] if call.conversation is None else call.conversation.output
        parts = [part for message in output for part in message.tool_calls if part.is_of_application]
        if parts:
            asked[call.call_id] = call, parts


def _result_of(tool: ToolCall, tools: list[ToolCall], flow: list[ToolCall | ToolResult]) -> ToolResult | None:
    """Return the result of a tool call in a request: by its id, else by its place behind the last tool calls."""
    if tool.id and tool.id != tool.name:
        of_id = [part for part in flow if isinstance(part, ToolResult) and part.id == tool.id]
        return of_id[-1] if of_id else None
    end = next((at + 1 for at in range(len(flow) - 1, -1, -1) if isinstance(flow[at], ToolCall)), 0)
    block = [part for part in flow[max(0, end - len(tools)) : end] if isinstance(part, ToolCall)]
    results = [part for part in flow[end:] if isinstance(part, ToolResult)]
    if [*map(_named, block)] != [*map(_named, tools)] or len(results) < len(tools):
        return None
    return results[tools.index(tool)]


def _named(tool: ToolCall) -> tuple[str | None, object]:
    return tool.name, parse_arguments(tool.arguments or "{}")


def _event(asker: CallRecord, number: int, tool: ToolCall, result: ToolResult, call: CallRecord) -> EventRecord:
    began_ns = asker.timing.start_ns + (asker.timing.duration_ns or 0)
    data = {"arguments": parse_arguments(tool.arguments or "{}"), "result": result.content}
    return EventRecord(
        event_id=f"tool-{blake2b(f'{asker.call_id} {number}'.encode(), digest_size=12).hexdigest()}",
        session_id=asker.place.session_id,
        call_id=asker.call_id,
        event_type="tool",
        inferred=True,
        name=tool.name,
        time_ns=began_ns,
        duration_ns=max(0, call.timing.start_ns - began_ns),
        data={name: value for name, value in data.items() if value is not None},
        tool_call_id=None if tool.id == tool.name else tool.id,
        error=ErrorInfo(kind="unknown", type="tool_error") if result.is_error else None,
    )
