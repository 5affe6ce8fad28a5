"""Agent and environment: events around the calls, in their session and step."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

import callspan
from callspan import Handle
from callspan.testing import Captured, ScriptedProvider, capture
from tests.e2e.ask import QUESTION


def test_an_event_of_any_kind_is_on_the_steps_span_and_in_the_log(seen: Captured) -> None:
    """Type, data, error, system and time of a custom event: span event and record."""
    before = time.time_ns()
    with callspan.session("s") as session, session.timestep() as step:
        session.event("retrieval", {"hits": 3}, "docs", system="search", error="slow index", metadata={"k": 5})
        step.action([1, "left"])
    event, action = seen.events
    assert (event.event_type, event.data, event.name, event.system) == ("retrieval", {"hits": 3}, "docs", "search")
    assert event.error is not None
    assert event.error.message == "slow index"
    assert before <= event.time_ns <= action.time_ns
    assert event.sequence is not None
    assert action.sequence == event.sequence + 1
    assert action.data == [1, "left"]
    (span,) = [span for span in seen.spans if span.name == "timestep"]
    attributes = {one.name: dict(one.attributes or {}) for one in span.events}
    assert attributes["callspan.retrieval"]["callspan.system"] == "search"
    assert "callspan.action" in attributes


def test_the_breakdown_of_a_step_adds_up_in_seconds(provider: ScriptedProvider, seen: Captured) -> None:
    """A call of 60 ms and a tool of 30 ms: each under its own name, both within the step, one unit everywhere."""
    provider.reply(text="well", delay_s=0.06)
    with (
        openai.OpenAI(api_key="k", base_url=provider.openai_url) as client,
        callspan.session("s") as session,
        session.timestep() as step,
    ):
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
        with step.tool("dig"):
            time.sleep(0.03)
    (span,) = [span for span in seen.spans if span.name == "timestep"]
    attributes: dict[str, Any] = dict(span.attributes or {})
    model_s, tool_s = attributes["callspan.totals.model_s"], attributes["callspan.totals.tool_s"]
    step_s = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
    assert model_s >= 0.06
    assert tool_s >= 0.03
    assert model_s + tool_s <= step_s
    assert attributes["callspan.totals.rest_s"] == pytest.approx(step_s - model_s - tool_s)
    assert not [name for name in attributes if name.startswith("callspan.") and name.endswith("_ms")]
    (tool,) = [one for one in seen.events if one.event_type == "tool"]
    assert tool.duration_ns is not None
    assert tool.duration_ns / 1e9 == pytest.approx(tool_s)
    (record,) = seen.records
    assert record.timing.duration_ns is not None
    assert record.timing.duration_ns / 1e9 == pytest.approx(model_s)
    assert 0 <= record.attempts[0].start_ns <= record.timing.duration_ns, "from the question to the provider"


def test_a_group_is_on_the_span_and_can_be_requested(instrumented: Callable[..., Handle], tmp_path: Path) -> None:
    """Sessions that belong together say so on their spans, in their records, and in a column of the store."""
    handle = instrumented(stores=f"sqlite:///{tmp_path}/calls.db")
    for name, group in (("a", "g1"), ("b", "g1"), ("c", "g2")):
        with callspan.session(name, group_id=group):
            pass
    assert handle.force_flush(60_000)
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        found = connection.execute("SELECT name FROM sessions WHERE group_id = ? ORDER BY name", ("g1",)).fetchall()
    assert found == [("a",), ("b",)]
    with capture() as seen, callspan.session("d", group_id="g1"):
        pass
    assert {record.group_id for record in seen.sessions} == {"g1"}
    assert (seen.spans[0].attributes or {})["callspan.group.id"] == "g1"


def test_ids_that_were_set_for_a_test_are_gone_after_it_even_if_it_fails(provider: ScriptedProvider) -> None:
    """A context manager for tests: what was set by hand is restored after an exception."""

    def failing(client: openai.OpenAI) -> None:
        with callspan.session("s", session_id="fixed"):
            client.chat.completions.create(model="gpt-5", messages=QUESTION)
            raise LookupError

    with capture() as seen, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        with pytest.raises(LookupError):
            failing(client)
        assert seen.records[0].place.session_id == "fixed"
    assert callspan.current_session() is None
    assert seen.spans[-1].name == "invoke_workflow s"


def test_captures_know_nothing_of_each_others_sessions() -> None:
    """Two tests with a fixed session id: the second starts anew, as it would in a process of its own."""
    with capture() as outer, callspan.session("s", session_id="fixed in tests") as around:
        with around.timestep():
            pass
        for _ in range(2):
            with capture() as seen, callspan.session("s", session_id="fixed in tests") as session, session.timestep():
                pass
            assert [record.index for record in seen.timesteps] == [0, 0]
            assert [record.end_ns is None for record in seen.sessions] == [True, False]
        with around.timestep():
            pass
    assert [record.index for record in outer.timesteps] == [0, 0, 1, 1]
