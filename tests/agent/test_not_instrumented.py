"""Sessions without `instrument()`: one warning, the program runs, at almost no cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from tests.counting import calls_made_by

import callspan
from callspan import current_session, current_timestep, session, timestep, tool
from callspan.agent import runtime
from callspan.agent.misuse import forget_warnings


@pytest.fixture(autouse=True)
def new_process() -> Iterator[None]:
    runtime.forget()
    forget_warnings()
    yield
    runtime.remove()
    forget_warnings()


def a_session() -> None:
    with callspan.session("s") as session, session.timestep() as step:
        step.action(1)


def a_lone_timestep() -> None:
    with callspan.timestep("t"):
        pass


def a_tool() -> None:
    with callspan.tool("t") as tool:
        tool.result = 1


def a_decorated_tool() -> None:
    assert callspan.tool(lambda: 1)() == 1


def a_reward() -> None:
    callspan.reward(1.0, session_id="s")


def a_recorded_call() -> None:
    with callspan.record_call(provider="p") as call:
        call.response({})


USES = [a_session, a_lone_timestep, a_tool, a_decorated_tool, a_reward, a_recorded_call]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("use", USES)
def test_one_warning_says_that_nothing_is_recorded(use: Callable[[], None], caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        use()
    (message,) = warnings(caplog)
    assert "callspan.instrument() has not been called: nothing is recorded" in message


def test_the_warning_comes_once_for_all_uses(caplog: pytest.LogCaptureFixture) -> None:
    for use in USES:
        use()
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("variable", ["CALLSPAN_ENABLED=off", "OTEL_SDK_DISABLED=true"])
def test_switched_off_by_the_environment_is_silent(
    use: Callable[[], None], variable: str, nothing_warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable.split("="))
    use()


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
