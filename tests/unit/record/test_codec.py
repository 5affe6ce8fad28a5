"""The codec: every record is encoded and decoded without loss."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import msgspec
import pytest

from callspan.record.events import record_key
from callspan.record.formats import format_in
from callspan.records import (
    FORMAT,
    Attempt,
    CallRecord,
    Cost,
    ErrorInfo,
    EventRecord,
    MessageRecord,
    Record,
    Request,
    Response,
    RewardRecord,
    SessionRecord,
    Stream,
    TimestepRecord,
    Timing,
    Usage,
    decode,
    encode,
)

RECORDS: list[Record] = [
    CallRecord(
        call_id="c",
        timing=Timing(start_ns=1, duration_ns=5),
        request=Request(model="m", stream=True, params={"temperature": 0.5}, body=msgspec.Raw(b'{"a":1}')),
        response=Response(id="r", finish_reasons=["stop", None]),
        usage=Usage(input_tokens=0, raw={"input_tokens": 0}),
        cost=Cost(usd=Decimal("0.0000001"), source="provider"),
        attempts=[Attempt(number=1, start_ns=2, status=429)],
        error=ErrorInfo(kind="rate_limit", type="x", retryable=True),
        stream=Stream(end="closed", chunks=3),
        outcome="cancelled",
    ),
    SessionRecord(session_id="s", seen_ns=1, metadata={"seed": 7}),
    TimestepRecord(timestep_id="t", session_id="s", seen_ns=2, index=0),
    EventRecord(event_id="e", event_type="action", time_ns=1, data=[3]),
    MessageRecord(message_id="m", message_type="observation", time_ns=1, content={"x": 1}),
    RewardRecord(reward_id="w", value=0.5, time_ns=1),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    line = encode(record)
    assert b"\n" not in line
    assert json.loads(line)["schema_version"] == FORMAT
    assert format_in(line) == FORMAT
    assert encode(decode(line)) == line
    assert record_key(decode(line)) == record_key(record)


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class WithDump:
    def model_dump(self) -> dict[str, object]:
        return {"a": 1}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        ("a\ud800b\0", "a�b�"),
        ({1: {2}}, {"1": [2]}),
        (dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), "2026-01-02T00:00:00+00:00"),
        (b"bytes\xff", "Ynl0ZXP/"),
        (b"bytes", "bytes"),
        (10**640, hex(10**640)),
        (Broken(), "<Broken>"),
        (WithDump(), {"a": 1}),
        (Decimal("0.10"), "0.10"),
    ],
)
def test_what_json_cannot_hold_is_replaced(value: object, expected: object) -> None:
    line = encode(EventRecord(event_id="e", event_type="x", time_ns=1, data={"v": value, "bad": "\ud800"}))
    data = json.loads(line)["data"]
    assert data["bad"] == "�"
    assert data["v"] == expected
