"""Rewards and feedback by id: for the current step, for others, and after the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from callspan import feedback, metadata, reward, session
from callspan.records import RewardRecord, SessionRecord, TimestepRecord

if TYPE_CHECKING:
    from tests.agent.conftest import Seen


def test_a_reward_without_ids_is_for_the_current_step(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step, step.tool("t"):
        reward(0.5, objective="style", source="judge", annotation="neat", label="ok")
    (record,) = seen.of(RewardRecord)
    assert (record.session_id, record.timestep_id, record.timestep) == (own.id, step.id, 0)
    assert (record.value, record.objective, record.source, record.scope) == (0.5, "style", "judge", "event")
    assert seen.ended(TimestepRecord)[0].totals.rewards == {"style": 0.5}
    assert seen.ended(SessionRecord)[0].totals.rewards == {"style": 0.5}


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
    assert last.totals.reward == 5


def test_a_reward_for_another_session_does_not_count_here(seen: Seen) -> None:
    with session("s"):
        reward(1, session_id="elsewhere")
        reward(2, timestep_id="some step")
    assert seen.ended(SessionRecord)[0].totals.reward is None
    first, second = seen.of(RewardRecord)
    assert (first.session_id, first.timestep_id) == ("elsewhere", None)
    assert (second.session_id, second.timestep_id) == (None, "some step")


def test_a_reward_for_an_unknown_call_has_the_ids_that_are_given(seen: Seen) -> None:
    """Whatever is current: the call may be of another session; stores join the two."""
    with session("s") as own, own.timestep():
        reward(1, call_id="c1")
    (record,) = seen.of(RewardRecord)
    assert (record.call_id, record.session_id, record.timestep_id) == ("c1", None, None)
    assert record.scope == "call"


def test_rewards_are_only_ever_added(seen: Seen) -> None:
    with session("s") as own:
        own.outcome(reward=1)
        own.outcome(reward=1)
    first, second = seen.of(RewardRecord)
    assert first.reward_id != second.reward_id


def test_without_a_runtime_a_reward_is_an_id_and_nothing_more(no_runtime: None) -> None:
    assert reward(1, session_id="s") != feedback("c", 1)


def test_rewards_and_feedback_by_id_have_the_metadata_around_them(seen: Seen) -> None:
    with metadata(application="judge", prompt_version=2):
        reward(1, session_id="s1")
        feedback("c1", 1)
    feedback("c2", 0)
    assert [record.metadata for record in seen.of(RewardRecord)] == [
        {"application": "judge", "prompt_version": 2},
        {"application": "judge", "prompt_version": 2},
        {},
    ]


def test_a_reward_for_a_step_by_id_ignores_the_current_place(seen: Seen) -> None:
    with session("judge") as own, own.timestep():
        reward(0.5, timestep_id="t9", objective="style")
    (kept,) = seen.of(RewardRecord)
    assert (kept.session_id, kept.timestep_id, kept.timestep, kept.scope) == (None, "t9", None, "event")
    assert seen.ended(SessionRecord)[0].totals.reward is None


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("thumbs_up", 1.0), ("thumbs up", 1.0), ("Thumbs-Down", 0.0), (True, 1.0), (False, 0.0), ("true", 1.0),
        ("False", 0.0), ("thumbs", None), ("polite", None),
    ],
)  # fmt: skip
def test_a_label_that_says_yes_or_no_is_a_number(seen: Seen, label: Any, value: float | None) -> None:
    feedback("c1", label=label)
    feedback("c1", 0.25, label=label)
    first, second = seen.of(RewardRecord)
    assert (first.value, first.label, second.value) == (value, str(label), 0.25)


def test_a_label_without_a_number_is_feedback(seen: Seen) -> None:
    feedback("c1", label="polite", source="u1", annotation="helpful")
    (kept,) = seen.of(RewardRecord)
    assert (kept.call_id, kept.value, kept.label, kept.scope) == ("c1", None, "polite", "call")
    assert (kept.source, kept.annotation, kept.objective) == ("u1", "helpful", "feedback")


def test_two_objectives_of_one_event_are_two_rewards_for_it(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step:
        event = step.environment("x", reward=1)
        for objective, value in (("style", 0.25), ("speed", 0.75)):
            step.reward(value, objective=objective, event=event, source="judge")
    found = [(record.event_id, record.objective, record.value) for record in seen.of(RewardRecord)]
    assert found == [(event, "style", 0.25), (event, "speed", 0.75)]
    evaluations = [item for item in seen.named("timestep")[0].events if item.name == "gen_ai.evaluation.result"]
    assert [item.attributes["gen_ai.evaluation.name"] for item in evaluations] == ["reward", "style", "speed"]
