"""Calls are priced on their way into a store, never on the caller's thread."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from callspan.delivery.store_sink import StoreSink
from callspan.fail_open import failures, forget_failures
from callspan.records import CallRecord, EventRecord, Record, decode, encode
from callspan.stores import Rejected, Sink, Store
from callspan.stores.urls import find_store, open_store

from .conftest import MakeCall


class Kept(Store):
    """A store that keeps what it is given, but for calls with the id `refused`."""

    example = "kept://"
    batch_records = 10

    def __init__(self) -> None:
        super().__init__("kept://")
        self.stored: list[Record] = []
        self.is_open = False

    def sink(self) -> Sink:
        return self

    def open(self) -> None:
        self.is_open = True

    def deliver(self, records: Sequence[Record]) -> None:
        for record in records:
            if isinstance(record, CallRecord) and record.call_id == "refused":
                raise Rejected("no", record)
        self.stored += records

    def close(self) -> None:
        self.is_open = False


def through(payload: bytes, prices: Path | None = None, priced: Callable[[Record], object] | None = None) -> Record:
    kept = Kept()
    StoreSink(kept, prices, priced=priced).deliver([payload])
    return kept.stored[0]


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"version": "v1", "models": {"m": {"input": "0.003"}}}))
    return path


def test_other_records_pass_as_they_are(call: MakeCall) -> None:
    told: list[Record] = []
    event = encode(EventRecord(event_id="e", event_type="action", time_ns=1))
    for payload in (event, encode(call("nobody-knows", input_tokens=1))):
        assert through(payload, None, told.append) == decode(payload)
    assert told == []


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"kind":"call"', b"\xff"])
def test_what_is_no_record_is_rejected(payload: bytes, call: MakeCall) -> None:
    kept = Kept()
    with pytest.raises(Rejected, match="not a record") as rejected:
        StoreSink(kept).deliver([encode(call("m")), payload])
    assert (rejected.value.record, kept.stored) == (payload, [])


def test_a_record_that_the_store_rejects_is_named_as_it_was_delivered(call: MakeCall, prices: Path) -> None:
    told: list[Record] = []
    payloads = [encode(call("m", input_tokens=1, call_id=name)) for name in ("taken", "refused")]
    with pytest.raises(Rejected, match="no") as rejected:
        StoreSink(Kept(), prices, priced=told.append).deliver(payloads)
    assert rejected.value.record is payloads[1]
    assert told == [], "nothing was stored"


def test_a_price_file_that_is_wrong_costs_no_record(call: MakeCall, tmp_path: Path) -> None:
    forget_failures()
    payload = encode(call("nobody-knows", input_tokens=1))
    assert through(payload, tmp_path / "missing.json") == decode(payload)
    assert failures()["read the price file"] == 1
    forget_failures()


def test_the_sink_of_the_store_is_opened_and_closed(prices: Path) -> None:
    kept = Kept()
    sink = StoreSink(kept, prices)
    sink.open()
    assert (kept.is_open, sink.batch_records) == (True, 10)
    sink.close()
    assert not kept.is_open


def test_a_store_adds_sub_cent_costs_exactly(call: MakeCall, prices: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    sink = StoreSink(find_store(url), prices)
    sink.open()
    sink.deliver([encode(call("m", input_tokens=tokens, call_id=f"c{tokens}")) for tokens in (1, 290_000, 3)])
    sink.close()
    (summary,) = open_store(url).summary("model")
    assert summary.cost_usd == Decimal("0.000000003") * 290_004
    assert summary.calls_without_cost == 0
