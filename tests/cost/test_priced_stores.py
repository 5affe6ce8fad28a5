"""Calls are priced on their way into a store, never on the caller's thread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from callspan.fail_open import failures, forget_failures
from callspan.record.call import CallRecord, Cost
from callspan.record.codec import decode, encode
from callspan.record.events import EventRecord
from callspan.spool.sink import Entry
from callspan.stores.urls import open_store
from callspan.wiring.priced_stores import PricedSink, priced_sinks

from .conftest import MakeCall


class Kept:
    """A sink that keeps what it is given."""

    name = "kept"
    batch_entries = 10

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def open(self) -> None: ...

    def position(self, segment: str) -> int | None:
        return 7

    def deliver(self, entries: Sequence[Entry]) -> None:
        self.payloads += [entry.payload for entry in entries]

    def set_aside(self, entry: Entry, reason: str) -> None:
        self.payloads.append(reason.encode())

    def forget(self, segment: str) -> None: ...

    def close(self) -> None: ...


def through(payload: bytes, prices: Path | None = None) -> bytes:
    kept = Kept()
    PricedSink(kept, prices).deliver([Entry("s", 0, len(payload), payload)])
    return kept.payloads[0]


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"version": "v1", "models": {"m": {"input": "0.003"}}}))
    return path


def test_a_call_gets_its_cost(call: MakeCall, prices: Path) -> None:
    record = decode(through(encode(call("m", input_tokens=1)), prices))
    assert isinstance(record, CallRecord)
    assert record.cost == Cost(usd=Decimal("0.000000003"), source="v1")


def test_fields_of_a_newer_version_stay(call: MakeCall, prices: Path) -> None:
    payload = encode(call("m", input_tokens=1))[:-1] + b',"from_the_future":{"a":1}}'
    after = json.loads(through(payload, prices))
    assert after["from_the_future"] == {"a": 1}
    assert Decimal(after["cost"]["usd"]) == Decimal("0.000000003")
    assert {key: value for key, value in after.items() if key != "cost"} == json.loads(payload)


def test_other_records_and_no_records_pass_as_they_are(call: MakeCall) -> None:
    event = encode(EventRecord(event_id="e", event_type="action", time_ns=1))
    for payload in (event, b"{}", b'{"kind":"call"', b"\xff", encode(call("nobody-knows", input_tokens=1))):
        assert through(payload) is payload


def test_a_cost_that_is_there_stays(call: MakeCall, prices: Path) -> None:
    payload = encode(call("m", input_tokens=1, cost=Cost(usd=Decimal(5), source="mine")))
    assert through(payload, prices) is payload


def test_a_price_file_that_is_wrong_costs_no_record(call: MakeCall, tmp_path: Path) -> None:
    forget_failures()
    payload = encode(call("nobody-knows", input_tokens=1))
    assert through(payload, tmp_path / "missing.json") == payload
    assert failures()["read the price file"] == 1
    forget_failures()


def test_everything_else_is_the_sinks_own(call: MakeCall) -> None:
    kept = Kept()
    sink = PricedSink(kept)
    sink.open()
    sink.set_aside(Entry("s", 0, 1, b"x"), "bad")
    sink.forget("s")
    sink.close()
    assert (sink.name, sink.batch_entries, sink.position("s"), kept.payloads) == ("kept", 10, 7, [b"bad"])


def test_a_store_adds_sub_cent_costs_exactly(call: MakeCall, prices: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    (sink,) = priced_sinks(url, prices)
    sink.open()
    payloads = [encode(call("m", input_tokens=tokens, call_id=f"c{tokens}")) for tokens in (1, 290_000, 3)]
    sink.deliver([Entry("s", at, at + 1, payload) for at, payload in enumerate(payloads)])
    sink.close()
    (summary,) = open_store(url).summary("model")
    assert summary.cost_usd == Decimal("0.000000003") * 290_004
    assert summary.calls_without_cost == 0
