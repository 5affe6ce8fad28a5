"""After any sequence of appends, outages, poison, restarts and crashes, every sink has every record once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.rig import SqliteSink, deliver_left, key_of, record, rows, spool_of, until

from callspan.stores import Rejected

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 12)),
        st.tuples(st.just("large"), st.integers(1, 2)),
        st.tuples(st.just("poison"), st.integers(1, 3)),
        st.tuples(st.just("outage"), st.integers(1, 3)),
        st.tuples(st.just("lost answer"), st.integers(1, 2)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("torn tail"), st.integers(1, 40)),
    ),
    max_size=14,
)


class Faults:
    """Pending faults, shared by all sinks like one database server."""

    def __init__(self) -> None:
        self.outages = 0
        self.lost_answers = 0


class FaultySink(SqliteSink):
    """Fails before or after its commit while there are pending faults, and rejects poison."""

    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path, batch_records=5)
        self._faults = faults

    def deliver(self, payloads: Sequence[bytes]) -> None:
        if self._faults.outages:
            self._faults.outages -= 1
            raise ConnectionError("down")
        if any(key_of(payload).startswith("poison") for payload in payloads):
            raise Rejected("poison")
        super().deliver(payloads)
        if self._faults.lost_answers:
            self._faults.lost_answers -= 1
            raise ConnectionError("committed, but the answer was lost")


class Scenario:
    """Executes steps and remembers the records that must arrive."""

    def __init__(self, root: Path) -> None:
        self.root = root / "spool"
        self.databases = {name: root / f"{name}.db" for name in "ab"}
        self.faults = Faults()
        self.good: list[str] = []
        self.poison: list[str] = []
        self.spool = self._new()

    def _new(self) -> Any:
        return spool_of(self.root, max_bytes=1 << 20, **{name: self.sink(name) for name in self.databases})

    def sink(self, name: str) -> FaultySink:
        return FaultySink(self.databases[name], self.faults)

    def step(self, what: str, amount: int) -> None:
        if what in {"append", "large", "poison"}:
            expected = self.poison if what == "poison" else self.good
            for _ in range(amount):
                key = f"{what}{len(self.good) + len(self.poison)}"
                assert self.spool.append(record(key, 40_000 if what == "large" else 100))
                expected.append(key)
        elif what == "outage":
            self.faults.outages += amount
        elif what == "lost answer":
            self.faults.lost_answers += amount
        elif what == "flush":
            self._until_delivered(self.spool.flush)
        else:
            self.spool.close(0.0)
            if what == "torn tail":
                self._tear(amount)
            self.spool = self._new()

    def _until_delivered(self, flush: Callable[[float], bool]) -> None:
        """Repeat a flush that gives up, which is allowed only if a sink has failed meanwhile."""
        failed = self.spool.counters()["retried"]
        while not flush(30):
            before, failed = failed, self.spool.counters()["retried"]
            assert failed > before

    def _tear(self, size: int) -> None:
        """Simulate a process that died within a write: its segment ends with an incomplete line."""
        for path in self.spool.directory.glob("*.segment"):
            with path.open("ab") as file:
                file.write(b"0123456 torn"[:size])


def delivers_all(scenario: Scenario, name: str) -> bool:
    """Deliver leftover records to a sink; return whether it accepted all."""
    return deliver_left(scenario.root, name, scenario.sink(name), timeout_s=30).error is None


@given(steps=STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_sequence_loses_nothing(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    scenario = Scenario(tmp_path_factory.mktemp("scenario"))
    for what, amount in steps:
        scenario.step(what, amount)
    scenario.spool.close(60)
    for name, database in scenario.databases.items():
        until(partial(delivers_all, scenario, name), 120)
        assert sorted(rows(database)) == sorted(scenario.good)
    # After a crash between a rejection and the cursor's move, a record is rejected again.
    rejected = {one for path in scenario.root.glob("*/rejected.jsonl") for one in path.read_text().splitlines()}
    assert len(rejected) == len(scenario.poison) * len(scenario.databases)
