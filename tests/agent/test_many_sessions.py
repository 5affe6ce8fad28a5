"""What is open is not forgotten, whatever else begins and ends meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from tests.agent.conftest import open_scopes
from tests.processed import everywhere

import callspan
from callspan.records import RewardRecord
from callspan.testing import Captured, capture

SECRET = "open sesame"
OTHERS = 2_100


@pytest.fixture
def seen() -> Iterator[Captured]:
    with capture() as found:
        yield found


def others() -> None:
    for number in range(OTHERS):
        with callspan.session(session_id=f"other {number}") as one, one.timestep():
            pass


@pytest.mark.parametrize("given", ["own", None])
def test_the_content_level_of_an_open_session_holds(seen: Captured, given: str | None) -> None:
    with callspan.content("off"):
        own = callspan.session("own", session_id=given).start(current=False)
    others()
    callspan.reward(1.0, session_id=own.id, annotation=SECRET)
    with callspan.session(session_id=own.id) as again:
        again.event("seen", SECRET)
    with callspan.session("below", parent=own.id) as below:
        below.event("seen", SECRET)
    own.event("seen", SECRET)
    own.end(ValueError(SECRET))
    assert SECRET not in everywhere(seen)
    assert {one.content_level for one in seen.sessions if one.session_id == own.id} == {"off"}


def test_the_content_level_of_an_open_step_holds(seen: Captured) -> None:
    own = callspan.session("own").start(current=False)
    with callspan.content("off"):
        step = own.timestep().start(current=False)
    others()
    callspan.reward(1.0, timestep_id=step.id, annotation=SECRET)
    own.end()
    assert SECRET not in everywhere(seen)


def test_steps_and_rewards_of_an_open_session_go_on_counting(seen: Captured) -> None:
    with callspan.session(session_id="own") as own:
        with own.timestep() as step:
            step.reward(1.0)
            others()
            callspan.reward(0.5, timestep_id=step.id)
        callspan.reward(0.25, session_id="own", objective="style")
        with callspan.session(session_id="own") as again:
            with again.timestep() as second:
                second.reward(2.0)
            assert second.index == 1
    totals: Any = [one for one in seen.sessions if one.session_id == "own"][-1].totals
    assert (totals.timesteps, totals.reward, totals.rewards) == (2, 3.5, {"style": 0.25})


def test_a_reward_for_an_open_step_has_its_place(seen: Captured) -> None:
    with callspan.session("own") as own:
        step = own.timestep().start(current=False)
        others()
        callspan.reward(1.0, timestep_id=step.id)
    (reward,) = [one for one in seen.everything if isinstance(one, RewardRecord)]
    assert (reward.session_id, reward.timestep_id, reward.timestep) == (own.id, step.id, 0)


def test_what_nobody_ends_is_not_kept(seen: Captured) -> None:
    del seen
    callspan.session("dropped").start(current=False).timestep().start(current=False)
    gc.collect()
    assert open_scopes() == 0
