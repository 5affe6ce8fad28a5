"""The search: runs the cases of one seed through a bare and an instrumented worker, and groups those that differ."""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.fuzz.case import Case
from tests.fuzz.strategies import cases
from tests.support.processes import ROOT

SIDES = ("bare", "instrumented")
PATIENCE_S = 180.0
_COMPARED = ("log", "requests", "calls", "warned", "noise")
_VARIES = re.compile(r"\d+|'[^']*'")


class Side:
    """One worker process, started anew where it has died or hangs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._start()

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        environment = {
            name: value for name, value in environment.items() if not name.startswith(("CALLSPAN_", "OTEL_"))
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", self._name], cwd=ROOT, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        self._rest = b""
        self._greeted = False
        self.ways: dict[str, list[str]] = {}

    def greet(self) -> None:
        """Wait until the worker is ready. Raises RuntimeError if it does not start."""
        if not self._greeted:
            output = self._line()
            if output is None:
                raise RuntimeError(f"the {self._name} worker does not start")
            self._greeted, self.ways = True, json.loads(output)

    def send(self, case: Case) -> None:
        """Give it a case."""
        self.greet()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(case)).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Return what it saw; a worker that is stuck or gone is said to be, and replaced."""
        output = self._line()
        if output is not None:
            found: dict[str, Any] = json.loads(output)
            return found
        code = self._process.poll()
        self.close()
        self._start()
        return {"log": [["the worker", "hangs" if code is None else f"died: {code}"]], "wrong": []}

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _line(self) -> bytes | None:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            with selectors.DefaultSelector() as selector:
                selector.register(self._process.stdout, selectors.EVENT_READ)
                ready = selector.select(PATIENCE_S)
            more = os.read(self._process.stdout.fileno(), 1 << 20) if ready else b""
            if not more:
                return None
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line


class Pair:
    """Both sides, until they are closed."""

    def __init__(self) -> None:
        self._sides = [Side(name) for name in SIDES]
        self.calls = 0
        """How many calls have reached the SDK's `request` for a model."""

    def close(self) -> None:
        """End both processes."""
        for side in self._sides:
            side.close()

    @property
    def ways(self) -> dict[str, list[str]]:
        """The ways that the installed SDKs have."""
        self._sides[0].greet()
        return self._sides[0].ways

    def run(self, case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run a case on both sides at once."""
        for side in self._sides:
            side.send(case)
        bare, instrumented = (side.receive() for side in self._sides)
        self.calls += bare.get("calls", 0)
        return bare, instrumented

    def differences(self, case: Case) -> list[str]:
        """Run a case; what differs, nothing if all is well."""
        bare, instrumented = self.run(case)
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


def _first_difference(bare: Any, instrumented: Any) -> str:
    if not isinstance(bare, list) or not isinstance(instrumented, list):
        return f"    bare         {bare}\n    instrumented {instrumented}"
    at = next(
        (i for i, (a, b) in enumerate(zip(bare, instrumented, strict=False)) if a != b),
        min(len(bare), len(instrumented)),
    )
    lines = [f"    both         {json.dumps(event)[:300]}" for event in bare[max(0, at - 2) : at]]
    for name, side in (("bare        ", bare), ("instrumented", instrumented)):
        lines += [f"    {name} {json.dumps(event)[:1500]}" for event in side[at : at + 2]] or [
            f"    {name} nothing more"
        ]
    return "\n".join(lines)


@dataclass
class Result:
    """What a search has found."""

    cases: int = 0
    calls: int = 0
    seconds: float = 0.0
    ways: Counter[str] = field(default_factory=Counter)
    found: dict[str, tuple[int, str, list[str]]] = field(default_factory=dict)
    """By kind of difference: how many cases, the blob of the smallest, and what differs in it."""

    @property
    def summary(self) -> str:
        """One line for people."""
        differ = sum(count for count, _, _ in self.found.values())
        return (
            f"{self.cases} cases, {self.calls} calls, {len(self.ways)} ways, {differ} differ in "
            f"{len(self.found)} kinds, {self.seconds:.0f} s"
        )


def search(pair: Pair, start: int, number: int) -> Result:
    """Run `number` cases; the same `start` gives the same ones on the same SDKs."""
    result = Result()

    @seed(start)
    @settings(
        max_examples=number, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases(pair.ways))
    def each(case: Case) -> None:
        differences = pair.differences(case)
        result.cases += 1
        result.ways[f"{case.sdk} {case.way} {case.wrap} {case.colour}"] += 1
        if differences:
            note(result, case, differences)

    began, before = time.monotonic(), pair.calls
    each()
    result.calls = pair.calls - before
    result.seconds = time.monotonic() - began
    return result


def note(result: Result, case: Case, differences: list[str]) -> None:
    """Keep the smallest case of each kind of difference."""
    kind = _VARIES.sub("_", differences[0].partition("\n")[0]) + f" {case.sdk} {case.colour}"
    count, smallest, lines = result.found.get(kind, (0, "", []))
    blob = case.blob()
    if not smallest or len(blob) < len(smallest):
        smallest, lines = blob, [f"{case.sdk} {case.way} {case.wrap} {case.colour} {case.request}", *differences]
    result.found[kind] = (count + 1, smallest, lines)
