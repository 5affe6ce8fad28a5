"""Run tools: the tools that ran between the calls of a run, as the next request tells.

A tool ran after the answer that asked for it, and before the request that brings its result: its arguments are in the
answer, its result in the request, and it took at most the time between. Computed when a run is read; nothing is stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import chain

from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.events import EventRecord, joined_events
from callspan.record.id_hashes import is_tool_call_id
from callspan.record.messages import Message, ToolCall, ToolResult, parse_arguments
from callspan.stores.base import Event
from callspan.stores.query.new_messages import ConversationReader


def run_tools(calls: Iterable[CallRecord]) -> Iterator[EventRecord]:
    """Yield the tools of a run, given its calls by their start, each with the call that brought its result."""
    turns, asked = ConversationReader(), dict[str | None, tuple[CallRecord, int, ToolCall]]()
    for call in calls:
        turn = turns.add(call)
        parts = chain.from_iterable(message.parts for message in turn.messages)
        results = {part.id: part for part in parts if isinstance(part, ToolResult)}
        # Of several requests that bring a result, the first one was sent when the tool had run.
        for ident in [ident for ident in asked if ident in results]:
            yield _event(*asked.pop(ident), results[ident], call)
        output = [] if call.conversation is None else call.conversation.output
        pairs = zip(_called(output), _called(turn.answers), strict=True)
        asked |= {own.id: (call, number, tool) for number, (tool, own) in enumerate(pairs)}


def with_results(events: Iterable[Event], read_tools: Callable[[], Iterable[EventRecord]]) -> Iterator[Event]:
    """Yield events; a tool that was recorded without a result has that of the request which brings it.

    `read_tools` returns what `run_tools` yields for their session.
    """
    told: dict[str | None, list[EventRecord]] | None = None
    for event in events:
        if not isinstance(event, EventRecord) or not _lacks_result(event):
            yield event
            continue
        if told is None:
            told = defaultdict(list)
            for tool in read_tools():
                told[tool.call_id].append(tool)
        tools = told[event.call_id]
        by_id = (tool for tool in tools if tool.tool_call_id == event.tool_call_id)
        by_name = (
            tool for tool in tools if tool.name == event.name and None in (tool.tool_call_id, event.tool_call_id)
        )
        if (brought := next(chain(by_id, by_name), None)) is None:
            yield event
        else:
            tools.remove(brought)
            yield joined_events(event, brought)


def _lacks_result(event: EventRecord) -> bool:
    if event.event_type != "tool" or event.call_id is None or event.error is not None:
        return False
    return event.data is None or (isinstance(event.data, dict) and "result" not in event.data)


def _called(answers: Iterable[Message]) -> list[ToolCall]:
    return [part for message in answers for part in message.tool_calls if part.is_of_application]


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
        tool_call_id=tool.id if is_tool_call_id(tool.id, tool.name, is_masked=False) else None,
        error=ErrorInfo(kind="unknown", type="tool_error") if result.is_error else None,
    )
