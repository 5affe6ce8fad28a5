"""Back-off: a failing store is retried as rarely under load as without appends."""

from __future__ import annotations

import queue
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from callspan.spool.segment_set import SegmentSet
from callspan.spool.shipper import Shipper
from callspan.spool.spool import Spool

from .rig import DownSink, FileSink, record, until

_LEAST = 0.5
"""Of the longest wait, what chance leaves of it."""


class Simulated:
    """A clock, and the signals of a shipper: waiting for one that is not there takes simulated time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pending = 0

    def clock(self) -> float:
        return self.now

    def put(self, signal: None) -> None:
        del signal
        self.pending += 1

    def get(self, timeout: float) -> None:
        if self.pending:
            self.pending -= 1
            return
        self.now += timeout
        raise queue.Empty


class Busy(FileSink):
    """Is down until a time, and appended to during every attempt; stops its shipper at the end."""

    def __init__(self, path: Path, time: Simulated, up_at: float, appends: int) -> None:
        super().__init__(path)
        self.attempts: list[float] = []
        self.shipper: Shipper
        self._time, self._up_at, self._appends = time, up_at, appends

    def open(self) -> None:
        self.attempts.append(self._time.now)
        for _ in range(self._appends):
            self.shipper.wake()
        if self._time.now < self._up_at:
            raise ConnectionRefusedError("down")
        self.shipper.stop()


def attempts(tmp_path: Path, up_at: float, appends: int) -> list[float]:
    simulated = Simulated()
    sink = Busy(tmp_path / "f", simulated, up_at, appends)
    sink.shipper = Shipper(0, sink, segments := SegmentSet(tmp_path / "spool"), simulated.clock)
    segments.expect(1)
    sink.shipper._signals = simulated  # type: ignore[assignment]
    sink.shipper._run()
    return sink.attempts


@pytest.mark.parametrize("appends", [0, 1, 100])
@pytest.mark.parametrize("outage_s", [1.5, 60.0, 3600.0])
def test_attempts_and_recovery_do_not_depend_on_the_load(tmp_path: Path, appends: int, outage_s: float) -> None:
    tried = attempts(tmp_path, outage_s, appends)
    waits = [later - earlier for earlier, later in pairwise(tried)]
    longest = [min(30.0, 0.05 * 2**number) for number in range(len(waits))]
    assert all(_LEAST * most <= wait <= most for wait, most in zip(waits, longest, strict=True)), waits
    # It is up again within one wait, which is no longer than the outage was.
    assert tried[-1] - outage_s <= min(30.0, outage_s + 0.05)


class Refusing(DownSink):
    """Takes some milliseconds to be refused, as a connection does."""

    def open(self) -> None:
        time.sleep(0.005)
        super().open()


@pytest.mark.parametrize("per_second", [50, 500])
def test_a_shippers_retries_do_not_depend_on_the_load(tmp_path: Path, per_second: int) -> None:
    sink, ended = Refusing(tmp_path / "d"), threading.Event()
    spool = Spool(tmp_path / "spool", [sink])

    def append() -> None:
        while not ended.wait(1 / per_second):
            spool.append(record("k"))

    appending = threading.Thread(target=append)
    appending.start()
    try:
        time.sleep(3)
        tried = sink.opened
        began = time.monotonic()
        sink.up.set()
        until(lambda: bool(sink.keys()))
        recovered = time.monotonic() - began
    finally:
        ended.set()
        appending.join()
    spool.close(10)
    assert tried <= 9, "0.05 s, doubling: 6 to 8 attempts in 3 s"
    assert recovered <= 4
