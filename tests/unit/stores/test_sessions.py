"""Sessions as readers show them: counted, merged, interrupted; their events in one order."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from callspan.record.reward_sums import Score
from callspan.records import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord, TimestepRecord, Totals
from callspan.stores import Reader, SessionSummary, aggregates

from .conftest import MIDNIGHT_NS, SECOND, Holding, made

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


def test_an_empty_session_has_no_sums(holding: Holding) -> None:
    found = shown(holding(session()))
    assert found == SessionSummary(session=session(), timesteps=0, calls=0, errors=0, events=0, models=[])


@pytest.mark.parametrize(
    ("records", "last"),
    [
        ([session(start_ns=5)], 5),
        ([session(start_ns=5, end_ns=9)], 9),
        ([session(start_ns=5, end_ns=9), step("t", start_ns=11)], 11),
        ([session(start_ns=5), step("t", start_ns=7, end_ns=8)], 8),
        ([session(start_ns=5), event("e", 12), reward("r", 1.0, 13)], 13),
        ([session(), event("e", 12)], 12),
        ([session(), step("t")], None),
    ],
)
def test_the_last_time_of_a_session_is_that_of_its_latest_record(
    holding: Holding, records: list[Record], last: int | None
) -> None:
    assert shown(holding(*records)).last_ns == last


def test_of_two_records_of_the_same_version_the_first_stays(holding: Holding) -> None:
    reader = holding(made("c", outcome="success"), made("c", outcome="error"), event("e", 1), event("e", 2))
    found = reader.call("c")
    assert found is not None
    assert found.outcome == "success"
    assert [item.time_ns for item in reader.events("s")] == [1]


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


def test_an_interrupted_session_keeps_what_it_had(holding: Holding) -> None:
    running = session(host=HERE, pid=gone_pid(), start_ns=3, metadata={"seed": 1}, name="n")
    assert aggregates.as_read(running).metadata == {"seed": 1}
    reader = holding(running, made("c", session_id="s", input_tokens=2))
    found = shown(reader)
    assert (found.session.name, found.session.outcome, found.input_tokens) == ("n", "interrupted", 2)


def test_a_session_that_ended_elsewhere_after_all_is_not_interrupted(holding: Holding) -> None:
    reader = holding(
        session(version=2, outcome="success", end_ns=8), session(version=1, host=HERE, pid=gone_pid(), start_ns=1)
    )
    assert shown(reader).session.outcome == "success"


def test_calls_alone_make_a_session_that_begins_with_the_first(holding: Holding) -> None:
    reader = holding(made("b", 5, session_id="x"), made("a", 2, session_id="x"))
    found = shown(reader, "x")
    assert found.session == SessionRecord(session_id="x", seen_ns=0, start_ns=MIDNIGHT_NS + 2 * SECOND)
    assert found.calls == 2


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


def test_steps_are_in_the_order_they_began(holding: Holding) -> None:
    reader = holding(
        step("t3", 2, start_ns=30), step("t1", 0, start_ns=10), step("t2b", 1, start_ns=20),
        step("t2a", 1, start_ns=20), step("unknown", 9),
    )  # fmt: skip
    assert [one.timestep_id for one in reader.timesteps("s")] == ["unknown", "t1", "t2a", "t2b", "t3"]
    assert list(reader.timesteps("nobody")) == []


def test_later_fields_of_a_step_are_added(holding: Holding) -> None:
    (found,) = holding(step("t", 3, 5, end_ns=9, terminated=True), step("t", 3, 4, start_ns=1, name="n")).timesteps("s")
    assert found == step("t", 3, 5, start_ns=1, end_ns=9, terminated=True, name="n")


def test_events_of_the_same_time_keep_the_order_of_their_process(holding: Holding) -> None:
    reader = holding(
        event("z", 5, sequence=0),
        MessageRecord(message_id="m", session_id="s", message_type="x", time_ns=5, sequence=1),
        event("a", 5, sequence=2),
        reward("r", 1.0, 4),
        event("elsewhere", 5, session_id="other"),
    )
    found = list(reader.events("s"))
    ids = [getattr(item, f"{type(item).__struct_config__.tag}_id") for item in found]
    assert ids == ["r", "z", "m", "a"]


@pytest.mark.parametrize(
    ("events", "kept"),
    [
        ([event("t-start", 1, event_type="tool_start")], ["t-start"]),
        ([event("t-start", 1, event_type="tool_start"), event("t", 2, event_type="tool")], ["t"]),
        ([event("t", 2, event_type="tool"), event("t-start", 1, event_type="tool_start")], ["t"]),
        ([event("t-start", 1, event_type="tool_start"), event("u", 2, event_type="tool")], ["t-start", "u"]),
        ([event("t-start", 1, event_type="tool_start"), event("t", 2, event_type="other")], ["t-start", "t"]),
    ],
)
def test_the_start_of_a_tool_is_shown_only_until_it_ends(
    holding: Holding, events: list[EventRecord], kept: list[str]
) -> None:
    assert [item.event_id for item in holding(*events).events("s")] == kept  # type: ignore[union-attr]


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


def test_rewards_that_come_late_are_in_the_totals_of_their_session_and_timesteps(holding: Holding) -> None:
    """Other processes gave them: the session's and the steps' own records know nothing of them."""
    reader = holding(
        session(end_ns=9, totals=Totals(timesteps=2, reward=1.0)),
        step("outer", end_ns=8, totals=Totals(reward=1.0)),
        step("inner", 1, start_ns=2, end_ns=7, parent_timestep_id="outer", totals=Totals(calls=1)),
        step("killed", 2, start_ns=3),
        event("e", 1, timestep_id="outer", reward=1.0),
        reward("r1", 0.5, 2, timestep_id="inner"),
        reward("r2", 0.25, 3, timestep_id="inner", objective="style"),
        RewardRecord(reward_id="r3", timestep_id="inner", value=0.125, time_ns=4),
        RewardRecord(reward_id="r4", timestep_id="killed", value=8, time_ns=20, objective="style"),
        RewardRecord(reward_id="r5", timestep_id="of another", value=99, time_ns=4),
    )
    found = shown(reader)
    assert (found.reward, found.scores, found.events, found.last_ns) == (1.625, {"style": Score(4.125, 2, 8.0)}, 5, 20)
    assert found.session.totals == Totals(timesteps=2, reward=1.625, rewards={"style": 4.125})
    outer, inner, killed = reader.timesteps("s")
    assert outer.totals == Totals(reward=1.625, rewards={"style": 0.25})
    assert inner.totals == Totals(calls=1, reward=0.625, rewards={"style": 0.25})
    assert killed.totals is None
    assert [item.reward_id for item in reader.events("s") if isinstance(item, RewardRecord)] == ["r1", "r2", "r3", "r4"]
