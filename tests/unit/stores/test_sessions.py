"""Sessions as readers show them: counted, merged, interrupted, and their events."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from callspan.records import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord, TimestepRecord
from callspan.stores import Reader, SessionSummary

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
