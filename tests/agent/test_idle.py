"""Without instrumentation the session API does nothing at almost no cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.counting import calls_made_by

from callspan import current_session, current_timestep, session, timestep, tool


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


def test_lookups_outside_any_session_find_nothing(no_runtime: None) -> None:
    assert current_session() is None
    assert current_timestep() is None
    with session("s") as own:
        assert current_session() is own
        assert current_timestep() is None
        with own.timestep() as step:
            assert current_timestep() is step
