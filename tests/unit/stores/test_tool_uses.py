"""Tool calls, their runs and their answers, joined when read."""

from __future__ import annotations

import json
from typing import Any

from callspan.records import EventRecord, ToolResult
from callspan.stores.tool_uses import tool_uses

from .conftest import MIDNIGHT_NS, SECOND, Holding, chat, made

ASK = {"role": "user", "content": "go"}


def asking(*ids: str) -> dict[str, Any]:
    calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": json.dumps({"n": i})}} for i in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def run(event_id: str, tool_call_id: str | None, at_s: float, **fields: Any) -> EventRecord:
    given = {"event_id": event_id, "session_id": "s", "event_type": "tool", "tool_call_id": tool_call_id}
    return EventRecord(**(given | {"time_ns": MIDNIGHT_NS + int(at_s * SECOND)} | fields))


def test_unknown_fields_of_a_tool_use_are_none(holding: Holding) -> None:
    (use,) = tool_uses(holding(chat("c1", [ASK], asking("k"), session_id="s")), "s")
    assert (use.run, use.result, use.returned_in, use.timestep_id) == (None, None, None, None)


def test_a_truncated_history_assigns_the_newest_result_to_the_newest_use(holding: Holding) -> None:
    reader = holding(
        chat("c1", [ASK], asking("call_0"), session_id="s"),
        chat("c2", [ASK], asking("call_0"), at_s=1, session_id="s"),
        chat("c3", [ASK, asking("call_0"), result("call_0", "new")], at_s=2, session_id="s"),
    )
    assert [use.result.content if use.result else None for use in tool_uses(reader, "s")] == [None, "new"]


def test_runs_and_results_without_a_request_are_uses_too(holding: Holding) -> None:
    reader = holding(
        chat("c1", [ASK, asking("old"), result("old", "before us")], session_id="s"),
        run("r", "alone", 1, timestep_id="t9"),
        run("nameless", None, 2),
        run("w", "x", 3, event_type="environment"),
    )
    uses = tool_uses(reader, "s")
    assert [(use.tool_call_id, use.tool_call, use.timestep_id) for use in uses] == [
        ("old", None, None),
        ("alone", None, "t9"),
    ]
    assert uses[0].result == ToolResult(id="old", content="before us")


def test_a_run_that_never_ended_is_seen_by_its_start(holding: Holding) -> None:
    reader = holding(
        chat("c1", [ASK], asking("k", "j"), session_id="s"),
        run("r-start", "k", 1, event_type="tool_start"),
        run("q-start", "j", 1, event_type="tool_start"),
        run("q", "j", 2),
    )
    assert [use.run.event_type for use in tool_uses(reader, "s") if use.run] == ["tool_start", "tool"]


def test_calls_without_content_have_no_uses(holding: Holding) -> None:
    assert tool_uses(holding(made("c", session_id="s")), "s") == []
    assert tool_uses(holding(made("c", session_id="s")), "nobody") == []
