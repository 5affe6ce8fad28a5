"""Hooks: called at their points, in order, for their kinds; a failing one harms nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import pytest

from callspan.agent.api import session
from callspan.agent.hooks import POINTS, Hook, add_hook
from callspan.fail_open import failures, forget_failures
from callspan.record.events import EventRecord, Record

if TYPE_CHECKING:
    from tests.agent.conftest import Seen

AddHook: TypeAlias = Callable[..., Callable[[], None]]


@pytest.fixture
def hook() -> Iterator[AddHook]:
    """Adds hooks as `add_hook` does, and takes them away after the test."""
    removals = []

    def add(point: str, function: Hook, **options: Any) -> Callable[[], None]:
        removals.append(add_hook(point, function, **options))  # type: ignore[arg-type]
        return removals[-1]

    yield add
    for remove in removals:
        remove()


def test_each_point_is_called_with_its_record(seen: Seen, hook: AddHook) -> None:
    counts = dict.fromkeys(POINTS, 0)

    def counting(point: str) -> Hook:
        def count(record: Record) -> None:
            counts[point] += 1

        return count

    for point in POINTS:
        hook(point, counting(point))
    with session("s") as own:
        own.observation("x")
        own.timestep().start()  # left open: closed with its session, and its hook called
        with own.timestep() as step, step.tool("t"):
            step.action(1)
    assert counts == {
        "session_start": 1,
        "session_end": 1,
        "timestep_start": 2,
        "timestep_end": 2,
        "event": 2,
        "message": 1,
        "before_record": 10,
        "after_record": 10,
    }
    assert len(seen.records) == 10


def test_higher_priority_goes_first_then_the_order_of_registration(seen: Seen, hook: AddHook) -> None:
    called = []
    hook("session_start", lambda record: called.append("a"))
    hook("session_start", lambda record: called.append("b"), priority=5)
    hook("session_start", lambda record: called.append("c"))
    with session("s"):
        pass
    assert called == ["b", "a", "c"]


def test_a_filter_by_kind_filters(seen: Seen, hook: AddHook) -> None:
    called = []
    hook("event", lambda record: called.append(record.event_type), kinds={"action", "tool"})
    hook("before_record", lambda record: called.append("session"), kinds=["session"])
    with session("s") as own:
        own.event("thought")
        own.action(1)
        with own.tool("t"):
            pass
    assert called == ["session", "action", "tool", "session"]


def test_a_failing_hook_is_counted_and_the_others_run(seen: Seen, hook: AddHook) -> None:
    called = []
    hook("event", lambda record: 1 / 0)
    hook("event", called.append)
    with session("s") as own:
        own.action(1)
    assert len(called) == 1
    assert len(seen.of(EventRecord)) == 1
    assert failures() == {"run a event hook": 1}
    forget_failures()


def test_a_hook_before_the_record_may_put_another_in_its_place(seen: Seen, hook: AddHook) -> None:
    def enrich(record: Record) -> Record:
        return msgspec.structs.replace(record, metadata={"rank": 1})

    hook("before_record", enrich, kinds={"action"})
    hook("before_record", lambda record: "no record", kinds={"action"})
    with session("s") as own:
        own.action(1)
    assert seen.of(EventRecord)[0].metadata == {"rank": 1}


def test_a_hook_that_was_taken_away_is_not_called(seen: Seen, hook: AddHook) -> None:
    called = []
    remove = hook("session_start", called.append)
    remove()
    remove()
    with session("s"):
        pass
    assert called == []


def test_an_unknown_point_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'nowhere'; one of session_start"):
        add_hook("nowhere", print)  # type: ignore[arg-type]
