"""Misuse, and use without `instrument()`: it does nothing and is logged once; misuse inside `capture()` raises."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import Context
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.sessions.conftest import raised_misuse

import callspan
from callspan import (
    Session,
    Timestep,
    UsageError,
    current_session,
    feedback,
    reward,
    session,
    timestep,
)
from callspan.records import EventRecord, MessageRecord, RewardRecord, SessionRecord

if TYPE_CHECKING:
    from tests.sessions.conftest import Seen


def once(scope: Any) -> None:
    with scope:
        pass


def twice(scope: Any) -> None:
    once(scope)
    once(scope)


def ended_step(own: Session) -> Timestep:
    with own.timestep() as step:
        pass
    return step


def ended_session() -> Session:
    with session("ended") as own:
        pass
    return own


def set_wrong_result(own: Session) -> None:
    with own.environment_step() as world:
        world.set_result("x", reward="high")  # type: ignore[arg-type]


def end_before_the_start(own: Session) -> None:
    own.timestep(at=10**18).start(current=False).end(at=10**18 - 1)


ODD: Any = "now"
NAIVE = datetime(2026, 11, 20)  # noqa: DTZ001 - the zone is what it lacks
NOT_STARTED, OVER = "with `with` before recording", "has ended"
MISUSES: dict[str, tuple[str, Callable[[Session], object]]] = {
    "a step outside a session": ("must be started inside", lambda own: Context().run(lambda: once(timestep()))),
    "a reward outside a session": ("outside a session", lambda own: Context().run(reward, 1)),
    "a step in a session that never started": (NOT_STARTED, lambda own: once(session("n").timestep())),
    "an event in a session that never started": (NOT_STARTED, lambda own: session("n").event("x")),
    "a tool in a step that never started": (NOT_STARTED, lambda own: once(own.timestep().tool("t"))),
    "an event in an ended step": (OVER, lambda own: ended_step(own).event("x")),
    "a tool in an ended step": (OVER, lambda own: once(ended_step(own).tool("t"))),
    "a step in an ended session": (OVER, lambda own: once(ended_session().timestep())),
    "a session that starts again": ("started only once", lambda own: twice(session("again"))),
    "a tool that starts again": ("started only once", lambda own: twice(own.tool("t"))),
    "a session that starts while it runs": ("started only once", lambda own: own.start()),
    "an event without a type": ("needs a type", lambda own: own.event("")),
    "a message without a kind": ("needs a kind", lambda own: own.message("x", "")),
    "a reward that is no number": ("finite", lambda own: own.reward("high")),  # type: ignore[arg-type]
    "a reward by id that is no number": ("finite", lambda own: reward(ODD, session_id="x")),
    "a result that is no number": ("finite", set_wrong_result),
    "feedback that is no number": ("finite", lambda own: feedback("c", ODD)),
    "feedback for no call": ("feedback needs a call", lambda own: feedback("x" * 201, 1)),
    "a reward for what can be no call": ("feedback needs a call", lambda own: reward(1, call_id=object())),
    "a time without a zone": ("a time must be", lambda own: own.event("x", at=NAIVE)),
    **{
        f"{at} as a time": ("a time must be", lambda own, at=at: own.event("x", at=at))
        for at in (1_700_000_000, -1, 2**63, float("nan"), "2026-11-20")
    },
    "an end before the start": ("must not be before the start", end_before_the_start),
}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]


@pytest.mark.parametrize("what", MISUSES)
def test_misuse_is_logged_once_and_does_nothing(seen: Seen, caplog: pytest.LogCaptureFixture, what: str) -> None:
    said, do = MISUSES[what]
    with session("s") as own:
        do(own)
        do(own)
        assert current_session() is own
    (line,) = lines(caplog)
    assert said in line
    kept = [one for one in seen.of(EventRecord) if one.event_type not in ("tool", "environment")]
    assert kept == seen.of(MessageRecord) == seen.of(RewardRecord) == []
    totals = seen.ended(SessionRecord)[-1].totals
    assert (totals.reward, totals.rewards) == (None, {})


@pytest.mark.parametrize("what", MISUSES)
def test_misuse_raises_where_it_is_asked_to(seen: Seen, what: str) -> None:
    said, do = MISUSES[what]
    with raised_misuse(), session("s") as own, pytest.raises(UsageError, match=said):
        do(own)
    assert current_session() is None
    assert [record.outcome for record in seen.ended(SessionRecord) if record.name == "s"] == ["success"]


@pytest.mark.parametrize("what", MISUSES)
def test_disabled_callspan_ignores_misuse(switched_off: None, nothing_warned: list[str], what: str) -> None:
    with session("s") as own:
        MISUSES[what][1](own)


@pytest.mark.parametrize("odd", ["text", 7, [1, 2], {"callspan-session-name": 7, "traceparent": "00-zz"}])
def test_an_invalid_carrier_makes_a_new_session(seen: Seen, odd: Any) -> None:
    with session("s", carrier=odd) as own:
        reward(1, carrier=odd)
    assert seen.ended(SessionRecord)[0].session_id == own.id
    assert seen.of(RewardRecord)[0].session_id == own.id


# Without `instrument()`


def a_session() -> None:
    with callspan.session("s") as session, session.timestep() as step:
        step.action(1)


def a_decorated_tool() -> None:
    assert callspan.tool(lambda: 1)() == 1


def a_recorded_call() -> None:
    with callspan.record_call(provider="p") as call:
        call.response({})


USES: list[Callable[[], object]] = [
    a_session,
    lambda: once(callspan.timestep("t")),
    lambda: once(callspan.tool("t")),
    a_decorated_tool,
    lambda: callspan.reward(1.0, session_id="s"),
    a_recorded_call,
]


@pytest.mark.usefixtures("new_process")
@pytest.mark.parametrize("first", USES)
def test_one_warning_for_all_uses_says_that_nothing_is_recorded(
    first: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    for use in (first, *USES):
        use()
    (message,) = lines(caplog)
    assert "callspan.instrument() has not been called: nothing is recorded" in message


@pytest.mark.usefixtures("new_process")
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("variable", ["CALLSPAN_ENABLED=off", "OTEL_SDK_DISABLED=true"])
def test_switched_off_by_the_environment_is_silent(
    use: Callable[[], object], variable: str, nothing_warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable.split("="))
    use()
