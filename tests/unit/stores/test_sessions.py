"""Sessions as readers show them: counted, merged, interrupted; their events and tool calls, joined when read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from callspan.records import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord, TimestepRecord, ToolResult
from callspan.stores import Reader, SessionSummary
from callspan.stores.tool_uses import tool_uses

from .conftest import MIDNIGHT_NS, SECOND, Holding, chat, made

HERE = socket.gethostname()


def session(session_id: str = "s", version: int = 1, **fields: Any) -> SessionRecord:
    return SessionRecord(session_id=session_id, seen_ns=version, **fields)


def step(timestep_id: str, index: int = 0, version: int = 1, **fields: Any) -> TimestepRecord:
    return TimestepRecord(timestep_id=timestep_id, session_id="s", seen_ns=version, index=index, **fields)


def event(event_id: str, at: int = 0, **fields: Any) -> EventRecord:
    return EventRecord(**({"event_id": event_id, "session_id": "s", "event_type": "x", "time_ns": at} | fields))


def reward(reward_id: str, value: float | None, at: int = 0, **fields: Any) -> RewardRecord:
    return RewardRecord(reward_id=reward_id, session_id="s", value=value, time_ns=at, **fields)


def shown(reader: Reader, session_id: str = "s") -> SessionSummary:
    found = reader.session(session_id)
    assert found is not None
    assert [one for one in reader.sessions() if one.session.session_id == session_id] == [found]
    return found


@cache
def gone_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    return ended.pid


def test_a_session_adds_up_what_is_in_it_and_nothing_else(holding: Holding) -> None:
    found = shown(
        holding(
            made("c1", 1, session_id="s", model="b", input_tokens=3, usd="0.1", outcome="error"),
            made("c2", 2, session_id="s", model="a", response_model="z", output_tokens=4, outcome="cancelled"),
            made("c3", 3, session_id="s", response_model="c", input_tokens=5, usd="0.2", duration_ns=7 * SECOND),
            made("other", 9, session_id="s9", model="d", input_tokens=1000, usd="5"),
            made("loose", 9, model="e"),
            session(start_ns=MIDNIGHT_NS),
            step("t1", start_ns=MIDNIGHT_NS, end_ns=MIDNIGHT_NS + SECOND),
            step("t2", 1, start_ns=MIDNIGHT_NS + SECOND),
            event("e1"),
            MessageRecord(message_id="m1", session_id="s", message_type="x", time_ns=1),
            reward("r1", 0.25),
            event("far", MIDNIGHT_NS * 2, session_id="s9"),
        )
    )
    assert (found.calls, found.errors, found.cancelled, found.timesteps, found.events) == (3, 1, 1, 2, 3)
    assert (found.input_tokens, found.output_tokens, found.cost_usd) == (8, 4, Decimal("0.3"))
    assert found.models == ["a", "b", "c"]
    assert found.reward == 0.25
    assert found.last_ns == MIDNIGHT_NS + 10 * SECOND


@pytest.mark.parametrize(
    ("fields", "shown_as"),
    [
        ({"outcome": None}, "interrupted"),
        ({"outcome": "success"}, "success"),
        ({"outcome": "my own word"}, "my own word"),
        ({"end_ns": 5}, None),
        ({"host": "elsewhere"}, None),
        ({"host": None}, None),
        ({"pid": None}, None),
        ({"pid": os.getpid()}, None),
        ({"pid": -1}, None),
    ],
)
def test_only_a_session_whose_process_is_surely_gone_reads_interrupted(
    holding: Holding, fields: dict[str, Any], shown_as: str | None
) -> None:
    fields = {"host": HERE, "pid": gone_pid()} | fields
    found = shown(holding(session(**fields))).session
    assert found.outcome == shown_as
    assert (found.end_ns, found.pid) == (fields.get("end_ns"), fields["pid"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "dcba"),
        ({"limit": 2}, "dc"),
        ({"limit": 0}, ""),
        ({"limit": 9}, "dcba"),
        ({"since_ns": MIDNIGHT_NS + 2 * SECOND}, "dc"),
        ({"since_ns": MIDNIGHT_NS + 2 * SECOND + 1}, "d"),
        ({"since_ns": MIDNIGHT_NS, "limit": 1}, "d"),
        ({"since_ns": MIDNIGHT_NS + 9 * SECOND}, ""),
    ],
)
def test_sessions_come_newest_first(holding: Holding, options: dict[str, int], expected: str) -> None:
    reader = holding(
        session("c", start_ns=MIDNIGHT_NS + 2 * SECOND),
        made("call", 3, session_id="d"),
        session("b", start_ns=MIDNIGHT_NS + SECOND),
        made("late", 8, session_id="b"),
        session("a"),
    )
    assert [one.session.session_id for one in reader.sessions(**options)] == list(expected)


@pytest.mark.parametrize(
    ("records", "total"),
    [
        ([], None),
        ([event("e", reward=0.0)], 0.0),
        ([event("e", reward=1.0), event("f", reward=-3.0)], -2.0),
        ([event("e", reward=1.0), reward("r", 5.0, event_id="e")], 1.0),
        ([event("e"), reward("r", 5.0, event_id="e")], 5.0),
        ([reward("r", 2.0), reward("q", 3.0)], 5.0),
        ([reward("r", 2.0), reward("q", 3.0, objective="style")], 2.0),
        ([reward("r", 2.0, scope="call", call_id="c")], None),
        ([event("e", reward=9.0), reward("r", 2.0, 1, scope="session"), reward("q", 3.0, 2, scope="session")], 3.0),
        ([reward("r", None, scope="session"), event("e", reward=9.0)], 9.0),
    ],
)
def test_the_reward_of_a_session_is_read_alike_from_every_store(
    holding: Holding, records: list[Record], total: float | None
) -> None:
    assert shown(holding(session(), *records)).reward == total


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
