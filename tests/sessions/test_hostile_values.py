"""Any object as any argument of the session API: nothing raises, nothing is lost, and every record can be stored."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final

import pytest
from tests.sessions.conftest import failed, logged_misuse
from tests.support.scale import scaled

import callspan
from callspan import Session, Timestep
from callspan.records import decode, encode
from callspan.testing import capture

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
    "class": lambda: Unspeakable,
    "complex": lambda: 1j,
    "old time": lambda: datetime(1, 1, 1, tzinfo=timezone.utc),
}
NAMES: Final = {
    *("message", "observation", "action", "event", "reward", "environment", "environment_step", "tool"),
    *("invoke_agent", "guardrail", "handoff", "outcome", "update", "timestep", "end"),
}
METHODS: Final = {
    f"{kind.__name__}.{name}": method
    for kind in dict.fromkeys((*Session.__mro__, *Timestep.__mro__))
    for name, method in vars(kind).items()
    if name in NAMES
}
METHODS["EnvironmentStep.set_result"] = type(callspan.session("s").environment_step()).set_result
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(callspan, name)
    for name in ("session", "timestep", "tool", "invoke_agent", "guardrail", "handoff", "reward", "feedback")
}
FUNCTIONS["metadata"] = lambda user_id=None, step_index=None, tags=None, prompt_id=None, extra=None, other=None: (
    callspan.metadata(user_id=user_id, step_index=step_index, tags=tags, prompt_id=prompt_id, extra=extra, other=other)
)
PLACES: Final = [
    *((name, parameter) for name, made in FUNCTIONS.items() for parameter in inspect.signature(made).parameters),
    *(
        (name, parameter)
        for name, method in METHODS.items()
        for parameter in [*inspect.signature(method).parameters][1:]
    ),
    *(("attribute", name) for name in ("tool.result", "tool.error", "agent.output", "guardrail.triggered")),
]


def use(place: str, parameter: str, value: object) -> None:
    """Give the value in the place: in a step of a session."""
    with callspan.session("s") as session, session.timestep() as step:
        name = place.partition(".")[2] or place
        if place == "attribute":
            scope, _, attribute = parameter.partition(".")
            with {"tool": step.tool, "agent": step.invoke_agent, "guardrail": step.guardrail}[scope]("n") as made:
                setattr(made, attribute, value)
            return
        if name == "set_result":
            with step.environment_step() as world:
                given(world.set_result, parameter, value)
            return
        owner: Any = session if place.startswith("Session.") else step
        made = given(FUNCTIONS[place] if place in FUNCTIONS else getattr(owner, name), parameter, value)
        if hasattr(made, "__enter__"):
            with made:
                pass


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
@pytest.mark.parametrize(("place", "parameter"), PLACES)
def test_any_value_anywhere_is_recorded_and_harms_nothing(place: str, parameter: str, each: int) -> None:
    """Every value in every place; quickly, each place has every fourth, and the next place the next ones."""
    failed()
    some = [*VALUES.values()][PLACES.index((place, parameter)) % each :: each]
    with capture() as seen, logged_misuse():
        for make in some:
            use(place, parameter, make())
    assert failed() == {}
    assert len({one.session_id for one in seen.sessions if one.outcome}) >= len(some)
    for record in seen.everything:
        assert encode(decode(encode(record))) == encode(record)
