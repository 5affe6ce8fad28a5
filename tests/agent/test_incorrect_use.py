"""Misuse is flagged and warned of once, raises where strict, and never loses what was recorded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import TYPE_CHECKING, Any

import pytest

from callspan import Session, Timestep, UsageError, copy_context, feedback, reward, session, timestep, tool
from callspan.agent import arguments
from callspan.agent.scope import current_scope
from callspan.fail_open import failures, forget_failures
from callspan.records import EventRecord, MessageRecord, RewardRecord, SessionRecord, TimestepRecord

if TYPE_CHECKING:
    from tests.agent.conftest import Seen


def warnings_of(caplog: pytest.LogCaptureFixture, flag: str) -> int:
    return sum(flag in entry.getMessage() and entry.levelno == logging.WARNING for entry in caplog.records)


def test_a_session_that_was_never_started_starts_with_its_first_step(seen: Seen) -> None:
    own = session("s")
    with own.timestep():
        pass
    assert seen.of(SessionRecord)[0].session_id == own.id
    assert seen.ended(TimestepRecord)[0].session_id == own.id


def test_an_event_without_a_type_is_flagged_and_recorded(seen: Seen) -> None:
    with session("s") as own:
        own.event("")
        own.event(None)  # type: ignore[arg-type]
        own.event("fine")
    first, second, third = seen.of(EventRecord)
    assert first.event_type == "unknown"
    assert second.event_type == "unknown"
    assert first.flags == second.flags == ["event_without_type"]
    assert (third.event_type, third.flags) == ("fine", [])


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
    assert seen.ended(SessionRecord)[0].totals.rewards == {"7": 7}


def test_a_reward_that_is_not_finite_does_not_spoil_the_sum(seen: Seen) -> None:
    with session("s") as own:
        own.reward(1)
        own.reward(float("nan"))
        own.environment(reward=float("inf"))
    assert seen.ended(SessionRecord)[0].totals.reward == 1


def test_a_failing_writer_is_harmless(seen: Seen) -> None:
    def fail(record: object) -> None:
        raise OSError("disk full")

    seen.write = fail  # type: ignore[method-assign]
    seen.install()
    with session("s") as own, own.timestep() as step:
        step.action(1)
    assert len(seen.spans) == 2
    assert sum(failures().values()) == 5
    forget_failures()


def outside(own: Session) -> None:
    """A step outside a session, in a place where none is current."""
    Context().run(with_step)


def with_step() -> None:
    with timestep():
        pass


def ended_step(own: Session) -> Timestep:
    with own.timestep() as step:
        pass
    return step


def twice(scope: Any) -> None:
    with scope:
        pass
    with scope:
        pass


def never_started(name: str) -> Session:
    return session(name)


MISUSES: dict[str, tuple[str, Callable[[Session], object]]] = {
    "a step outside a session": ("outside_session", outside),
    "a reward outside a session": ("outside_session", lambda own: Context().run(reward, 1)),
    "a step in a session that never started": ("before_start", lambda own: twice_over(never_started("n").timestep())),
    "an event in a session that never started": ("before_start", lambda own: never_started("n").event("x")),
    "an event in a step that never started": ("before_start", lambda own: own.timestep().event("x")),
    "a tool in a step that never started": ("before_start", lambda own: twice_over(own.timestep().tool("t"))),
    "an event in an ended step": ("after_end", lambda own: ended_step(own).event("x")),
    "a message in an ended step": ("after_end", lambda own: ended_step(own).observation("x")),
    "what an environment says in an ended step": ("after_end", lambda own: ended_step(own).environment("x")),
    "a tool in an ended step": ("after_end", lambda own: twice_over(ended_step(own).tool("t"))),
    "an agent in an ended step": ("after_end", lambda own: twice_over(ended_step(own).invoke_agent("a"))),
    "a handoff in an ended step": ("after_end", lambda own: ended_step(own).handoff("b")),
    "a timed environment in an ended step": (
        "after_end",
        lambda own: twice_over(ended_step(own).environment_step()),
    ),
    "a step in an ended session": ("after_end", lambda own: twice_over(ended_session().timestep())),
    "an event in an ended session": ("after_end", lambda own: ended_session().event("x")),
    "a session that starts again": ("started_twice", lambda own: twice(session("again"))),
    "a step that starts again": ("started_twice", lambda own: twice(own.timestep())),
    "a tool that starts again": ("started_twice", lambda own: twice(own.tool("t"))),
    "an agent that starts again": ("started_twice", lambda own: twice(own.invoke_agent("a"))),
    "a guardrail that starts again": ("started_twice", lambda own: twice(own.guardrail("g"))),
    "a timed environment that starts again": ("started_twice", lambda own: twice(own.environment_step())),
    "a session that starts while it runs": ("started_twice", lambda own: own.start()),
    "an event without a type": ("event_without_type", lambda own: own.event("")),
    "a message without a kind": ("message_without_kind", lambda own: own.message("x", "")),
    "a reward that is no number": ("reward_without_number", lambda own: own.reward("high")),
    "a reward by id that is no number": ("reward_without_number", lambda own: reward("high", session_id="x")),
    "an outcome that is no number": ("reward_without_number", lambda own: own.outcome(reward="high")),
    "an environment's reward that is no number": ("reward_without_number", lambda own: own.environment(reward="x")),
    "feedback that is no number": ("reward_without_number", lambda own: feedback("c", "high")),
    "feedback for no call": ("feedback_without_call", lambda own: feedback("", 1)),
    "a time that is none": ("odd_time", lambda own: own.event("x", at="now")),  # type: ignore[arg-type]
}


def twice_over(scope: Any) -> None:
    """Start and end it once."""
    with scope:
        pass


def ended_session() -> Session:
    with session("ended") as own:
        pass
    return own


def plainly(do: Callable[[], object]) -> None:
    do()


def in_a_task(do: Callable[[], object]) -> None:
    async def body() -> None:
        await asyncio.sleep(0)
        do()

    async def main() -> None:
        await asyncio.create_task(body())

    asyncio.run(main())


def in_a_thread(do: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context(do)).result()


def in_a_generator(do: Callable[[], object]) -> None:
    @tool("around")
    def items() -> Iterator[int]:
        yield 1
        do()
        yield 2

    assert list(items()) == [1, 2]


SHAPES = [plainly, in_a_task, in_a_thread, in_a_generator]


def marks(record: Any) -> list[str]:
    return [*getattr(record, "flags", []), *record.metadata.get("callspan.flags", [])]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("what", MISUSES)
def test_wrong_use_is_flagged_and_warned_of_once_wherever_it_happens(
    seen: Seen, caplog: pytest.LogCaptureFixture, what: str, shape: Callable[[Callable[[], object]], None]
) -> None:
    arguments.forget_warnings()
    caplog.clear()
    seen.records.clear()
    flag, do = MISUSES[what]
    with session("s") as own:
        shape(lambda: do(own))
        shape(lambda: do(own))
    flagged = [record for record in seen.records if flag in marks(record)]
    assert flagged
    assert {mark for record in seen.records for mark in marks(record)} - {"left_open"} == {flag}
    assert warnings_of(caplog, flag) == 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("what", MISUSES)
def test_strict_raises_wherever_it_happens(
    seen: Seen, what: str, shape: Callable[[Callable[[], object]], None]
) -> None:
    seen.records.clear()
    seen.install(strict=True)
    _, do = MISUSES[what]
    with session("s") as own, pytest.raises(UsageError):
        shape(lambda: do(own))
    assert current_scope() is None
    assert {mark for record in seen.records for mark in marks(record)} == set()
    assert [record.outcome for record in seen.ended(SessionRecord) if record.name == "s"] == ["success"]


@pytest.mark.parametrize("what", MISUSES)
def test_disabled_callspan_ignores_wrong_use(no_runtime: None, nothing_warned: list[str], what: str) -> None:
    with session("s") as own:
        MISUSES[what][1](own)


def test_events_of_a_restarted_session_belong_to_the_new_run(seen: Seen) -> None:
    """A session made once, used for several blocks: nothing of the later ones is lost."""
    own = session("s")
    for number in range(3):
        with own, own.timestep():
            own.action(number)
    assert {record.session_id for record in seen.of(EventRecord)} == {own.id}
    assert [record.index for record in seen.ended(TimestepRecord)] == [0, 1, 2]
    assert len(seen.named("invoke_workflow s")) == 3
    assert seen.of(SessionRecord)[-1].totals.timesteps == 3


def test_a_step_that_starts_again_is_another_step(seen: Seen) -> None:
    with session("s") as own:
        step = own.timestep("turn", metadata={"a": 1})
        with step:
            step.environment(1, reward=1, terminated=True)
            step.update(status="won")
        first = step.id
        with step:
            step.action(2)
    one, two = seen.ended(TimestepRecord)
    assert (one.timestep_id, one.outcome, one.terminated, one.totals.reward) == (first, "won", True, 1)
    assert (two.timestep_id, two.outcome, two.terminated, two.totals.reward) == (step.id, "success", None, None)
    assert (two.name, two.index, two.metadata) == ("turn", 1, {"a": 1, "callspan.flags": ["started_twice"]})
    assert seen.of(EventRecord)[-1].timestep_id == two.timestep_id != first


def test_a_restarted_scope_keeps_no_results_of_the_earlier_run(seen: Seen) -> None:
    with session("s") as own:
        tool, agent, check, world = own.tool("t"), own.invoke_agent("a"), own.guardrail("g"), own.environment_step()
        with tool, agent, check, world:
            tool.result, agent.output, check.triggered = 1, 1, True
            tool.error = agent.error = "no"
            world.set_result(1, reward=1)
        with tool, agent, check, world:
            pass
    later = {one.event_type: one for one in seen.of(EventRecord)[-4:]}
    assert {kind: (one.data, one.reward, one.error, one.metadata) for kind, one in later.items()} == {
        kind: (None, None, None, {}) for kind in ("tool", "agent", "guardrail", "environment")
    }
    assert len({one.event_id for one in seen.of(EventRecord)}) == len(seen.of(EventRecord))
    assert len({span.context.span_id for span in seen.spans if span.context is not None}) == 9


@pytest.mark.parametrize("odd", ["text", 7, [1, 2], {"callspan-next-step": "x", "traceparent": "00-zz"}])
def test_an_invalid_carrier_makes_a_new_session(seen: Seen, odd: Any) -> None:
    with session("s", carrier=odd) as own:
        reward(1, carrier=odd)
    assert seen.ended(SessionRecord)[0].session_id == own.id
    assert seen.of(RewardRecord)[0].session_id == own.id


def test_a_restarted_session_has_the_end_of_the_new_run(seen: Seen) -> None:
    own = session("s")
    with own:
        own.update(status="won")
    with own:
        pass
    assert [record.outcome for record in seen.ended(SessionRecord)] == ["won", "success"]
