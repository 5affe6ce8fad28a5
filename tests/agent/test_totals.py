"""Totals of a session: the sums of what its calls, tools and rewards report; what none reports is unknown."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

import callspan
from callspan.testing import capture

SENT, GIVEN = {"input_tokens": 3}, {"input_tokens": 4, "output_tokens": 2}
CALLS: list[tuple[list[dict[str, int] | None], tuple[int | None, int | None]]] = [
    ([], (None, None)),
    ([None], (None, None)),
    ([{"input_tokens": 0}], (0, None)),
    ([SENT, None], (3, None)),
    ([None, GIVEN], (4, 2)),
    ([SENT, GIVEN], (7, 2)),
    ([GIVEN, SENT, GIVEN], (11, 4)),
]


@pytest.mark.parametrize(("usages", "tokens"), CALLS)
def test_tokens_of_calls_add_up_and_unreported_ones_are_unknown(
    usages: list[dict[str, int] | None], tokens: tuple[int | None, int | None]
) -> None:
    with capture() as seen, callspan.session("game"):
        for usage in usages:
            with callspan.record_call(provider="mine", api="responses") as call:
                call.response({"output": []} if usage is None else {"output": [], "usage": usage})
    totals = seen.sessions[-1].totals
    assert (totals.calls, totals.input_tokens, totals.output_tokens) == (len(usages), *tokens)


@pytest.mark.parametrize(
    ("rewards", "total"), [([], None), ([None], None), ([0.0], 0.0), ([None, 2.0], 2.0), ([1.5, None, -2.0], -0.5)]
)
def test_rewards_of_steps_add_up_and_unknown_is_not_zero(rewards: list[float | None], total: float | None) -> None:
    with capture() as seen, callspan.session("game") as session:
        for reward in rewards:
            with session.environment_step() as step:
                step.set_result(reward=reward)
    assert seen.sessions[-1].totals.reward == total


def test_failed_calls_tools_and_steps_are_counted() -> None:
    def fails() -> Any:
        raise ValueError("no")

    with capture() as seen, callspan.session("game") as session:
        for _ in range(2):
            with session.timestep(), callspan.tool("dig"):
                pass
        for work in (fails, list):
            with suppress(ValueError), callspan.record_call(provider="mine"):
                work()
    totals = seen.sessions[-1].totals
    assert (totals.calls, totals.errors, totals.tools, totals.timesteps) == (2, 1, 2, 2)
    assert totals.tool_ns is not None
    assert totals.model_ns is not None
