"""Records as rows: the value of each column, without loss."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.record import call
from callspan.record.events import record_key
from callspan.records import (
    CallRecord,
    Cost,
    EventRecord,
    Place,
    Record,
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
from callspan.stores.columns import TABLES
from callspan.stores.payloads import row_of as present
from callspan.stores.rows import Row, to_tree

from .conftest import START_NS, Records


def through(record: Record) -> Record:
    """The record after it was a row."""
    row = row_of(decode(encode(record)))
    assert all(cell is None or isinstance(cell, str | int | float) for cell in row.values())
    return msgspec.convert(to_tree(TABLES[record_key(record)[0]], row), type(record), strict=False)


def row_of(record: Record) -> Row:
    return dict.fromkeys(TABLES[record_key(record)[0]].names) | present(record)


def without_bodies(record: Record) -> Record:
    if not isinstance(record, CallRecord):
        return record
    request = msgspec.structs.replace(record.request, body=call.NO_BODY)
    response = None if record.response is None else msgspec.structs.replace(record.response, body=call.NO_BODY)
    return msgspec.structs.replace(record, request=request, response=response)


@pytest.mark.parametrize(
    "record",
    [
        *map(without_bodies, Records().every_kind()),
        SessionRecord(session_id="s", seen_ns=1),
        SessionRecord(session_id="s", seen_ns=1, success=False, metadata={"a": {"b": None}}, end_ns=0),
        TimestepRecord(timestep_id="t", session_id="s", seen_ns=2, index=0, truncated=False),
        EventRecord(event_id="e", event_type="x", time_ns=0, data=0, reward=-0.0),
        EventRecord(event_id="e", event_type="x", time_ns=0, data="", reward=1e300),
        EventRecord(event_id="e", event_type="x", time_ns=2**70, data=[None]),
        RewardRecord(reward_id="r", time_ns=1, value=0.1, scope="call", label=""),
    ],
)
def test_a_record_of_any_kind_survives_being_a_row(record: Record) -> None:
    assert through(record) == record


COUNTS = st.none() | st.integers(0, 2**70)
TEXT = st.none() | st.text(st.characters(codec="utf-8"), max_size=20)


JSON = st.none() | st.dictionaries(st.text(max_size=3), st.none() | st.integers(-5, 5), max_size=2)


@given(
    usage=st.none()
    | st.builds(Usage, input_tokens=COUNTS, output_tokens=COUNTS, cache_write_5m_tokens=COUNTS, raw=JSON),
    place=st.builds(Place, session_id=TEXT, timestep=st.none() | st.integers(-(2**64), 2**64)),
    metadata=st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2),
    response=st.none() | st.builds(Response, id=TEXT, model=TEXT, finish_reasons=st.lists(TEXT, max_size=3)),
    stream=st.none() | st.builds(Stream, end=st.sampled_from(["complete", "closed"]), chunks=st.integers(0, 9)),
    cost=st.none() | st.builds(Cost, usd=st.decimals(0, 10**12, allow_nan=False), source=st.text(max_size=4)),
    sampled=st.none() | st.booleans(),
    retries=st.none() | st.integers(0, 5),
)
def test_any_call_survives_being_a_row(**fields: object) -> None:
    record = CallRecord(call_id="c", timing=Timing(start_ns=START_NS), **fields)  # type: ignore[arg-type]
    assert through(record) == record
