"""Tool calls, their runs and their answers, joined when read."""

from __future__ import annotations

import json
from typing import Any

from callspan.records import EventRecord, ToolCall, ToolResult
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


def test_a_tool_call_its_run_and_its_result_are_one_use(holding: Holding) -> None:
    reader = holding(
        chat("c2", [ASK, asking("k"), result("k", "found")], "done", at_s=2, session_id="s"),
        run("r", "k", 1, name="f", timestep_id="from the run"),
        chat("c1", [ASK], asking("k"), at_s=0, session_id="s", timestep_id="t1"),
        chat("other", [ASK], asking("k"), at_s=3, session_id="s9"),
    )
    (use,) = tool_uses(reader, "s")
    assert use.tool_call == ToolCall(id="k", name="f", arguments='{"n": "k"}')
    assert (use.requested_in, use.returned_in, use.timestep_id) == ("c1", "c2", "t1")
    assert use.result == ToolResult(id="k", content="found")
    assert use.run is not None
    assert use.run.event_id == "r"


def test_unknown_fields_of_a_tool_use_are_none(holding: Holding) -> None:
    (use,) = tool_uses(holding(chat("c1", [ASK], asking("k"), session_id="s")), "s")
    assert (use.run, use.result, use.returned_in, use.timestep_id) == (None, None, None, None)


def test_uses_are_in_the_order_they_were_requested(holding: Holding) -> None:
    reader = holding(
        chat("c1", [ASK], asking("b", "a"), session_id="s"),
        chat("c2", [ASK, asking("b", "a"), result("a", "2"), result("b", "1")], asking("c"), at_s=1, session_id="s"),
    )
    uses = tool_uses(reader, "s")
    assert [(use.tool_call_id, use.result.content if use.result else None) for use in uses] == [
        ("b", "1"), ("a", "2"), ("c", None),
    ]  # fmt: skip


def test_a_tool_result_belongs_to_the_first_call_that_contains_it(holding: Holding) -> None:
    history = [ASK, asking("k"), result("k", "x")]
    reader = holding(
        chat("c1", [ASK], asking("k"), session_id="s"),
        chat("c3", [*history, ASK], at_s=2, session_id="s"),
        chat("c2", history, at_s=1, session_id="s"),
    )
    assert [use.returned_in for use in tool_uses(reader, "s")] == ["c2"]


def test_an_id_given_twice_is_two_uses(holding: Holding) -> None:
    first = [ASK, asking("call_0"), result("call_0", "one")]
    reader = holding(
        chat("c1", [ASK], asking("call_0"), session_id="s"),
        run("r1", "call_0", 0.5),
        chat("c2", first, asking("call_0"), at_s=1, session_id="s"),
        run("r2", "call_0", 1.5),
        chat("c3", [*first, asking("call_0"), result("call_0", "two")], at_s=2, session_id="s"),
    )
    uses = tool_uses(reader, "s")
    assert [(u.requested_in, u.run.event_id, u.result.content, u.returned_in) for u in uses if u.run and u.result] == [
        ("c1", "r1", "one", "c2"),
        ("c2", "r2", "two", "c3"),
    ]


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
