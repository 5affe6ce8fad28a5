"""After any sequence of appends, outages, poison, restarts and crashes every sink has every record once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callspan.spool.spool import Spool, ship_once
from callspan.stores import Entry, PoisonError

from .rig import SqliteSink, key_of, record, rows

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


class Weather:
    """What befalls the sinks; shared by all of them, as one database server is."""

    def __init__(self) -> None:
        self.outages = 0
        self.lost_answers = 0


class MoodySink(SqliteSink):
    """Fails before or after its commit as the weather has it, and knows poison."""

    batch_entries = 5

    def __init__(self, path: Path, weather: Weather) -> None:
        super().__init__(path)
        self._weather = weather

    def deliver(self, entries: Sequence[Entry]) -> None:
        if self._weather.outages:
            self._weather.outages -= 1
            raise ConnectionError("down")
        if any(key_of(entry.payload).startswith("poison") for entry in entries):
            raise PoisonError("poison")
        super().deliver(entries)
        if self._weather.lost_answers:
            self._weather.lost_answers -= 1
            raise ConnectionError("committed, but the answer was lost")


class Story:
    """Tells one story and remembers what must have arrived."""

    def __init__(self, root: Path) -> None:
        self.place = root / "spool"
        self.databases = [root / "a.db", root / "b.db"]
        self.weather = Weather()
        self.good: list[str] = []
        self.poison: list[str] = []
        self.spool = self._new()

    def _new(self) -> Spool:
        return Spool(self.place, self.sinks, max_bytes=1 << 20)

    def sinks(self) -> list[MoodySink]:
        return [MoodySink(path, self.weather) for path in self.databases]

    def step(self, what: str, amount: int) -> None:
        if what in {"append", "large", "poison"}:
            expected = self.poison if what == "poison" else self.good
            for _ in range(amount):
                key = f"{what}{len(self.good) + len(self.poison)}"
                assert self.spool.append(record(key, 40_000 if what == "large" else 100))
                expected.append(key)
        elif what == "outage":
            self.weather.outages += amount
        elif what == "lost answer":
            self.weather.lost_answers += amount
        elif what == "flush":
            self._until_delivered(self.spool.flush)
        else:
            self.spool.close(0.0)
            if what == "torn tail":
                self._tear(amount)
            self.spool = self._new()

    def _until_delivered(self, flush: Callable[[float], bool]) -> None:
        """Flush again while it gives up, which it may only do if a sink has failed meanwhile."""
        failed = self.spool.counters()["retried"]
        while not flush(30):
            before, failed = failed, self.spool.counters()["retried"]
            assert failed > before

    def _tear(self, size: int) -> None:
        """A process died within a write: a segment ends with half a frame."""
        self.place.mkdir(mode=0o700, exist_ok=True)
        self.place.joinpath(f"{size:020d}-1-torn.segment").write_bytes(b"\xf5CS\xfe\xff" + b"\0" * size)


@given(steps=STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_sequence_of_spool_operations_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    story = Story(tmp_path_factory.mktemp("story"))
    for what, amount in steps:
        story.step(what, amount)
    story.spool.close(60)
    while story.place.exists() and list(story.place.glob("*.segment")):
        ship_once(story.place, story.sinks, 30)
    for database in story.databases:
        found = rows(database) if database.exists() else []
        assert sorted(found) == sorted(story.good)
        dead = rows(database, "dead") if database.exists() else []
        assert set(dead) == set(story.poison)
