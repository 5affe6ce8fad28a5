"""Ids, components and numbers of the application's own, on timesteps, actions, environment steps and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from callspan import metadata, session, timestep
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


def test_a_second_step_with_an_id_is_recorded_without_it(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    with session("grid") as episode:
        with episode.timestep(step_id="turn-1"):
            pass
        with episode.timestep(step_id="turn-1") as step:
            assert step.step_id is None
        with timestep(step_id="turn-2"):
            pass
    with session("grid") as other, other.timestep(step_id="turn-1"):
        pass
    last = {record.timestep_id: record for record in seen.of(TimestepRecord)}
    assert [record.user_step_id for record in last.values()] == ["turn-1", None, "turn-2", "turn-1"]
    assert last[step.id].metadata["callspan.flags"] == ["repeated_step_id"]
    assert caplog.text.count("repeated_step_id") == 1


def test_memory_for_ids_of_steps_is_bounded(seen: Seen) -> None:
    del seen
    with session("grid") as episode:
        for number in range(1100):
            assert episode._episode.takes_step_id(str(number))
        assert not episode._episode.takes_step_id("1099")
        assert episode._episode.takes_step_id("0")


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
