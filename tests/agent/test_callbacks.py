"""Callbacks: called at their points, in order, for their kinds; a failing one harms nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from callspan import add_callback, session
from callspan.process.callbacks import POINTS, Callback
from callspan.records import Record

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


def test_an_unknown_point_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'nowhere'; one of session_start"):
        add_callback("nowhere", print)  # type: ignore[arg-type]
