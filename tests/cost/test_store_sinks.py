"""Calls are priced on their way into a store, never on the caller's thread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from callspan.delivery.recorder import store_sinks
from callspan.fail_open import failures, forget_failures
from callspan.process.processors import delivery_processors
from callspan.records import CallRecord, Cost, EventRecord, Record, decode, encode
from callspan.spool.processed_sink import ProcessedSink
from callspan.stores import Entry, PoisonError
from callspan.stores.urls import open_store

from .conftest import MakeCall


class Kept:
    """A sink that keeps what it is given."""

    name = "kept"
    batch_entries = 10

    def __init__(self) -> None:
        self.stored: list[Record] = []
        self.asides: list[str] = []

    def open(self) -> None: ...

    def deliver(self, entries: Sequence[Entry]) -> None:
        self.stored += [entry.decode(entry) for entry in entries]

    def set_aside(self, entry: Entry, reason: str) -> None:
        self.asides.append(reason)

    def close(self) -> None: ...


def through(payload: bytes, prices: Path | None = None) -> Record:
    kept = Kept()
    ProcessedSink(kept, delivery_processors(prices).run).deliver([Entry("s", 0, len(payload), payload)])
    return kept.stored[0]


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"version": "v1", "models": {"m": {"input": "0.003"}}}))
    return path


def test_a_call_gets_its_cost_in_record_and_row(call: MakeCall, prices: Path) -> None:
    stored = through(encode(call("m", input_tokens=1)), prices)
    assert isinstance(stored, CallRecord)
    assert stored.cost == Cost(usd=Decimal("0.000000003"), source="v1")


def test_other_records_pass_as_they_are(call: MakeCall) -> None:
    event = encode(EventRecord(event_id="e", event_type="action", time_ns=1))
    for payload in (event, encode(call("nobody-knows", input_tokens=1))):
        assert through(payload) == decode(payload)


@pytest.mark.parametrize("payload", [b"{}", b'{"kind":"call"', b"\xff"])
def test_an_invalid_record_is_refused_by_the_store(payload: bytes) -> None:
    with pytest.raises(PoisonError):
        through(payload)


def test_an_existing_cost_is_kept(call: MakeCall, prices: Path) -> None:
    payload = encode(call("m", input_tokens=1, cost=Cost(usd=Decimal(5), source="mine")))
    assert through(payload, prices) == decode(payload)


def test_a_price_file_that_is_wrong_costs_no_record(call: MakeCall, tmp_path: Path) -> None:
    forget_failures()
    payload = encode(call("nobody-knows", input_tokens=1))
    assert through(payload, tmp_path / "missing.json") == decode(payload)
    assert failures()["read the price file"] == 1
    forget_failures()


def test_a_record_is_decoded_once(call: MakeCall, prices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def counting(payload: bytes) -> Record:
        decoded.append(payload)
        return decode(payload)

    monkeypatch.setattr("callspan.spool.sink.decode", counting)
    monkeypatch.setattr("callspan.record.codec.decode", counting)
    through(encode(call("m", input_tokens=1)), prices)
    assert len(decoded) == 1


def test_everything_else_is_delegated_to_the_sink(call: MakeCall) -> None:
    kept = Kept()
    sink = ProcessedSink(kept, delivery_processors(None).run)
    sink.open()
    sink.set_aside(Entry("s", 0, 1, b"x"), "bad")
    sink.close()
    assert (sink.name, sink.batch_entries, kept.asides) == ("kept", 10, ["bad"])


def test_a_store_adds_sub_cent_costs_exactly(call: MakeCall, prices: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    (sink,) = store_sinks(url, prices)
    sink.open()
    payloads = [encode(call("m", input_tokens=tokens, call_id=f"c{tokens}")) for tokens in (1, 290_000, 3)]
    sink.deliver([Entry("s", at, at + 1, payload) for at, payload in enumerate(payloads)])
    sink.close()
    (summary,) = open_store(url).summary("model")
    assert summary.cost_usd == Decimal("0.000000003") * 290_004
    assert summary.calls_without_cost == 0
