"""Rewards and feedback by id: for the current step, for others, and after the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callspan.agent.api import session
from callspan.agent.rewards import feedback, reward
from callspan.record.events import RewardRecord, SessionRecord, TimestepRecord

if TYPE_CHECKING:
    from tests.agent.conftest import Seen


def test_a_reward_without_ids_is_for_the_current_step(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step, step.tool("t"):
        reward(0.5, objective="style", source="judge", annotation="neat", label="ok")
    (record,) = seen.of(RewardRecord)
    assert (record.session_id, record.timestep_id, record.timestep) == (own.id, step.id, 0)
    assert (record.value, record.objective, record.source, record.scope) == (0.5, "style", "judge", "event")
    assert seen.ended(TimestepRecord)[0].totals.reward == 0.5
    assert seen.ended(SessionRecord)[0].totals.reward == 0.5


def test_a_reward_may_come_long_after_the_end(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step:
        pass
    reward(1, session_id=own.id)
    reward(2, session_id=own.id, timestep_id=step.id)
    step.reward(3)
    own.reward(4)
    own.outcome(reward=5, success=True)
    values = {record.value: record for record in seen.of(RewardRecord)}
    assert {record.session_id for record in values.values()} == {own.id}
    assert [values[number].scope for number in (1, 2, 3, 4, 5)] == ["session", "event", "event", "session", "session"]
    assert values[2].timestep_id == values[3].timestep_id == step.id
    last = seen.of(SessionRecord)[-1]
    assert (last.success, last.end_ns) == (True, None)
    assert last.totals.reward == 12


def test_a_reward_for_another_session_does_not_count_here(seen: Seen) -> None:
    with session("s"):
        reward(1, session_id="elsewhere")
        reward(2, timestep_id="some step")
    assert seen.ended(SessionRecord)[0].totals.reward is None
    first, second = seen.of(RewardRecord)
    assert (first.session_id, first.timestep_id) == ("elsewhere", None)
    assert (second.session_id, second.timestep_id) == (None, "some step")


def test_a_reward_for_a_call_within_the_session_knows_both(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step:
        reward(1, call_id="c1")
    (record,) = seen.of(RewardRecord)
    assert (record.call_id, record.session_id, record.timestep_id) == ("c1", own.id, step.id)
    assert record.scope == "call"


def test_feedback_is_for_a_call(seen: Seen) -> None:
    name = feedback("c1", label="thumbs up", annotation="good answer")
    (record,) = seen.of(RewardRecord)
    assert record.reward_id == name
    assert (record.call_id, record.scope, record.value, record.label) == ("c1", "call", None, "thumbs up")
    assert (record.source, record.objective) == ("human", "feedback")


def test_rewards_are_only_ever_added(seen: Seen) -> None:
    with session("s") as own:
        own.outcome(reward=1)
        own.outcome(reward=1)
    first, second = seen.of(RewardRecord)
    assert first.reward_id != second.reward_id


def test_without_a_runtime_a_reward_is_an_id_and_nothing_more(no_runtime: None) -> None:
    assert reward(1, session_id="s") != feedback("c", 1)
