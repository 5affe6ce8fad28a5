"""Misuse is flagged and warned of once, raises where strict, and never loses what was recorded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from callspan.agent.api import session, timestep
from callspan.agent.context import current_scope
from callspan.agent.misuse import MisuseError
from callspan.agent.rewards import reward
from callspan.fail_open import failures, forget_failures
from callspan.record.events import EventRecord, MessageRecord, RewardRecord, SessionRecord, TimestepRecord

if TYPE_CHECKING:
    from tests.agent.conftest import Seen


def warnings_of(caplog: pytest.LogCaptureFixture, flag: str) -> int:
    return sum(flag in entry.getMessage() and entry.levelno == logging.WARNING for entry in caplog.records)


def test_an_event_on_an_ended_step_is_flagged_and_warned_of_once(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    with session("s") as own:
        with own.timestep() as step:
            pass
        step.event("late")
        step.observation("late")
    assert seen.of(EventRecord)[0].flags == ["after_end"]
    assert seen.of(EventRecord)[0].timestep_id == step.id
    assert seen.of(MessageRecord)[0].flags == ["after_end"]
    assert warnings_of(caplog, "after_end") == 1


def test_a_step_of_an_ended_session_is_kept(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    with session("s") as own:
        pass
    with own.timestep() as step:
        step.action(1)
    assert seen.ended(TimestepRecord)[0].session_id == own.id
    assert seen.of(EventRecord)[0].flags == []
    assert warnings_of(caplog, "after_end") == 1


def test_a_step_that_was_never_started_still_takes_events(seen: Seen) -> None:
    with session("s") as own:
        own.timestep().action(1)
    assert seen.of(EventRecord)[0].flags == ["before_start"]


def test_a_session_that_was_never_started_starts_with_its_first_step(seen: Seen) -> None:
    own = session("s")
    with own.timestep():
        pass
    assert seen.of(SessionRecord)[0].session_id == own.id
    assert seen.ended(TimestepRecord)[0].session_id == own.id


def test_a_scope_starts_once(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    own = session("s")
    with own:
        assert own.start() is own
    assert warnings_of(caplog, "started_twice") == 1
    assert len(seen.spans) == 1


def test_an_event_without_a_type_is_flagged_and_the_rest_lives(seen: Seen) -> None:
    with session("s") as own:
        own.event("")
        own.event(None)  # type: ignore[arg-type]
        own.event("fine")
    first, second, third = seen.of(EventRecord)
    assert first.event_type == "unknown"
    assert second.event_type == "unknown"
    assert first.flags == second.flags == ["event_without_type"]
    assert (third.event_type, third.flags) == ("fine", [])


def test_a_reward_that_is_no_number_is_kept_as_unknown_and_flagged(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step:
        step.environment(reward="high")
        step.reward([1, 2])
    assert seen.of(EventRecord)[0].reward is None
    assert seen.of(EventRecord)[0].flags == ["reward_without_number"]
    assert seen.of(RewardRecord)[0].metadata == {"callspan.flags": ["reward_without_number"]}
    assert seen.ended(SessionRecord)[0].totals.reward is None


def test_a_reward_for_nobody_is_kept_and_flagged(seen: Seen) -> None:
    reward(1.0)
    (record,) = seen.of(RewardRecord)
    assert record.session_id is None
    assert record.metadata == {"callspan.flags": ["outside_session"]}


def test_strict_raises_before_anything_is_changed(seen: Seen) -> None:
    seen.install(strict=True)
    with pytest.raises(MisuseError, match="belongs into"), timestep():
        pass
    assert current_scope() is None
    with session("s") as own:
        with own.timestep() as step:
            pass
        with pytest.raises(MisuseError, match="has ended"):
            step.action(1)
        with pytest.raises(MisuseError, match="a type"):
            own.event("")
    assert len(seen.ended(SessionRecord)) == 1


def test_objects_json_cannot_hold_do_no_harm(seen: Seen) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

    with session("s", metadata={"h": Hostile()}) as own, own.timestep(metadata=[1]) as step:  # type: ignore[arg-type]
        step.action(Hostile())
        step.environment({1, 2}, before={1: float("nan")})
        step.message(object(), causal_influence="one")
        with step.tool(call=Hostile(), arguments={"h": Hostile()}) as run:
            run.result = Hostile()
    assert len(seen.spans) == 3
    assert seen.of(MessageRecord)[0].causal_influence == ["one"]


def test_names_and_ids_of_other_types_become_text(seen: Seen) -> None:
    """Whatever is handed in: the record can be read back, which `seen` tries with each."""
    odd: Any = 7
    with session(odd, session_id=odd, user_id=odd, group_id=odd, task_id=odd, experiment=odd) as own:
        own.update(status=odd, metadata={odd: odd})
        with own.timestep(odd, turn="3") as step:  # type: ignore[arg-type]
            step.message(odd, odd, odd, odd, odd, [odd])
            step.event(odd, odd, odd, system=odd, call=odd)
            step.reward(odd, odd, odd, odd, label=odd, event=odd)
            with step.tool(odd, call={"id": odd, "name": odd}):
                pass
        reward(odd, session_id=odd, call_id=odd, objective=odd, label=odd, source=odd, annotation=odd)
    assert own.id == "7"
    assert seen.ended(SessionRecord)[0].user_id == "7"
    assert seen.ended(TimestepRecord)[0].turn == 3
    assert seen.of(MessageRecord)[0].causal_influence == ["7"]
    assert seen.of(EventRecord)[0].event_type == "7"
    assert seen.ended(SessionRecord)[0].totals.reward == 14


def test_a_reward_that_is_not_finite_does_not_spoil_the_sum(seen: Seen) -> None:
    with session("s") as own:
        own.reward(1)
        own.reward(float("nan"))
        own.environment(reward=float("inf"))
    assert seen.ended(SessionRecord)[0].totals.reward == 1


def test_a_cyclic_object_is_an_event_all_the_same(seen: Seen) -> None:
    cyclic: list[object] = []
    cyclic.append(cyclic)
    with session("s") as own:
        own.event("turn", cyclic)
    assert len(seen.of(EventRecord)) == 1
    assert [event.name for event in seen.spans[0].events] == ["callspan.turn"]
    forget_failures()  # its content may be missing on the span


def test_a_writer_that_fails_harms_nothing(seen: Seen) -> None:
    def fail(record: object) -> None:
        raise OSError("disk full")

    seen.write = fail  # type: ignore[method-assign]
    seen.install()
    with session("s") as own, own.timestep() as step:
        step.action(1)
    assert len(seen.spans) == 2
    assert sum(failures().values()) == 5
    forget_failures()
