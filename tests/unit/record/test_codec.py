"""The codec: every record is encoded and decoded without loss."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.record.call import NO_BODY
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
    OtherFormatError,
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
    new_id,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
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


_ID: Final = '"\\ \n{"schema_version":1} \ud800'


@pytest.mark.parametrize(
    "record",
    [
        CallRecord(call_id=_ID, timing=Timing(start_ns=1)),
        SessionRecord(session_id=_ID, seen_ns=1),
        TimestepRecord(timestep_id=_ID, session_id=_ID, seen_ns=2, index=0),
        EventRecord(event_id=_ID, session_id=_ID, event_type="action", time_ns=1),
        MessageRecord(message_id=_ID, session_id=_ID, message_type="observation", time_ns=1),
        RewardRecord(reward_id=_ID, session_id=_ID, value=0.5, time_ns=1),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_states_its_format_at_its_beginning(record: Record) -> None:
    """With all the texts that may come before it, also those that JSON cannot represent; nothing else states one."""
    line = encode(record)
    assert format_in(line) == FORMAT
    assert format_in(line.replace(b'"schema_version":%d' % FORMAT, b'"schema_version":12', 1)) == 12
    assert format_in(line[1:]) is None
    assert format_in(b'{"input":%b}' % line) is None


def test_a_body_is_kept_to_the_byte_and_no_body_is_left_out() -> None:
    body = b'{"b":1.50,"a":"\xc3\xa9"}'
    record = CallRecord(call_id="c", timing=Timing(start_ns=1), request=Request(body=msgspec.Raw(body)))
    line = encode(record)
    assert body in line
    decoded = decode(line)
    assert isinstance(decoded, CallRecord)
    assert bytes(decoded.request.body) == body
    assert b'"body"' not in encode(CallRecord(call_id="c", timing=Timing(start_ns=1)))
    assert not bytes(NO_BODY)


def test_unknown_stays_unknown_and_zero_stays_zero() -> None:
    line = json.loads(encode(CallRecord(call_id="c", timing=Timing(start_ns=1), usage=Usage(input_tokens=0))))
    assert line["usage"] == {"input_tokens": 0}
    assert "cost" not in line


def test_amounts_are_exact_decimal_text() -> None:
    line = encode(RECORDS[0])
    assert json.loads(line)["cost"]["usd"] == "1E-7"
    decoded = decode(line)
    assert isinstance(decoded, CallRecord)
    assert decoded.cost is not None
    assert decoded.cost.usd == Decimal("0.0000001")


def test_another_schema_is_refused_by_name() -> None:
    with pytest.raises(OtherFormatError, match="format 99"):
        decode(b'{"kind":"call","schema_version":99,"call_id":"c","timing":{"start_ns":1}}')


def test_fields_of_a_later_version_are_ignored() -> None:
    line = b'{"kind":"event","schema_version":%d,"event_id":"e","event_type":"x","time_ns":1,"later":{"a":1}}' % FORMAT
    assert record_key(decode(line)) == ("event", "e")


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"kind":"nothing"}', b'{"kind":"call"}', b"\xff"])
def test_an_invalid_record_is_an_error(garbage: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode(garbage)


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


def test_cyclic_and_deep_values_are_cut_off() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    for value in (cycle, deep):
        line = encode(EventRecord(event_id="e", event_type="x", time_ns=1, data=value))
        assert record_key(decode(line)) == ("event", "e")


@given(JSON)
def test_any_json_is_encoded_into_something_readable(value: object) -> None:
    line = encode(EventRecord(event_id="e", event_type="x", time_ns=1, data=value))
    json.loads(line)
    assert record_key(decode(line)) == ("event", "e")


def test_ids_are_unique_ordered_uuids_of_version_7() -> None:
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert {i[14] for i in ids} == {"7"}
    assert {i[19] for i in ids} <= set("89ab")
    stamps = [i[:13] for i in ids]
    assert stamps == sorted(stamps)
