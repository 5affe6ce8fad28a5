"""The search: runs cases of one seed through a pair of workers and groups the differing ones."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.case import Case
from tests.fuzz.pair import Pair
from tests.fuzz.strategies import cases

_VARIES = re.compile(r"\d+|'[^']*'")


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
