"""Tool uses: each tool call of a model with its run and its result, joined by the tool call's id.

The result is found in the request of a later call of the session; nothing has to be reported for that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import TOOL_START, EventRecord
from callspan.record.messages import Message, ToolCall, ToolResult
from callspan.stores.filters import CallFilter
from callspan.stores.reader import Reader


class ToolUse(msgspec.Struct, kw_only=True):
    """One tool call with its run and result, as far as they are stored."""

    tool_call_id: str
    tool_call: ToolCall | None = None
    """As the model returned it; None if that call is not recorded."""
    requested_in: str | None = None
    """Id of the call whose response contains it."""
    timestep_id: str | None = None
    """The timestep of that call, else of the run."""
    run: EventRecord | None = None
    """The `tool` event of `with step.tool(...)`; a `tool_start` if it never ended; None if there is none."""
    result: ToolResult | None = None
    """The result as sent back to the model; None if no later call contains one."""
    returned_in: str | None = None
    """Id of the first call whose request contains the result."""


def tool_uses(reader: Reader, session_id: str) -> list[ToolUse]:
    """Return the tool uses of a session in the order the model requested them.

    If a provider uses an id twice, these are two uses: runs and results are matched to them in order, the newest to
    the newest.
    """
    found: list[ToolUse] = []
    by_id: dict[str, list[ToolUse]] = defaultdict(list)
    for call in reader.calls(CallFilter(session_id=session_id, newest_first=False)):
        if call.conversation is None:
            continue
        _join_results(call, by_id, found)
        for made in _tool_calls(call.conversation.output):
            use = ToolUse(
                tool_call_id=made.id or "",
                tool_call=made,
                requested_in=call.call_id,
                timestep_id=call.place.timestep_id,
            )
            found.append(use)
            if made.id is not None:
                by_id[made.id].append(use)
    _join_runs(reader, session_id, by_id, found)
    return found


def _join_results(call: CallRecord, by_id: dict[str, list[ToolUse]], found: list[ToolUse]) -> None:
    results: dict[str, list[ToolResult]] = defaultdict(list)
    for result in _tool_results(call.conversation.input if call.conversation else []):
        if result.id is not None:
            results[result.id].append(result)
    for tool_call_id, answers in results.items():
        uses = by_id[tool_call_id]
        if not uses:
            uses.append(ToolUse(tool_call_id=tool_call_id))
            found.append(uses[0])
        # From the end: a truncated history lacks its oldest results.
        for use, answer in zip(reversed(uses), reversed(answers), strict=False):
            if use.returned_in is None:
                use.result, use.returned_in = answer, call.call_id


def _join_runs(reader: Reader, session_id: str, by_id: dict[str, list[ToolUse]], found: list[ToolUse]) -> None:
    for event in reader.events(session_id):
        if not isinstance(event, EventRecord) or event.event_type not in {"tool", TOOL_START}:
            continue
        if event.tool_call_id is None:
            continue
        use = next((use for use in by_id[event.tool_call_id] if use.run is None), None)
        if use is None:
            use = ToolUse(tool_call_id=event.tool_call_id)
            by_id[event.tool_call_id].append(use)
            found.append(use)
        use.run = event
        use.timestep_id = use.timestep_id or event.timestep_id


def _tool_calls(messages: list[Message]) -> Iterator[ToolCall]:
    for message in messages:
        yield from (part for part in message.parts if isinstance(part, ToolCall))


def _tool_results(messages: list[Message]) -> Iterator[ToolResult]:
    for message in messages:
        yield from (part for part in message.parts if isinstance(part, ToolResult))
