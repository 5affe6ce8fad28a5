"""Ids, components and numbers of the application's own, on timesteps, actions, environment steps and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callspan import session
from callspan.records import TimestepRecord

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
