"""Rewards by ids that no process knew when they were given: kept, and joined when their record comes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from callspan import erase, open_store
from callspan.record.reward_sums import Score
from callspan.records import CallRecord, EventRecord, Place, Response, RewardRecord, TimestepRecord

from .conftest import START_NS, Delivery, Records, run


@pytest.fixture
def store(url: str, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(url)


def given(reward_id: str, number: int, **target: Any) -> RewardRecord:
    return RewardRecord(reward_id=reward_id, objective="feedback", value=1.0, time_ns=START_NS + number, **target)


def test_a_reward_by_any_id_of_a_call_belongs_to_it_once_it_is_recorded(
    url: str, store: Delivery, records: Records
) -> None:
    call = records.call(call_id="c", place=Place(session_id="s", timestep_id="t"), span_id="1" * 16)
    names = {"own": "c", "response": "chatcmpl-1", "request": "req_1", "span": "1" * 16}
    store.write(*(given(name, number, call_id=ident) for number, (name, ident) in enumerate(names.items())))
    assert json.loads(run(url, "calls", "--rewards", "--json"))[0]["call_id"] == "1" * 16
    assert "call chatcmpl-1" in run(url, "calls", "--rewards")
    store.write(call, TimestepRecord(timestep_id="t", session_id="s", index=0, seen_ns=1, start_ns=START_NS))
    with closing(open_store(url)) as reader:
        assert {one.reward_id for one in reader.rewards(call)} == {*names}
        inside = [event for event in reader.events("s") if isinstance(event, RewardRecord)]
        assert [(one.reward_id, one.call_id, one.timestep_id) for one in inside] == [(name, "c", "t") for name in names]
        (summary,) = reader.sessions()
        assert summary.scores == {"feedback": Score(1.0, 4, 1.0)}
    assert run(url, "show", "c").count("feedback +1") == 4
    assert len(json.loads(run(url, "show", "c", "--json"))["rewards"]) == 4


def test_it_is_joined_whichever_comes_first(url: str, store: Delivery, records: Records) -> None:
    places = set()
    for number, order in enumerate(itertools.permutations(range(4))):
        call_id, event_id, step_id, of = f"c{number}", f"e{number}", f"t{number}", f"s{number}"
        response = Response(id=f"resp_{number}", model="m")
        some = (
            records.call(call_id=call_id, place=Place(session_id=of, timestep_id=step_id), response=response),
            EventRecord(event_id=event_id, session_id=of, timestep_id=step_id, event_type="x", time_ns=START_NS),
            TimestepRecord(timestep_id=step_id, session_id=of, index=0, seen_ns=1, start_ns=START_NS),
            (
                given(f"by-call {number}", 1, call_id=f"resp_{number}"),
                given(f"by-event {number}", 1, event_id=event_id),
                given(f"by-step {number}", 1, timestep_id=step_id),
                given(f"in-session {number}", 1, session_id=of, call_id=f"resp_{number}"),
            ),
        )
        for at in order:
            found = some[at]
            store.write(*(found if isinstance(found, tuple) else (found,)))
        with closing(open_store(url)) as reader:
            inside = [one for one in reader.events(of) if isinstance(one, RewardRecord)]
        of_call = [one.call_id and one.call_id.rstrip("0123456789") for one in inside]
        steps = [one.timestep_id == step_id for one in inside]
        places.add((*(one.reward_id.split()[0] for one in inside), *of_call, *steps))
    names = ("by-call", "by-event", "by-step", "in-session")
    assert places == {(*names, "c", None, None, "c", True, True, True, False)}


def shared(records: Records) -> list[CallRecord]:
    """Two calls of two sessions that have one response id, as a replay has: the second, given first, began later."""
    response = Response(id="resp_1", model="m")
    return [
        records.call(call_id=name, session_id=f"s-{name}", at_s=at_s, response=response, attempts=[])
        for name, at_s in (("replay", 5), ("own", 1))
    ]


@pytest.mark.parametrize(("erased", "rewards"), [("replay", ["r"]), ("own", [])])
def test_a_reward_is_erased_with_the_call_that_it_belongs_to(
    erased: str, rewards: list[str], url: str, store: Delivery, records: Records
) -> None:
    store.write(*shared(records), given("r", 9, call_id="resp_1"))
    store.close()
    assert erase(url, calls=[erased]).stores[0].rewards == 1 - len(rewards)
    with closing(open_store(url)) as reader:
        assert [one.reward_id for one in reader.rewards()] == rewards


def test_a_reward_is_of_one_session_that_of_the_narrowest_it_names(url: str, store: Delivery, records: Records) -> None:
    store.write(
        EventRecord(event_id="e", session_id="of-event", event_type="x", time_ns=START_NS),
        records.call(call_id="c", place=Place(session_id="of-call")),
        records.call(call_id="outside", at_s=1, response=Response(id="alone", model="m")),
        TimestepRecord(timestep_id="t", session_id="of-step", index=0, seen_ns=1, start_ns=START_NS),
        given("r1", 1, timestep_id="t", call_id="chatcmpl-1"),
        given("r2", 2, timestep_id="t", call_id="c", event_id="e"),
        given("r3", 3, timestep_id="t", call_id="alone", event_id="unknown"),
    )
    expected = {"of-event": ["r2"], "of-call": ["r1"], "of-step": ["r3"]}
    with closing(open_store(url)) as reader:
        for session_id, rewards in expected.items():
            assert [one.reward_id for one in reader.events(session_id) if isinstance(one, RewardRecord)] == rewards
