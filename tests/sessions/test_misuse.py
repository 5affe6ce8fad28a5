"""Misuse, use without instrument(), and any object as any argument: nothing raises, nothing is lost."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from contextvars import Context
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final

import pytest
from tests.sessions.conftest import Seen, failed, logged_misuse, raised_misuse
from tests.support.scale import scaled

import callspan
from callspan import Session, Timestep, UsageError, current_session, feedback, reward, session, timestep
from callspan.records import (
    CallRecord,
    EventRecord,
    MessageRecord,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    decode,
    encode,
)
from callspan.testing import capture


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


LOST: dict[str, Callable[[Session], object]] = {
    "feedback for a flag": lambda own: feedback(True, 1),
    "feedback for no call": lambda own: feedback("x" * 201, 1),
    "feedback without a call": lambda own: feedback(value=1),
    "feedback for a span that cannot be": lambda own: feedback(value=1, trace_id="x", span_id="y"),
    "feedback for a tool call of nobody": lambda own: feedback({"id": "call_1", "name": "f", "arguments": {}}, 1),
    "feedback for JSON of another program": lambda own: feedback({"id": "chatcmpl-1", "choices": []}, 1),
    "a reward for what can be no call": lambda own: reward(1, call_id=object()),
}
"""Ratings whose call cannot be known."""
ODD: Any = "now"
NAIVE = datetime(2026, 11, 20)  # noqa: DTZ001 - the zone is what it lacks
NOT_STARTED, OVER = "with `with` before recording", "has ended"
MISUSES: dict[str, tuple[str, Callable[[Session], object]]] = {
    "a step outside a session": ("must be started inside", lambda own: Context().run(lambda: once(timestep()))),
    "a reward outside a session": ("outside a session", lambda own: Context().run(reward, 1)),
    "a step in a session that never started": (NOT_STARTED, lambda own: once(session("n").timestep())),
    "an event in a session that never started": (NOT_STARTED, lambda own: session("n").event("x")),
    "an outcome of a session that never started": (NOT_STARTED, lambda own: session("n").outcome(1)),
    "a tool in a step that never started": (NOT_STARTED, lambda own: once(own.timestep().tool("t"))),
    "an event in an ended step": (OVER, lambda own: ended_step(own).event("x")),
    "a tool in an ended step": (OVER, lambda own: once(ended_step(own).tool("t"))),
    "a step in an ended session": (OVER, lambda own: once(ended_session().timestep())),
    "a session that starts again": ("started only once", lambda own: twice(session("again"))),
    "a tool that starts again": ("started only once", lambda own: twice(own.tool("t"))),
    "a session in a block of its own": ("started only once", once),
    "a session that starts while it runs": ("started only once", lambda own: own.start()),
    "an event without a type": ("needs a type", lambda own: own.event("")),
    "a message without a kind": ("needs a kind", lambda own: own.message("x", "")),
    "a reward that is no number": ("finite", lambda own: own.reward("high")),  # type: ignore[arg-type]
    "a reward by id that is no number": ("finite", lambda own: reward(ODD, session_id="x")),
    "a result that is no number": ("finite", set_wrong_result),
    "feedback that is no number": ("finite", lambda own: feedback("c", ODD)),
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
def test_misuse_raises_if_requested(seen: Seen, what: str) -> None:
    said, do = MISUSES[what]
    with raised_misuse(), session("s") as own, pytest.raises(UsageError, match=said):
        do(own)
    assert current_session() is None
    assert [record.outcome for record in seen.ended(SessionRecord) if record.name == "s"] == ["success"]


@pytest.mark.parametrize("what", LOST)
def test_lost_rating_is_logged_each_time(seen: Seen, caplog: pytest.LogCaptureFixture, what: str) -> None:
    with session("s") as own:
        assert [LOST[what](own) for _ in range(3)] == [None] * 3
    assert [("feedback needs a call" in line, "once" in line) for line in lines(caplog)] == [(True, False)] * 3
    assert seen.of(RewardRecord) == []
    with raised_misuse(), session("s") as own, pytest.raises(UsageError, match="feedback needs a call"):
        LOST[what](own)


@pytest.mark.parametrize("use", ["event", "message", "tool", "handoff"])
def test_unknown_call_is_logged_each_time(seen: Seen, caplog: pytest.LogCaptureFixture, use: str) -> None:
    with session("s") as own:
        for _ in range(3):
            made = getattr(own, use)("x", call=object())
            if use == "tool":
                once(made)
    assert ["a call is named by" in line and "last_call_id()" in line for line in lines(caplog)] == [True] * 3
    assert {one.call_id for one in [*seen.of(EventRecord), *seen.of(MessageRecord)]} == {None}


def test_non_numeric_reward_is_dropped_alone(seen: Seen) -> None:
    """As a simulation that diverges ends: its last state is the one to see."""
    with session("s") as own, own.timestep() as step:
        step.environment("x", reward=float("nan"), terminated=True)
        set_wrong_result(own)
        own.outcome(ODD, success=False)
    first, second = seen.of(EventRecord)
    assert (first.data, first.terminated, second.data) == ({"after": "x"}, True, {"after": "x"})
    ended = seen.ended(SessionRecord)[-1]
    assert (ended.success, ended.outcome, ended.totals.reward) == (False, "failure", None)


@pytest.mark.parametrize("what", MISUSES)
def test_disabled_callspan_ignores_misuse(instrumented: Any, nothing_warned: None, what: str) -> None:
    instrumented(enabled=False)
    with session("s") as own:
        MISUSES[what][1](own)


FOREIGN = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "callspan-session": ""}


@pytest.mark.parametrize("odd", ["text", 7, [1, 2], {"callspan-session-name": 7, "traceparent": "00-zz"}, FOREIGN])
def test_invalid_carrier_or_empty_id_starts_a_new_session(seen: Seen, odd: Any) -> None:
    with session("s", session_id="", carrier=odd) as own:
        reward(1, carrier=odd)
    assert seen.ended(SessionRecord)[0].session_id == own.id != ""
    assert seen.the("invoke_workflow s").parent is None
    assert seen.of(RewardRecord)[0].session_id == own.id


# Without `instrument()`


def a_session() -> None:
    with callspan.session("s") as session, session.timestep() as step:
        step.action(1)


def a_decorated_tool() -> None:
    assert callspan.tool(lambda: 1)() == 1


def a_recorded_call() -> None:
    with callspan.record_call(provider="p") as call:
        call.response({"choices": [{"message": {"content": "Hi"}}]})


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
def test_misuse_warns_once_for_all_uses(first: Callable[[], object], caplog: pytest.LogCaptureFixture) -> None:
    for use in (first, *USES):
        use()
    (message,) = lines(caplog)
    assert "callspan.instrument() has not been called: nothing is recorded" in message


@pytest.mark.usefixtures("new_process")
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("variable", ["CALLSPAN_ENABLED=off", "OTEL_SDK_DISABLED=true"])
def test_disabled_by_environment_is_silent(
    use: Callable[[], object], variable: str, nothing_warned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable.split("="))
    use()


HUGE: Final = 10**5000


class Unspeakable:
    """Every method that might be used to read it raises."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __bool__ = __len__ = __iter__ = __float__ = __int__ = __index__ = __getitem__ = __str__

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


class Text(str):
    __slots__ = ()
    __str__ = __repr__ = Unspeakable.__str__


class Table(dict[Any, Any]):
    __iter__ = items = keys = values = __getitem__ = Unspeakable.__str__


class Endless(Mapping[str, object]):
    """A mapping in which every value is another one."""

    def __getitem__(self, key: str) -> object:
        return Endless()

    def __iter__(self) -> Iterator[str]:
        yield "a"

    def __len__(self) -> int:
        return 1


class Unreadable(Endless):
    def __getitem__(self, key: str) -> object:
        raise OSError("no connection")

    __iter__ = __len__ = __getitem__  # type: ignore[assignment]


def nested(make: Callable[[object], object], depth: int = 2_000) -> object:
    value: object = 1
    for _ in range(depth):
        value = make(value)
    return value


def cycle() -> dict[str, object]:
    value: dict[str, object] = {"n": 1}
    value["self"] = [value, value]
    return value


VALUES: Final[dict[str, Callable[[], object]]] = {
    "huge integer": lambda: HUGE,
    "huge negative integer": lambda: -HUGE,
    "integers around 64 bits": lambda: [2**63, -(2**63) - 1, 2**64, 10**639, 10**640],
    "key of 5,000 digits": lambda: {HUGE: 1, None: 2, (1, 2): 3, 1.5: 4},
    "cycle": cycle,
    "deep lists": lambda: nested(lambda inner: [inner]),
    "deep objects": lambda: nested(lambda inner: {"a": inner}),
    "endless": Endless,
    "NaN": lambda: float("nan"),
    "infinities": lambda: [float("inf"), float("-inf"), Decimal("NaN")],
    "lone surrogate": lambda: {"\ud800": "\udfff", "\0": "a\0"},
    "bytes": lambda: b"\xff\x00",
    "memory": lambda: memoryview(b"abc"),
    "unspeakable": Unspeakable,
    "unspeakable key": lambda: {Unspeakable(): 1},
    "unspeakable text": lambda: Text("x"),
    "unspeakable table": lambda: Table(a=1),
    "unreadable mapping": Unreadable,
    "class": lambda: Unspeakable,
    "complex": lambda: 1j,
    "old time": lambda: datetime(1, 1, 1, tzinfo=timezone.utc),
}


class Cause(Exception):  # noqa: N818 - named for what it has
    """An exception of a library that names its own cause."""

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        return {"code": 7}

    @property
    def __context__(self) -> Any:  # type: ignore[override]
        raise OSError("no connection")


class Closed(Exception):  # noqa: N818 - named for what it is
    """An exception of which nothing can be read."""

    def __getattribute__(self, name: str) -> Any:
        raise KeyError(name)


ERRORS: Final[dict[str, tuple[Callable[[], object], str | None]]] = {
    "no error": (lambda: None, None),
    "a flag that is off": (lambda: False, None),
    "an exit code of a success": (lambda: 0, None),
    "a flag": (lambda: True, "true"),
    "an exit code": (lambda: 137, "137"),
    "a text": (lambda: "no such file", "no such file"),
    "an unspeakable text": (lambda: Text("no such file"), "no such file"),
    "bytes": (lambda: b"no such file", "no such file"),
    "JSON": (lambda: {"code": -32603, "message": "no such tool"}, '{"code":-32603,"message":"no such tool"}'),
    "a class": (lambda: ValueError, "<class 'ValueError'>"),
    "an exception": (lambda: ValueError("no such file"), "no such file"),
    "an exception with a cause of its own": (lambda: Cause("no such file"), "no such file"),
    "an exception that cannot be read": (lambda: Closed("no such file"), "no such file"),
}
"""What an application gives as an error, and the message of its record."""


@pytest.mark.parametrize("what", ERRORS)
def test_any_value_states_an_error(seen: Seen, nothing_warned: None, what: str) -> None:
    make, message = ERRORS[what]
    error: Any = make()
    failed()
    with session("s") as own:
        step = own.timestep().start()
        step.event("e", error=error)
        with step.tool("t") as tool:
            tool.error = error
        step.tool("t").start().end(error)
        step.end(error)
    call = callspan.record_call(provider="p").__enter__()
    call.end(error)
    assert failed() == {}
    events = [one for one in seen.of(EventRecord) if one.event_type in ("e", "tool")]
    ended = [*seen.ended(TimestepRecord), *(one for one in seen.of(CallRecord) if one.outcome is not None)]
    assert [(len(events), len(ended))] == [(3, 2)]
    assert {one.outcome for one in ended} == {"success" if message is None else "error"}
    for record in (*events, *ended):
        assert (record.error is None) is (message is None)
        if record.error is not None:
            assert record.error.message == message


NAMES: Final = {
    "callspan": "session timestep tool invoke_agent guardrail handoff reward feedback",
    "session": "timestep outcome",
    "step": "environment message event reward tool invoke_agent action guardrail handoff update observation end "
    "environment_step",
    "world": "set_result",
}
"""What takes arguments: of the package, a session, a step of it, and a step of the environment."""
METADATA: Final = ("user_id", "step_index", "tags", "prompt_id", "extra", "other")
ATTRIBUTES: Final = ("tool.result", "tool.error", "invoke_agent.output", "guardrail.triggered")


def owners(session: Session) -> dict[str, Any]:
    step = session.timestep()
    return {"callspan": callspan, "session": session, "step": step, "world": step.environment_step()}


PLACES: Final = [
    *(
        (owner, name, parameter)
        for owner, known in owners(callspan.session("s")).items()
        for name in NAMES[owner].split()
        for parameter in inspect.signature(getattr(known, name)).parameters
    ),
    *(("metadata", "", name) for name in METADATA),
    *(("attribute", *name.split(".")) for name in ATTRIBUTES),
]


def use(owner: str, name: str, parameter: str, value: object) -> None:
    """Give the value in the place: in a step of a session."""
    with callspan.session("s") as session:
        found = owners(session)
        with found["step"] as step:
            if owner == "metadata":
                once(callspan.metadata(**{parameter: value}))
            elif owner == "attribute":
                with getattr(step, name)("n") as made:
                    setattr(made, parameter, value)
            else:
                with found["world"] if owner == "world" else nullcontext():
                    made = given(getattr(found[owner], name), parameter, value)
                if hasattr(made, "__enter__"):
                    once(made)


def given(function: Callable[..., Any], parameter: str, value: object) -> Any:
    arguments: dict[str, object] = {}
    positional: list[object] = []
    for name, each in inspect.signature(function).parameters.items():
        if name == parameter or each.default is each.empty:
            if each.kind is each.POSITIONAL_ONLY or each.kind is each.VAR_POSITIONAL:
                positional.append(value if name == parameter else "x")
            elif each.kind is not each.VAR_KEYWORD:
                arguments[name] = value if name == parameter else "x"
    return function(*positional, **arguments)


@pytest.mark.parametrize("each", [scaled(4, 1)])
@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_any_value_is_recorded_without_harm(place: tuple[str, str, str], each: int) -> None:
    """Every value in every place; quickly, each place has every fourth, and the next place the next ones."""
    failed()
    some = [*VALUES.values()][PLACES.index(place) % each :: each]
    with capture() as seen, logged_misuse():
        for make in some:
            use(*place, make())
    assert failed() == {}
    assert len({one.session_id for one in seen.sessions if one.outcome}) >= len(some)
    for record in seen.everything:
        assert encode(decode(encode(record))) == encode(record)
