"""Processes that share a spool: a kill, a fork or the cap loses nothing, whichever process uses the space."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
from tests.support.left_behind import losses_in
from tests.support.rig import (
    DownSink,
    FileSink,
    HangingSink,
    SqliteSink,
    deliver_left,
    listing,
    record,
    rows,
    spool_of,
    target,
    until,
    until_left,
)
from tests.support.scale import scaled

ROOT = Path(__file__).parents[2]
ROUNDS = scaled(2, 12)
MAX_BYTES = 100_000
FULL = 95
"""Number of 1 KB records that leave no room for a segment."""


class Neighbour:
    """A process with the same stores as the others."""

    def __init__(self, root: Path, dead: str) -> None:
        program = [sys.executable, "-m", "tests.spool.processes", "neighbour", str(root), dead, str(MAX_BYTES)]
        self.process = subprocess.Popen(program, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(self, command: str) -> str:
        print(command, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Neighbour]]:
    with ExitStack() as running:

        def started(dead: str) -> Neighbour:
            neighbour = Neighbour(tmp_path, dead)
            running.callback(neighbour.kill)
            return neighbour

        yield started


def bytes_in(directory: Path) -> int:
    """The size of its segments, without those deleted meanwhile."""
    found = 0
    for path in directory.glob("*.segment"):
        with suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


@pytest.mark.parametrize(
    ("holder", "dead"), [("idle", "refuses"), ("idle", "hangs"), ("killed", "refuses"), ("gone", "hangs")]
)
def test_a_healthy_store_gets_all(holder: str, dead: str, tmp_path: Path, start: Callable[[str], Neighbour]) -> None:
    first, second, third = (start(dead) for _ in range(3))
    assert first.tell(f"append a {FULL}") == str(FULL)
    if holder == "killed":
        first.kill()
    elif holder == "gone":
        assert first.tell("close") == "closed"
    assert second.tell("append b 50") == "50"
    assert third.tell("append c 150") == "150"
    assert second.tell("append d 150") == "150"
    made = [f"a{number}" for number in range(FULL)]
    made += [f"{name}{number}" for name, count in (("b", 50), ("c", 150), ("d", 150)) for number in range(count)]
    (directory,) = listing(tmp_path / "spool", target("healthy"))
    until(lambda: bytes_in(directory) <= MAX_BYTES)
    assert set(FileSink(tmp_path / "healthy").keys()) == set(made)  # a kill may repeat a delivery
    assert not losses_in(directory).dropped
    if holder == "idle":
        assert first.tell("close") == "closed"
    assert [one.tell("close") for one in (second, third)] == ["closed"] * 2
    sink = FileSink(tmp_path / "dead")

    def accounts_for_all() -> bool:
        """Deliver leftover records; then the dead store has each record or it was given up."""
        assert deliver_left(tmp_path / "spool", "dead", sink).error is None
        return len(sink.keys()) + losses_in(directory).given_up["x://dead"].count == len(made)

    until(accounts_for_all)
    assert len(sink.keys()) == len(set(sink.keys()))
    assert not losses_in(directory).dropped
    assert len(sink.keys()) > 30


def test_a_backlog_costs_another_store_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.spool.spool._TIDY_S", 0.0)
    monkeypatch.setattr("callspan.spool.shipper._IDLE_S", 0.05)
    behind, down = FileSink(tmp_path / "behind"), DownSink(tmp_path / "down")
    locked = HangingSink(tmp_path / "behind")
    first = spool_of(tmp_path / "spool", max_bytes=MAX_BYTES, behind=locked, down=FileSink(tmp_path / "down"))
    second = spool_of(tmp_path / "spool", max_bytes=MAX_BYTES, behind=behind, down=down)
    assert first.append(record("a", 1000))
    until(lambda: down.has("a"))
    keys = [f"b{number}" for number in range(2 * FULL)]
    for key in keys:
        assert second.append(record(key, 1000))
        if key.endswith("9"):
            until(partial(behind.has, key))
    until(lambda: bytes_in(first.directory) <= MAX_BYTES)
    locked.freed.set()
    down.up.set()
    assert first.flush(20)
    assert second.flush(20)
    losses = losses_in(first.directory)
    assert set(losses.given_up) == {"x://down"}
    assert sorted(behind.keys()) == sorted(["a", *keys])
    first.close(5)
    second.close(5)


def test_killed_writers_lose_nothing(tmp_path: Path) -> None:
    """They fork, and two stores fail: every acknowledged record is in both stores, once."""
    chance = random.Random(1)
    for round_number in range(ROUNDS):
        writers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.spool.processes", "victim", str(tmp_path), str(10 * round_number + each)],
                cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL,
            )
            for each in range(2)
        ]  # fmt: skip
        time.sleep(chance.uniform(1.5, 3))
        for writer in writers:
            os.killpg(writer.pid, signal.SIGKILL)
            writer.wait()
    acknowledged = {line for path in tmp_path.glob("acknowledged-*") for line in path.read_text().splitlines() if line}
    until_left(tmp_path / "spool")
    for name in ("a", "b"):
        done = deliver_left(tmp_path / "spool", name, SqliteSink(tmp_path / f"{name}.db"), timeout_s=60)
        assert (done.error, done.damaged, done.rejected) == (None, 0, 0)
        found = rows(tmp_path / f"{name}.db")
        assert len(found) == len(set(found))
        assert acknowledged <= set(found)
        print(name, len(acknowledged), len(found), len(set(found) - acknowledged))
    # A new, empty segment is kept for a minute: a process may be about to write to it.
    left = (tmp_path / "spool").glob("*/*.segment")
    assert [path for path in left if path.stat().st_size] == []
