"""Each record is decoded once for all stores, and no store delays another."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from callspan.delivery.recorder import store_sinks
from callspan.process.processors import delivery_processors
from callspan.record.call import CallRecord, Request, Timing
from callspan.record.codec import decode, encode
from callspan.record.events import Record
from callspan.record.usage import Usage
from callspan.spool.processed_sink import ProcessedSink, SharedDecoder
from callspan.spool.sink import Entry, PoisonError
from callspan.spool.spool import Spool
from callspan.stores.urls import open_store
from tests.points import points

PROCESS = delivery_processors(None).run


def payload(number: int, text: str = "") -> bytes:
    return encode(
        CallRecord(
            call_id=f"call-{number}",
            provider="openai",
            request=Request(model="gpt-4o-mini"),
            usage=Usage(input_tokens=10, output_tokens=5),
            timing=Timing(start_ns=number),
            metadata={"text": text},
        )
    )


def entries(count: int, segment: str = "s", text: str = "") -> list[Entry]:
    return [Entry(segment, number, number + 1, payload(number, text)) for number in range(count)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The payloads that were decoded."""
    found: list[bytes] = []

    def counting(data: bytes) -> Record:
        found.append(data)
        return decode(data)

    monkeypatch.setattr("callspan.spool.sink.decode", counting)
    return found


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


def test_a_record_is_decoded_and_priced_once_for_several_stores(tmp_path: Path, decoded: list[bytes]) -> None:
    urls = [f"sqlite:///{tmp_path}/a.db", f"jsonl:///{tmp_path}/b.jsonl", f"sqlite:///{tmp_path}/c.db"]
    spool = Spool(tmp_path / "spool", store_sinks(urls))
    written = [payload(number) for number in range(120)]
    for one in written:
        spool.append(one)
    assert spool.flush(30)
    assert sorted(decoded) == sorted(written)
    spool.close(10)
    stored = [[(call.call_id, call.cost) for call in open_store(url).calls()] for url in urls]
    assert len(stored[0]) == 120
    assert stored[0][0][1] is not None
    assert stored[0] == stored[1] == stored[2]


def test_both_stores_get_the_same_decoded_record_which_is_then_released(decoded: list[bytes]) -> None:
    decoder = SharedDecoder(PROCESS, 2)
    (one,) = entries(1)
    first, second = decoder.take(0, one), decoder.take(1, one)
    assert first is second
    assert decoder.kept_bytes == 0
    decoder.take(1, one)
    assert len(decoded) == 2, "what is delivered again is decoded again"
    assert decoder.kept_bytes == 0, "and is not kept for a store that has it"


@points(("text", "most"), [("", 1000), ("x" * 1000, 3500)])
def test_the_cache_for_a_blocked_store_is_bounded(text: str, most: int) -> None:
    decoder = SharedDecoder(PROCESS, 2, max_entries=3, max_bytes=3500)
    for entry in entries(50, text=text):
        decoder.take(0, entry)
    assert 0 < decoder.kept_bytes <= most
    late = [decoder.take(1, entry).record for entry in entries(50, text=text)]
    assert [record.call_id for record in late if isinstance(record, CallRecord)] == [f"call-{i}" for i in range(50)]
    assert decoder.kept_bytes == 0


def test_a_store_reading_another_segment_does_not_evict_the_others_entries(decoded: list[bytes]) -> None:
    decoder = SharedDecoder(PROCESS, 3, max_entries=100)
    for old, new in zip(entries(50, "old"), entries(50, "new"), strict=True):
        decoder.take(2, old)
        assert decoder.take(0, new) is decoder.take(1, new)
    assert len(decoded) == 100


def test_a_store_blocked_in_a_delivery_delays_no_other(tmp_path: Path) -> None:
    go_on = threading.Event()
    stuck, well = Taking("stuck", go_on), Taking("well")
    decoder = SharedDecoder(PROCESS, 2)
    spool = Spool(tmp_path, [ProcessedSink(stuck, decoder, 0), ProcessedSink(well, decoder, 1)])
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


def test_an_invalid_record_is_refused_for_every_store() -> None:
    decoder = SharedDecoder(PROCESS, 2)
    for sink in (0, 1):
        with pytest.raises(PoisonError):
            decoder.take(sink, Entry("s", 0, 1, b"{}"))
    assert decoder.kept_bytes == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_decodes_though_a_thread_of_its_parent_was_decoding() -> None:
    decoder = SharedDecoder(PROCESS, 2)
    kept, other = entries(2)
    decoder.take(0, kept)
    with decoder._lock:
        child = os.fork()
        if not child:
            done = threading.Thread(target=decoder.take, args=(1, other), daemon=True)
            done.start()
            done.join(10)
            os._exit(3 if done.is_alive() else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


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

    sink = ProcessedSink(Slow("slow"), SharedDecoder(PROCESS), pauses=pauses)
    monkeypatch.setattr("callspan.spool.processed_sink.time.sleep", sleep)
    sink.deliver(entries(count))
    assert least <= len([seconds for seconds in slept if seconds < 0.0005]) <= most
