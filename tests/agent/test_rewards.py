"""Rewards and feedback by id: for the current step, for others, and after the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from callspan import feedback, reward, session
from callspan.records import RewardRecord

if TYPE_CHECKING:
    from tests.agent.conftest import Seen


def test_a_reward_for_an_unknown_call_has_the_ids_that_are_given(seen: Seen) -> None:
    """Whatever is current: the call may be of another session; stores join the two."""
    with session("s") as own, own.timestep():
        reward(1, call_id="c1")
    (record,) = seen.of(RewardRecord)
    assert (record.call_id, record.session_id, record.timestep_id) == ("c1", None, None)
    assert record.scope == "call"


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
