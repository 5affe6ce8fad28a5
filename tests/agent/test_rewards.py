"""Rewards: one definition on spans, in totals and where read; by id, for the current step and for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import callspan
from callspan import Session, feedback, reward, session
from callspan.records import EventRecord, RewardRecord, SessionRecord, TimestepRecord
from callspan.stores import aggregates
from callspan.testing import capture

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from tests.agent.conftest import Seen


STYLE: dict[str, Any] = {"objective": "style", "source": "judge", "annotation": "neat", "label": "ok"}


@pytest.mark.parametrize(
    ("given", "place", "scope"),
    [
        ({}, ("own", "step", 0), "event"),
        ({"timestep_id": "t9"}, (None, "t9", None), "event"),
        ({"call_id": "c1"}, (None, None, None), "call"),
        ({"session_id": "s9"}, ("s9", None, None), "session"),
        ({"event_id": "e9"}, (None, None, None), "event"),
    ],
)
def test_a_reward_has_the_ids_that_are_given_else_the_current_place(
    seen: Seen, given: dict[str, str], place: tuple[object, ...], scope: str
) -> None:
    """An unknown call may be of another session; stores join the two."""
    with session("s") as own, own.timestep() as step, step.tool("t"):
        reward(0.5, **given, **STYLE)
    (record,) = seen.of(RewardRecord)
    known = {"own": own.id, "step": step.id}
    assert (record.session_id, record.timestep_id, record.timestep) == tuple(known.get(one, one) for one in place)
    assert (record.value, record.objective, record.source, record.label) == (0.5, "style", "judge", "ok")
    assert (record.annotation, record.scope) == ("neat", scope)
    counted = {} if given else {"style": 0.5}
    assert seen.ended(TimestepRecord)[0].totals.rewards == seen.ended(SessionRecord)[0].totals.rewards == counted


def test_an_outcome_after_the_end_is_in_the_totals_of_the_next_record(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step:
        step.reward(1)
    own.outcome(reward=7, success=True)
    assert seen.ended(SessionRecord)[0].totals.reward == 1
    assert (seen.of(SessionRecord)[-1].totals.reward, seen.of(SessionRecord)[-1].success) == (7, True)


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
    assert (first.objective, first.scope, first.call_id) == ("feedback", "call", "c1")


SPAN = "invoke_workflow s"


def read(seen: Seen) -> Any:
    """What a reader makes of the session's events."""
    return aggregates.rewards_of([one for one in seen.records if isinstance(one, EventRecord | RewardRecord)])


def rewards(span: ReadableSpan) -> dict[str, object]:
    return {key: value for key, value in (span.attributes or {}).items() if key.startswith("callspan.reward")}


def test_an_event_has_one_reward_however_often_it_is_judged(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step:
        event = step.environment("x", reward=1)
        step.reward(5, event=event, source="judge")
        action = step.action("north")
        step.reward(0.25, event=action)
        step.reward(9, event=action)
    assert seen.ended(TimestepRecord)[0].totals.reward == 1.25
    assert seen.ended(SessionRecord)[0].totals.reward == read(seen).reward == 1.25


_AMOUNTS = st.sampled_from([-1.0, 0.0, 0.25, 3.0])
_OBJECTIVES = st.sampled_from(["reward", "reward", "style"])
_ACTS = st.lists(
    st.tuples(
        st.sampled_from(["step", "end", "event", "loose", "judge", "session", "call", "late"]), _AMOUNTS, _OBJECTIVES
    ),
    max_size=12,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_ACTS)
def test_spans_totals_and_readers_agree_on_any_episode(seen: Seen, acts: list[tuple[str, float, str]]) -> None:
    seen.records.clear()
    seen.exporter.clear()
    with session("s") as own:
        _play(own, acts)
    found = read(seen)
    totals = seen.ended(SessionRecord)[-1].totals
    assert (totals.reward, totals.rewards) == (found.reward, found.means)
    expected = {} if found.reward is None else {"callspan.reward": found.reward}
    expected |= {f"callspan.reward.{name}": value for name, value in found.means.items()}
    assert rewards(seen.named(SPAN)[-1]) == expected
    steps = {one.timestep_id: one.totals for one in seen.ended(TimestepRecord)}
    records = list(seen.ended(TimestepRecord))
    given = aggregates.rewards_by_step(
        [one for one in seen.records if isinstance(one, EventRecord | RewardRecord)],
        {one.timestep_id: one.parent_timestep_id for one in records},
    )
    for one in records:
        assert aggregates.with_rewards(one, given).totals == steps[one.timestep_id]


def _play(own: Session, acts: list[tuple[str, float, str]]) -> None:
    open_steps: list[Any] = []
    for act, value, objective in acts:
        if act == "step":
            open_steps.append(own.timestep().start())
        elif act == "end" and open_steps:
            open_steps.pop().end()
        elif act == "session":
            own.outcome(reward=value)
        else:
            _reward(open_steps[-1] if open_steps else own, act, value, objective)
    for step in reversed(open_steps):
        step.end()


def _reward(here: Any, act: str, value: float, objective: str) -> None:
    if act == "event":
        here.environment("x", reward=value)
    elif act == "judge":
        event = here.action("a")
        here.reward(value, objective=objective, event=event)
        here.reward(value + 1, objective=objective, event=event)
    elif act == "call":
        reward(value, call_id="c", objective=objective)
    elif act == "late" and here._step is not None:
        reward(value, timestep_id=here.id, objective=objective)
    elif act == "loose":
        here.reward(value, objective=objective)


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
    """In the step and in the session; a call that failed counts as one without usage."""
    with capture() as seen, callspan.session("game") as own:
        with own.timestep():
            for usage in usages:
                with callspan.record_call(provider="mine", api="responses") as call:
                    call.response({"output": []} if usage is None else {"output": [], "usage": usage})
        with pytest.raises(KeyError), callspan.record_call(provider="mine"):
            raise KeyError
    step, whole = seen.timesteps[-1].totals, seen.sessions[-1].totals
    assert (step.calls, step.errors, step.input_tokens, step.output_tokens) == (len(usages), 0, *tokens)
    assert (whole.calls, whole.errors, whole.input_tokens, whole.output_tokens) == (len(usages) + 1, 1, *tokens)
    assert whole.model_ns == sum(record.timing.duration_ns or 0 for record in seen.records)
    shown = dict(next(span for span in seen.spans if span.name == "invoke_workflow game").attributes or {})
    assert shown["callspan.totals.model_s"] == pytest.approx(whole.model_ns / 1e9)
