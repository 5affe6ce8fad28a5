"""Processes that share a spool: a kill, a fork or the cap loses nothing, whichever process uses the space."""

from __future__ import annotations

import logging
import os
import random
import signal
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from tests.support.left_behind import losses_in
from tests.support.rig import (
    DownSink,
    FileSink,
    HangingSink,
    Spool,
    SqliteSink,
    deliver_left,
    free,
    in_child,
    listing,
    record,
    rows,
    spool_of,
    target,
    until_left,
)
from tests.support.scale import scaled
from tests.support.waiting import HANG_S, until

ROUNDS = scaled(2, 12)
MAX_BYTES = 100_000
FULL = 95
"""Number of 1 KB records that leave no room for a segment."""
PACE = 20
"""Number of records after which a writer waits for the healthy store, far fewer than the cap holds."""


def bytes_in(directory: Path) -> int:
    """The size of its segments, without those deleted meanwhile."""
    found = 0
    for path in directory.glob("*.segment"):
        with suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


def append(spool: Spool, healthy: FileSink, keys: Sequence[str]) -> bool:
    """Append a KB for each key, not faster than the healthy store takes them; return whether all were kept."""
    kept = list[bool]()
    for at, key in enumerate(keys, 1):
        kept.append(spool.append(record(key, 1000)))
        if at % PACE == 0 or key == keys[-1]:
            until(partial(healthy.has, key))
    return all(kept)


@pytest.fixture
def _tidy_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.spool.spool._TIDY_S", 0.0)
    monkeypatch.setattr("callspan.spool.shipper._IDLE_S", 0.05)
    monkeypatch.setattr("callspan.spool.shipper._LINGER_S", 0.05)
    monkeypatch.setattr("callspan.spool.shipper._SEARCH_S", 0.2)


@pytest.mark.usefixtures("_tidy_often")
@pytest.mark.parametrize(
    ("holder", "dead"),
    [("idle", DownSink), ("idle", HangingSink), ("killed", DownSink), ("ended", HangingSink)],
)
def test_healthy_store_receives_everything(holder: str, dead: type[FileSink], tmp_path: Path) -> None:
    """Whoever holds what fills the spool: an idle process, one that was killed, or one that has ended."""
    healthy, others = FileSink(tmp_path / "healthy", 100), list[FileSink]()

    def started() -> Spool:
        others.append(dead(tmp_path / "dead"))
        return spool_of(tmp_path / "spool", max_bytes=MAX_BYTES, healthy=healthy, dead=others[-1])

    counts = {"a": FULL, "b": 50, "c": 150, "d": 150}
    made = {name: [f"{name}{at}" for at in range(count)] for name, count in counts.items()}

    def fill() -> bool:
        spool = started()
        if not append(spool, healthy, made["a"]):
            return False
        if holder == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return spool.close(0) is False

    spools = [started() for _ in range(3)]
    if holder == "idle":
        assert append(spools[0], healthy, made["a"])
    else:
        in_child(fill, signal.SIGKILL if holder == "killed" else 0)
    for number, name in ((1, "b"), (2, "c"), (1, "d")):
        assert append(spools[number], healthy, made[name])
    (directory,) = listing(tmp_path / "spool", target("healthy"))
    until(lambda: bytes_in(directory) <= MAX_BYTES)
    keys = {key for some in made.values() for key in some}
    assert set(healthy.keys()) == keys  # a kill may repeat a delivery
    assert not losses_in(directory).dropped
    for spool in spools:
        spool.close(0)
    sink = FileSink(tmp_path / "dead")

    def accounts_for_all() -> bool:
        """Deliver leftover records; then the dead store has each record or it was given up."""
        assert deliver_left(tmp_path / "spool", "dead", sink).error is None
        return len(sink.keys()) + losses_in(directory).given_up["x://dead"].count == len(keys)

    until(accounts_for_all)
    assert len(sink.keys()) == len(set(sink.keys())) > 30
    assert not losses_in(directory).dropped
    free(*others)


@pytest.mark.usefixtures("_tidy_often")
def test_backlog_does_not_slow_another_store(tmp_path: Path) -> None:
    behind, down = FileSink(tmp_path / "behind"), DownSink(tmp_path / "down")
    locked = HangingSink(tmp_path / "behind")
    first = spool_of(tmp_path / "spool", max_bytes=MAX_BYTES, behind=locked, down=FileSink(tmp_path / "down"))
    second = spool_of(tmp_path / "spool", max_bytes=MAX_BYTES, behind=behind, down=down)
    assert first.append(record("a", 1000))
    until(lambda: down.has("a"))
    keys = [f"b{number}" for number in range(2 * FULL)]
    assert append(second, behind, keys)
    until(lambda: bytes_in(first.directory) <= MAX_BYTES)
    locked.freed.set()
    down.up.set()
    assert first.flush(HANG_S)
    assert second.flush(HANG_S)
    assert set(losses_in(first.directory).given_up) == {"x://down"}
    assert sorted(behind.keys()) == sorted(["a", *keys])
    first.close(HANG_S)
    second.close(HANG_S)


class FlakySink(SqliteSink):
    """Fails in one of twenty deliveries."""

    def deliver(self, payloads: Sequence[bytes]) -> None:
        if random.random() < 0.05:
            raise sqlite3.OperationalError("flaky")
        super().deliver(payloads)


def start_writer(root: Path, seed: int) -> int:
    """Append in a process group until it is killed; return its id."""
    writer = os.fork()
    if not writer:
        os.setsid()
        logging.disable(logging.CRITICAL)
        try:
            append_for_ever(root, seed)
        finally:
            os._exit(1)
    return writer


def append_for_ever(root: Path, seed: int) -> None:
    """Append and fork; each process notes in a file what was acknowledged."""
    chance = random.Random(seed)
    spool = spool_of(root / "spool", a=FlakySink(root / "a.db"), b=FlakySink(root / "b.db"))
    for number in range(1_000_000):
        key = f"{os.getpid()}-{number}"
        if spool.append(record(key, chance.randrange(20, 2000))):
            with (root / f"acknowledged-{os.getpid()}").open("ab", buffering=0) as noted:
                noted.write(f"{key}\n".encode())
        if number % 50 == 0:
            time.sleep(0.005)
        if number in {300, 900}:
            os.fork()


def bytes_noted(root: Path) -> int:
    """How much the writers have acknowledged: ten bytes a record, thousands of them after all forks."""
    return sum(path.stat().st_size for path in root.glob("acknowledged-*"))


def test_killed_writers_lose_nothing(tmp_path: Path) -> None:
    """They fork, and two stores fail: every acknowledged record is in both stores, once."""
    chance = random.Random(1)
    for round_number in range(ROUNDS):
        enough = bytes_noted(tmp_path) + chance.randrange(100_000, 200_000)
        writers = [start_writer(tmp_path, 10 * round_number + each) for each in range(2)]
        until(lambda enough=enough: bytes_noted(tmp_path) > enough)  # type: ignore[misc]
        for writer in writers:
            os.killpg(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
    acknowledged = {line for path in tmp_path.glob("acknowledged-*") for line in path.read_text().splitlines() if line}
    until_left(tmp_path / "spool")
    for name in ("a", "b"):
        done = deliver_left(tmp_path / "spool", name, SqliteSink(tmp_path / f"{name}.db"))
        assert (done.error, done.damaged, done.rejected) == (None, 0, 0)
        found = rows(tmp_path / f"{name}.db")
        assert len(found) == len(set(found))
        assert acknowledged <= set(found)
    # A new, empty segment is kept for a minute: a process may be about to write to it.
    assert [path for path in (tmp_path / "spool").glob("*/*.segment") if path.stat().st_size] == []
