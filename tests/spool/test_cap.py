"""The cap: an unavailable store does not affect others, and its losses are counted and reported."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from callspan.cli.commands import callspan
from callspan.spool import shipper as shippers
from callspan.spool.directory import count_records, size_of, store_key
from callspan.spool.losses import Loss, Losses, add_losses, read_losses
from callspan.spool.segment import Segment
from callspan.spool.spool import Spool
from callspan.stores import Entry
from tests.scale import scaled

from .rig import DownSink, FileSink, HangingSink, SqliteSink, record, rows, until

CAP = 400_000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def on_disk(place: Path) -> int:
    return size_of(place)


def append(spool: Spool, names: Sequence[str], *, every: int = 20, slim: str = "slim") -> Iterator[int]:
    """Append records of 1 KB that could be slimmed, waiting now and then so that a healthy sink keeps up."""
    for number, name in enumerate(names, 1):
        assert spool.append(record(name, 1000), without_bodies=partial(record, slim or name))
        if number % every == 0:
            healthy = spool._shippers[-1] if spool._shippers else None
            until(lambda healthy=healthy: healthy is None or spool._segments.lag(healthy.number) == 0)  # type: ignore[misc]
            yield on_disk(spool.directory)


def test_a_working_store_gets_complete_records_while_another_is_down(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Four times the cap; the one that was down gets what is left, the rest is counted to the last record."""
    down, healthy = DownSink(tmp_path / "d"), SqliteSink(tmp_path / "h.db")
    spool = Spool(place, [down, healthy], max_bytes=CAP)
    names = [f"k{number}" for number in range(1500)]
    sizes = list(append(spool, names))
    assert rows(tmp_path / "h.db") == names
    counts = spool.counters()
    assert (counts["slimmed"], counts["dropped.memory"], spool.drops()["memory"]) == (0, 0, 0)
    assert max(sizes) <= CAP + CAP // 8
    until(lambda: not spool._segments.dropped)
    until(lambda: spool.counters()["given_up.down"] > 900)
    down.up.set()
    assert spool.flush(20)
    lost = spool.counters()["given_up.down"]
    assert down.keys() == names[lost:], "the newest are kept"
    loss = read_losses(place).given_up[store_key(place, down)]
    assert (loss.name, loss.records) == ("down", lost)
    assert any("for down given up" in message for message in caplog.messages)
    spool.close(5)


def test_a_store_that_hangs_is_handled_the_same(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shippers, "_STUCK_S", 0.05)
    slow, healthy = HangingSink(tmp_path / "s"), SqliteSink(tmp_path / "h.db")
    spool = Spool(place, [slow, healthy], max_bytes=CAP)
    names = [f"k{number}" for number in range(900)]
    sizes = list(append(spool, names))
    assert rows(tmp_path / "h.db") == names
    assert spool.counters()["slimmed"] == 0
    assert max(sizes) <= CAP + CAP // 8
    slow.freed.set()
    assert spool.flush(20)
    found = slow.keys()
    assert found == [name for name in names if name in set(found)], "each once, in order"
    until(lambda: not spool._segments.dropped)
    assert len(found) + spool.counters()["given_up.hanging"] >= len(names)
    spool.close(5)


def test_records_of_idle_processes_for_a_dead_store_do_not_affect_other_stores(place: Path, tmp_path: Path) -> None:
    first, second = ([DownSink(tmp_path / "d"), SqliteSink(tmp_path / "h.db")] for _ in range(2))
    hoarder, busy = Spool(place, first, max_bytes=CAP), Spool(place, second, max_bytes=CAP)
    early, late = [f"a{number}" for number in range(330)], [f"b{number}" for number in range(600)]
    list(append(hoarder, early, every=10))
    list(append(busy, late, every=10))
    assert sorted(rows(tmp_path / "h.db")) == sorted(early + late)
    assert busy.counters()["slimmed"] == 0
    until(lambda: on_disk(place) <= CAP, 20)
    for spool in (hoarder, busy):
        spool.close(0.2)


class Busy(FileSink):
    """Takes everything, 7 records in 25 ms."""

    def deliver(self, entries: Sequence[Entry]) -> None:
        time.sleep(0.025)
        super().deliver(entries)


def test_a_store_that_lags_loses_nothing_for_an_outage_of_another(place: Path, tmp_path: Path) -> None:
    """Also not while the records of another process, for the store that is down, fill the directory."""
    full = Spool(place, [DownSink(tmp_path / "d"), SqliteSink(tmp_path / "f.db")], max_bytes=CAP)
    list(append(full, [f"a{number}" for number in range(330)], every=10))
    busy = Busy(tmp_path / "b", "busy")
    spool = Spool(place, [DownSink(tmp_path / "d"), busy, SqliteSink(tmp_path / "h.db")], max_bytes=CAP)
    names = [f"k{number}" for number in range(600)]
    most = 0
    for _ in append(spool, names):
        most = max(most, spool._segments.lag(1))
    assert most > CAP // 20, "it does lag"
    until(lambda: spool._segments.lag(1) == 0)
    assert (busy.keys(), rows(tmp_path / "h.db")) == (names, names)
    assert read_losses(place).given_up.keys() <= {store_key(place, DownSink(tmp_path / "d"))}
    assert spool.counters()["slimmed"] == 0
    full.close(0.1)
    spool.close(0.1)


def test_a_store_that_lags_behind_the_cap_loses_bodies_first(place: Path, tmp_path: Path) -> None:
    busy = Busy(tmp_path / "b", "busy")
    spool = Spool(place, [busy, SqliteSink(tmp_path / "h.db")], max_bytes=CAP // 4)
    for number in range(120):
        assert spool.append(record(f"k{number}", 1000), without_bodies=partial(record, f"s{number}"))
    until(lambda: spool._segments.lag(0) == 0)
    assert spool.counters()["slimmed"] > 10
    assert [key[1:] for key in busy.keys()] == [str(number) for number in range(120)]  # noqa: SIM118 - no mapping
    assert not read_losses(place).given_up
    assert spool.close(5)
    assert read_losses(place).without_bodies["cap"].records == spool.counters()["slimmed"]


def test_segments_of_stores_without_a_shipper_do_not_starve_a_working_store(place: Path, tmp_path: Path) -> None:
    left = Segment.create(place, ["0123456789ab"])
    left.append(record("x", CAP * 2))
    left.release()
    spool = Spool(place, [SqliteSink(tmp_path / "h.db")], max_bytes=CAP)
    names = [f"k{number}" for number in range(300)]
    list(append(spool, names))
    assert rows(tmp_path / "h.db") == names
    assert spool.counters()["slimmed"] == 0
    assert left.path.exists(), "it is the only copy"
    spool.close(5)


class Glitch(SqliteSink):
    """Fails while `down` is set."""

    down = threading.Event()

    def deliver(self, entries: Sequence[Entry]) -> None:
        if self.down.is_set():
            raise OSError("a moment, please")
        super().deliver(entries)


def test_a_short_failure_of_the_working_store_loses_nothing(place: Path, tmp_path: Path) -> None:
    """While it fails, what only the dead one needs goes first, and nothing that it lacks itself."""
    sinks = [DownSink(tmp_path / "d"), Glitch(tmp_path / "h.db")]
    spool = Spool(place, sinks, max_bytes=CAP)
    before, during = [f"a{number}" for number in range(340)], [f"b{number}" for number in range(200)]
    list(append(spool, before))
    Glitch.down.set()
    for name in during:
        assert spool.append(record(name, 1000), without_bodies=lambda: record("slim"))
    time.sleep(0.1)
    assert spool._segments.lag(1) < 1200 * len(during), "what it has is no backlog"
    Glitch.down.clear()
    until(lambda: spool._segments.lag(1) == 0)
    assert rows(tmp_path / "h.db") == before + during
    assert spool.counters()["slimmed"] == 0
    spool.close(0.2)


class Locked(SqliteSink):
    """Waits for a lock that another application holds before it opens its file; fails once it has `most` rows."""

    def __init__(self, path: Path, *, freed: bool = False, most: int = 1 << 30) -> None:
        super().__init__(path)
        self.path, self._most = path, most
        self.freed = threading.Event()
        if freed:
            self.freed.set()

    def open(self) -> None:
        if not self._most:
            raise ConnectionRefusedError("nobody listens")
        self.freed.wait(60)
        super().open()

    def deliver(self, entries: Sequence[Entry]) -> None:
        if len(rows(self.path)) >= self._most:
            raise OSError("no more")
        super().deliver(entries)


def test_a_lock_while_segments_of_an_ended_process_are_adopted_loses_nothing(place: Path, tmp_path: Path) -> None:
    """What the store has of them does not count as what it lacks."""
    first = Locked(tmp_path / "l.db", freed=True)
    ended = Spool(place, [DownSink(tmp_path / "d"), first, SqliteSink(tmp_path / "h.db")])
    before = [f"a{number}" for number in range(330)]
    list(append(ended, before, every=10))
    ended.close(1)
    locked = Locked(tmp_path / "l.db")
    spool = Spool(place, [DownSink(tmp_path / "d"), locked, SqliteSink(tmp_path / "h.db")], max_bytes=CAP)
    during = [f"b{number}" for number in range(200)]
    list(append(spool, during))
    locked.freed.set()
    until(lambda: spool._segments.lag(1) == 0)
    assert rows(tmp_path / "l.db") == rows(tmp_path / "h.db") == before + during
    assert spool.counters()["slimmed"] == 0
    assert read_losses(place).given_up.keys() <= {store_key(place, DownSink(tmp_path / "d"))}
    spool.close(0.2)


def left_in_the_middle(place: Path, tmp_path: Path) -> list[str]:
    """Leave segments of an ended process, of which a store has the first 100 records or so, and another one all."""
    names = [f"a{number}" for number in range(330)]
    first = Locked(tmp_path / "l.db", freed=True, most=100)
    ended = Spool(place, [first, SqliteSink(tmp_path / "h.db")], max_bytes=CAP)
    list(append(ended, names, every=10))
    assert not ended.close(0.5)
    assert 100 <= len(rows(first.path)) < 200
    return names


@pytest.mark.parametrize("most", [1 << 30, 0])
def test_what_a_store_lacks_of_adopted_segments_is_counted_exactly(place: Path, tmp_path: Path, most: int) -> None:
    """It is locked, or unreachable, while they are given up: what it has of them is known all the same."""
    before, locked = left_in_the_middle(place, tmp_path), Locked(tmp_path / "l.db", most=most)
    spool = Spool(place, [locked, SqliteSink(tmp_path / "h.db")], max_bytes=CAP)
    during = [f"b{number}" for number in range(400)]
    list(append(spool, during, every=10, slim=""))
    until(lambda: set(rows(tmp_path / "h.db")) == {*before, *during})
    until(lambda: not spool._segments.dropped)
    (given_up,) = read_losses(place).given_up.values()
    waiting = sum(count_records(place / name, offset) for name, offset in spool._segments.behind(0))
    assert given_up.records == len(before) + len(during) - len(rows(locked.path)) - waiting
    locked.freed.set()
    spool.close(5 if most else 0.1)


def test_drops_are_noted_on_disk_and_warned_of_as_they_happen(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(place, [DownSink(tmp_path / "d")], max_bytes=20_000)
    refused = [spool.append(record(f"k{number}", 1000)) for number in range(60)].count(False)
    assert refused > 30
    assert read_losses(place).dropped["cap"].records == refused, "at once"
    spool.close(0.1)
    assert any(f"{refused} records for every store dropped (cap) at {place}" in text for text in caplog.messages)


def test_losses_survive_the_process_and_are_reported_by_doctor_and_by_reading_commands(tmp_path: Path) -> None:
    store, place = f"sqlite:///{tmp_path}/calls.db", tmp_path / "calls.db.spool"
    for _ in range(2):
        lost = Loss("postgresql://me@host/db", 600, calls=500, sessions=1, first_ns=10**18, last_ns=2 * 10**18)
        add_losses(place, Losses(given_up={"0123456789ab": lost}, dropped={"cap": Loss("cap", 7)}))
    done = CliRunner().invoke(callspan, ["--store", store, "doctor", "--json"])
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"] if check["name"].startswith("lost")}
    assert set(checks) == {"lost: postgresql://me@host/db", "lost: cap"}
    assert checks["lost: postgresql://me@host/db"]["detail"] == (
        "1,000 calls, 2 sessions and 198 other records did not get there, "
        "from 2001-09-09T01:46:40.000000Z to 2033-05-18T03:33:20.000000Z"
    )
    assert "14 records were dropped" in checks["lost: cap"]["detail"]
    done = CliRunner().invoke(callspan, ["--store", store, "calls"])
    assert "14 records dropped (cap)" in done.stderr
    assert "1,200" not in done.stderr, "this store has them"


def test_a_damaged_file_of_losses_is_replaced(place: Path) -> None:
    add_losses(place, Losses(dropped={"cap": Loss("cap", 1)}))
    (place / "losses.json").write_text("{")
    assert read_losses(place).dropped == {}
    add_losses(place, Losses(dropped={"cap": Loss("cap", 2)}))
    assert read_losses(place).dropped["cap"].records == 2


def test_a_file_sink_gets_no_segment_twice_after_one_was_given_up(place: Path, tmp_path: Path) -> None:
    """Cursor files of what is gone go, too."""
    file, healthy = FileSink(tmp_path / "f"), SqliteSink(tmp_path / "h.db")
    spool = Spool(place, [file, healthy], max_bytes=CAP)
    names = [f"k{number}" for number in range(800)]
    list(append(spool, names))
    assert spool.flush(20)
    assert file.keys() == names
    assert spool.close(5)
    assert [path.name for path in place.iterdir() if ".segment" in path.name] == []


@pytest.mark.timeout(1200)
def test_a_long_outage_of_one_store_does_not_affect_the_other(place: Path, tmp_path: Path) -> None:
    """An hour of attempts at the longest wait, a day of them in nightly runs; each wait passes at once."""
    down, healthy = DownSink(tmp_path / "d"), SqliteSink(tmp_path / "h.db")
    spool = Spool(place, [down, healthy], max_bytes=CAP)
    hours = scaled(1, 24)
    names = [f"k{number}" for number in range(hours * 2400)]
    sizes = []
    for size in append(spool, names):
        sizes.append(size)
        opened = down.opened
        spool._shippers[0].hurry()
        until(lambda opened=opened: down.opened > opened)  # type: ignore[misc]
    assert down.opened >= hours * 3600 / 30
    assert rows(tmp_path / "h.db") == names
    assert spool.counters()["slimmed"] == 0
    assert max(sizes) <= CAP + CAP // 8
    until(lambda: not spool._segments.dropped)
    down.up.set()
    assert spool.flush(30)
    until(lambda: not spool._segments.dropped)
    lost = spool.counters()["given_up.down"]
    assert down.keys() == names[lost:]
    assert read_losses(place).given_up[store_key(place, down)].records == lost
    spool.close(5)
