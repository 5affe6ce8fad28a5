"""The search: runs the cases of one seed through a bare and an instrumented worker, and stops at one that differs."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Container
from contextlib import suppress
from itertools import zip_longest
from multiprocessing import get_context
from typing import Any
from unittest import mock

import hypothesis
from hypothesis import HealthCheck, Phase, given, note, reproduce_failure, seed, settings
from hypothesis.errors import DidNotReproduce
from tests.fuzz.case import Case
from tests.fuzz.sdks import SDKS
from tests.fuzz.strategies import cases
from tests.fuzz.worker import work
from tests.support.processes import plain_environment
from tests.support.waiting import HANG_S

SIDES = ("bare", "instrumented")
SPAWN = get_context("spawn")
_COMPARED = ("log", "requests", "calls", "warned", "noise")


class Side:
    """One worker process, started anew where it has died or hangs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._start()

    def _start(self) -> None:
        self._link, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=work, args=(self._name, theirs), daemon=True)
        environment = plain_environment(PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1")
        with mock.patch.dict(os.environ, environment, clear=True):
            self._process.start()
        theirs.close()

    def send(self, case: Case | None) -> None:
        """Give it a case; None asks which ways of calling the SDKs have."""
        self._link.send(case)

    def receive(self) -> dict[str, Any]:
        """Return what it saw; a worker that is stuck or gone is said to be, and replaced."""
        try:
            if self._link.poll(HANG_S):
                return self._link.recv()
            end = "hangs"
        except EOFError:
            end = "died"
        self.close()
        self._start()
        return {"log": [["the worker", end]], "wrong": []}

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._link.close()


class Pair:
    """Both sides, until they are closed, and what they have run."""

    def __init__(self, sdks: Container[str] = SDKS) -> None:
        self._sides = [Side(name) for name in SIDES]
        self._began = time.monotonic()
        self._sides[0].send(None)
        known: dict[str, list[str]] = self._sides[0].receive()
        self.known = {sdk: ways for sdk, ways in known.items() if sdk in sdks}
        """The ways of calling that the chosen SDKs have, as they are installed."""
        self.ways: Counter[str] = Counter()
        """How many cases each of them had."""
        self.calls = 0
        """How many calls have reached the SDK's `request` for a model."""

    def close(self) -> None:
        for side in self._sides:
            side.close()

    @property
    def summary(self) -> str:
        """One line for people."""
        seconds = time.monotonic() - self._began
        return f"{self.ways.total()} cases, {self.calls} calls, {len(self.ways)} ways, 0 differ, {seconds:.0f} s"

    def differences(self, case: Case) -> list[str]:
        """Run a case on both sides at once; what differs, nothing if all is well."""
        for side in self._sides:
            side.send(case)
        bare, instrumented = (side.receive() for side in self._sides)
        self.ways[f"{case.sdk} {case.way} {case.wrap} {case.colour}"] += 1
        self.calls += bare.get("calls", 0)
        for event in bare["log"]:
            note(str(event)[:2000])
        return compared(bare, instrumented)


def compared(bare: dict[str, Any], instrumented: dict[str, Any]) -> list[str]:
    """Return what differs between both sides, and what is wrong with the records of the instrumented one."""
    found = list(instrumented.get("wrong", ()))
    if bare.get("callspan"):
        found.append("the bare side has imported callspan")
    for part in _COMPARED:
        theirs, ours = bare.get(part), instrumented.get(part)
        if theirs != ours:
            found.append(f"{part} differs\n{_first_difference(theirs, ours)}")
    return found


def _first_difference(theirs: Any, ours: Any) -> str:
    if not isinstance(theirs, list) or not isinstance(ours, list):
        return f"    bare {theirs}\n    instrumented {ours}"
    events = list(zip_longest(theirs, ours, fillvalue="nothing more"))
    at = next(at for at, (one, other) in enumerate(events) if one != other)
    pairs = zip(*events[at : at + 2], strict=True)
    return "\n".join(
        f"    {name} {str(event)[:1500]}" for name, side in zip(SIDES, pairs, strict=True) for event in side
    )


def search(pair: Pair, start: int, number: int, blob: str | None = None) -> None:
    """Run `number` cases, or that of a blob; the same `start` gives the same ones on the same SDKs.

    Raises AssertionError for one that differs, the smallest that hypothesis finds.
    """

    @seed(start)
    @settings(
        max_examples=number, database=None, deadline=None, phases=[Phase.generate, Phase.shrink], print_blob=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases(pair.known))
    def each(case: Case) -> None:
        # Twice: whether a connection that is closed with unread bytes ends or is reset, the kernel decides each time.
        found = pair.differences(case) and pair.differences(case)
        assert not found, "\n".join(found)

    if blob is None:
        each()
        return
    with suppress(DidNotReproduce):
        reproduce_failure(hypothesis.__version__, blob.encode())(each)()
