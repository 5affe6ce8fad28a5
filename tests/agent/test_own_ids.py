"""Ids, components and numbers of the application's own, on timesteps, actions, environment steps and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callspan import metadata, session
from callspan.records import EventRecord, MessageRecord, TimestepRecord

if TYPE_CHECKING:
    from tests.agent.conftest import Seen


def test_a_step_keeps_the_applications_id_next_to_callspans(seen: Seen) -> None:
    with session("grid") as episode, episode.timestep(step_id="turn-1") as step:
        assert step.step_id == "turn-1"
        assert step.id != "turn-1"
    assert {record.user_step_id for record in seen.of(TimestepRecord)} == {"turn-1"}
    (span,) = seen.named("timestep")
    assert span.attributes["callspan.step.user_id"] == "turn-1"
    assert span.attributes["callspan.step.id"] == step.id


def test_actions_and_environment_steps_record_system_and_sequence(seen: Seen) -> None:
    given = {"system": "planner", "metadata": {"frame": 7}, "sequence": 41}
    with session("grid") as episode, metadata(run_id="r1"), episode.timestep() as step:
        step.action("north", **given)
        step.environment("a wall", reward=-0.1, **given)
        with step.environment_step("before", **given) as timed:
            timed.set_result("after")
        step.event("reset", sequence=42)
        step.message("hello", sequence=43)
    actions = seen.of(EventRecord)
    assert [record.event_type for record in actions] == ["action", "environment", "environment", "reset"]
    for record in actions[:3]:
        assert (record.system, record.external_sequence) == ("planner", 41)
        assert record.metadata == {"run_id": "r1", "frame": 7}
    assert actions[2].data == {"before": "before", "after": "after"}
    assert actions[3].external_sequence == 42
    assert seen.of(MessageRecord)[0].external_sequence == 43
