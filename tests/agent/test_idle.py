"""Without instrumentation the session API does nothing at almost no cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.agent.conftest import Seen
from tests.counting import calls_made_by
from tests.processed import UNPROCESSED

from callspan import current_session, current_timestep, session, timestep, tool
from callspan.agent.runtime import Runtime, install, remove


def plain(number: int = 1, *, twice: bool = False) -> int:
    return number * 2 if twice else number


@pytest.mark.parametrize(("decorator", "limit"), [(tool, 110), (timestep, 110), (session, 116)])
def test_decorated_functions_stay_fast_where_nothing_records(
    no_runtime: None, decorator: Callable[[Callable[..., int]], Callable[..., int]], limit: int
) -> None:
    decorated = decorator(plain)
    with session("s"):
        assert decorated(3, twice=True) == 6
        assert calls_made_by(decorated) - calls_made_by(plain) <= limit


def test_a_session_that_began_before_instrumentation_stays_silent(no_runtime: None, seen: Seen) -> None:
    remove()
    with session("early") as own:
        seen.install()
        with own.timestep() as step:
            step.action(1)
            with session("inner"):
                pass
    assert {record.name for record in seen.records} == {"inner"}


def test_a_session_keeps_the_runtime_it_began_with(seen: Seen) -> None:
    later: list[object] = []
    with session("s") as own:
        install(
            Runtime(
                write=later.append,
                spans=seen.runtime().spans,
                processors=lambda _level: UNPROCESSED,
            )
        )
        with own.timestep() as step:
            step.action(1)
    assert later == []
    assert len(seen.records) == 5


def test_lookups_outside_any_session_find_nothing(no_runtime: None) -> None:
    assert current_session() is None
    assert current_timestep() is None
    with session("s") as own:
        assert current_session() is own
        assert current_timestep() is None
        with own.timestep() as step:
            assert current_timestep() is step
