"""No store delays another, nor the threads of the application."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from callspan.process.processors import delivery_processors
from callspan.records import CallRecord, Record, Request, Timing, Usage, encode
from callspan.spool.processed_sink import ProcessedSink
from callspan.spool.spool import Spool
from callspan.stores import Entry

PROCESS = delivery_processors(None).run


def payload(number: int) -> bytes:
    return encode(
        CallRecord(
            call_id=f"call-{number}",
            provider="openai",
            request=Request(model="gpt-4o-mini"),
            usage=Usage(input_tokens=10, output_tokens=5),
            timing=Timing(start_ns=number),
        )
    )


def entries(count: int) -> list[Entry]:
    return [Entry("s", number, number + 1, payload(number)) for number in range(count)]


class Taking:
    """A sink that takes what it is given, or stands still in its first delivery."""

    batch_entries = 10

    def __init__(self, name: str, go_on: threading.Event | None = None) -> None:
        self.name = name
        self.go_on = go_on
        self.records: list[Record] = []

    def open(self) -> None: ...

    def deliver(self, entries: Sequence[Entry]) -> None:
        taken = [entry.decode(entry) for entry in entries]
        if self.go_on is not None:
            assert self.go_on.wait(30)
        self.records += taken

    def set_aside(self, entry: Entry, reason: str) -> None: ...

    def close(self) -> None: ...


def test_a_store_blocked_in_a_delivery_delays_no_other(tmp_path: Path) -> None:
    go_on = threading.Event()
    stuck, well = Taking("stuck", go_on), Taking("well")
    spool = Spool(tmp_path, [ProcessedSink(stuck, PROCESS), ProcessedSink(well, PROCESS)])
    try:
        for number in range(1000):
            spool.append(payload(number))
        deadline = time.monotonic() + 30
        while len(well.records) < 1000 and time.monotonic() < deadline:
            assert not spool.flush(0.2)
        assert len(well.records) == 1000
        assert stuck.records == []
    finally:
        go_on.set()
    assert spool.flush(30)
    assert len(stuck.records) == 1000
    spool.close(10)


class Slow(Taking):
    """A sink that takes half a millisecond for each record."""

    def deliver(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            time.sleep(0.0005)
            self.records.append(entry.decode(entry))


@pytest.mark.parametrize(
    ("pauses", "count", "least", "most"), [(True, 9, 8, 9), (True, 10, 0, 0), (False, 9, 0, 0)],
    ids=["keeping pace", "behind", "no application"],
)  # fmt: skip
def test_other_threads_may_run_between_records_unless_the_store_is_behind(
    pauses: bool, count: int, least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    real = time.sleep

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        real(seconds)

    sink = ProcessedSink(Slow("slow"), PROCESS, pauses=pauses)
    monkeypatch.setattr("callspan.spool.processed_sink.time.sleep", sleep)
    sink.deliver(entries(count))
    assert least <= len([seconds for seconds in slept if seconds < 0.0005]) <= most
