"""Callbacks: called at their points, in order, for their kinds; a failing one harms nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import pytest

from callspan.agent.api import session
from callspan.fail_open import failures, forget_failures
from callspan.process.callbacks import POINTS, Callback, add_callback
from callspan.record.events import EventRecord, Record

if TYPE_CHECKING:
    from tests.agent.conftest import Seen

AddCallback: TypeAlias = Callable[..., Callable[[], None]]


@pytest.fixture
def callback() -> Iterator[AddCallback]:
    """Adds callbacks as `add_callback` does, and takes them away after the test."""
    removals = []

    def add(point: str, function: Callback, **options: Any) -> Callable[[], None]:
        removals.append(add_callback(point, function, **options))  # type: ignore[arg-type]
        return removals[-1]

    yield add
    for remove in removals:
        remove()


def test_each_point_is_called_with_its_record(seen: Seen, callback: AddCallback) -> None:
    counts = dict.fromkeys(POINTS, 0)

    def counting(point: str) -> Callback:
        def count(record: Record) -> None:
            counts[point] += 1

        return count

    for point in POINTS:
        callback(point, counting(point))
    with session("s") as own:
        own.observation("x")
        own.timestep().start()  # left open: closed with its session, and its callback called
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


def test_higher_priority_goes_first_then_the_order_of_registration(seen: Seen, callback: AddCallback) -> None:
    called = []
    callback("session_start", lambda record: called.append("a"))
    callback("session_start", lambda record: called.append("b"), priority=5)
    callback("session_start", lambda record: called.append("c"))
    with session("s"):
        pass
    assert called == ["b", "a", "c"]


def test_a_filter_by_kind_filters(seen: Seen, callback: AddCallback) -> None:
    called = []
    callback("event", lambda record: called.append(record.event_type), kinds={"action", "tool"})
    callback("before_record", lambda record: called.append("session"), kinds=["session"])
    with session("s") as own:
        own.event("thought")
        own.action(1)
        with own.tool("t"):
            pass
    assert called == ["session", "action", "tool", "session"]


def test_a_failing_callback_is_counted_and_the_others_run(seen: Seen, callback: AddCallback) -> None:
    called = []
    callback("event", lambda record: 1 / 0)
    callback("event", called.append)
    with session("s") as own:
        own.action(1)
    assert len(called) == 1
    assert len(seen.of(EventRecord)) == 1
    assert failures() == {"run a event callback": 1}
    forget_failures()


def test_a_before_record_callback_may_replace_the_record(seen: Seen, callback: AddCallback) -> None:
    def enrich(record: Record) -> Record:
        return msgspec.structs.replace(record, metadata={"rank": 1})

    callback("before_record", enrich, kinds={"action"})
    callback("before_record", lambda record: "no record", kinds={"action"})
    with session("s") as own:
        own.action(1)
    assert seen.of(EventRecord)[0].metadata == {"rank": 1}


def test_a_removed_callback_is_not_called(seen: Seen, callback: AddCallback) -> None:
    called = []
    remove = callback("session_start", called.append)
    remove()
    remove()
    with session("s"):
        pass
    assert called == []


def test_an_unknown_point_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'nowhere'; one of session_start"):
        add_callback("nowhere", print)  # type: ignore[arg-type]
