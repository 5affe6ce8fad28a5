"""Waiting: for an event, never for a time. The one limit is that of a hang, which no loaded machine reaches.

A test that measures a time has a bound of its own: of CPU time, or against another time of the same run.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

HANG_S: Final = 300
"""Seconds after which what was waited for will never be: half the limit of a test, so that a wait fails before it."""
HANG_MS: Final = HANG_S * 1000
_PAUSES_S: Final = 0.005, 0.2
"""The shortest and the longest pause before a condition is looked at again; else a tenth of the wait so far."""


def until(condition: Callable[[], T], state: Callable[[], object] | None = None) -> T:
    """Wait for a condition that another thread or process brings about; return what it gives.

    A hang fails with the source of the condition, the values that it uses, and the state if there is one.
    """
    begun_s = time.monotonic()
    while not (value := condition()):
        time.sleep(_pause_s(begun_s, condition, value, state))
    return value


async def until_async(condition: Callable[[], T], state: Callable[[], object] | None = None) -> T:
    """The same for what another task of the loop may bring about."""
    begun_s = time.monotonic()
    while not (value := condition()):
        await asyncio.sleep(_pause_s(begun_s, condition, value, state))
    return value


def _pause_s(begun_s: float, condition: Callable[[], T], value: T, state: Callable[[], object] | None) -> float:
    waited_s = time.monotonic() - begun_s
    if waited_s > HANG_S:
        lines = [f"not within {HANG_S} s: {_described(condition)}", f"which is {value!r}"]
        raise AssertionError("\n".join([*lines, *([] if state is None else [f"state: {state()}"])]))
    shortest_s, longest_s = _PAUSES_S
    return max(shortest_s, min(longest_s, waited_s / 10))


def _described(condition: Callable[[], object]) -> str:
    try:
        source = " ".join(inspect.getsource(condition).split())
        values = {**inspect.getclosurevars(condition).nonlocals, **_defaults(condition)}
    except (OSError, TypeError, ValueError):  # such as a partial function, whose text has all
        return repr(condition)
    return "; ".join([source, *(f"{name} = {value!r}" for name, value in values.items())])


def _defaults(condition: Callable[[], object]) -> dict[str, object]:
    parameters = inspect.signature(condition).parameters.values()
    return {each.name: each.default for each in parameters}
