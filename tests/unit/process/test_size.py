"""Size limits keep valid JSON and whole characters, cut the longest first, and state the original size."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan import Settings
from callspan.process.processors import caller_processors, within
from callspan.record.bounded import fitted, json_attribute
from callspan.record.codec import encode_json
from callspan.records import CallRecord, EventRecord, MessageRecord, Request, Response, Timing

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=30,
)


@given(value=_JSON, max_bytes=st.integers(min_value=2, max_value=400))
def test_any_value_becomes_valid_json_within_the_cap(value: Any, max_bytes: int) -> None:
    text = json_attribute(value, max_bytes)
    assert len(text.encode()) <= max_bytes
    json.loads(text)


def test_longest_string_is_cut_first_and_short_ones_stay() -> None:
    value = {"role": "user", "note": "short", "content": "x" * 5000, "more": ["y" * 100]}
    kept = json.loads(json_attribute(value, 1000))
    assert kept["role"] == "user"
    assert kept["note"] == "short"
    assert kept["more"] == ["y" * 100]
    assert kept["content"].endswith("…[cut: 5000 bytes]")
    assert len(kept["content"]) > 700, "as much as fits is kept"


def test_fitted_returns_how_much_was_removed() -> None:
    assert fitted({"a": 1}, 100) == (b'{"a":1}', 0)
    data, cut = fitted(["x" * 1000], 100)
    assert cut == pytest.approx(1004 - len(data), abs=2)


def test_record_within_its_cap_is_the_same_object(call: CallRecord) -> None:
    assert within(call, 10_000) is call


def test_the_larger_body_is_removed_first_and_listed(call: CallRecord) -> None:
    size = len(bytes(call.request.body))
    kept = within(call, 200)
    assert isinstance(kept, CallRecord)
    assert json.loads(bytes(kept.request.body)) == {"callspan_truncated": {"bytes": size}}
    assert kept.response == call.response
    assert [(note.what, note.why, note.original_bytes) for note in kept.redactions] == [("request.body", "size", size)]


def test_both_bodies_are_removed_if_needed(call: CallRecord) -> None:
    kept = within(call, 10)
    assert isinstance(kept, CallRecord)
    assert len(kept.redactions) == 2
    assert isinstance(kept.response, Response)
    assert b"callspan_truncated" in bytes(kept.response.body)


def test_event_data_and_message_content_are_cut(call: CallRecord) -> None:
    event = within(EventRecord(event_id="e", event_type="x", time_ns=1, data={"state": "x" * 900}), 200)
    assert isinstance(event, EventRecord)
    assert "cut: 900 bytes" in json.dumps(event.data)
    message = within(MessageRecord(message_id="m", message_type="x", time_ns=1, content="x" * 900), 200)
    assert isinstance(message, MessageRecord)
    assert [note.what for note in message.redactions] == ["content"]


def test_cap_of_the_settings_is_applied(call: CallRecord) -> None:
    kept = caller_processors(msgspec.structs.replace(Settings(), max_record_bytes=200)).process(call).record
    assert [note.why for note in kept.redactions] == ["size"]


def test_text_whose_escapes_do_not_fit_is_cut() -> None:
    """A control character is one character and six bytes of JSON."""
    record = EventRecord(event_id="e", event_type="action", time_ns=1, data="\x00" * 300)
    kept = within(record, 400)
    assert kept is not record
    assert len(encode_json(kept.data)) <= 400
    assert [(note.what, note.why, note.original_bytes) for note in kept.redactions] == [("data", "size", 1802)]


def test_a_long_message_is_cut_and_listed() -> None:
    record = MessageRecord(message_id="m", message_type="observation", time_ns=1, content="x" * 500)
    kept = within(record, 400)
    assert [(note.what, note.why, note.original_bytes) for note in kept.redactions] == [("content", "size", 502)]


@pytest.mark.parametrize(("room", "same"), [(0, True), (-1, False)])
def test_bodies_that_just_fit_are_kept(room: int, same: bool) -> None:
    body = msgspec.Raw(b'"' + b"x" * 98 + b'"')
    record = CallRecord(
        call_id="c", timing=Timing(start_ns=1), request=Request(body=body), response=Response(body=body)
    )
    assert (within(record, 200 + room) is record) is same


def test_the_longer_body_of_a_call_is_removed_first_and_listed() -> None:
    short, long = msgspec.Raw(b'"' + b"x" * 98 + b'"'), msgspec.Raw(b'"' + b"x" * 398 + b'"')
    for request, response, what in ((short, long, "response.body"), (long, short, "request.body")):
        record = CallRecord(
            call_id="c", timing=Timing(start_ns=1), request=Request(body=request), response=Response(body=response)
        )
        kept = within(record, 200)
        assert [(note.what, note.original_bytes) for note in kept.redactions] == [(what, 400)]
        assert isinstance(kept, CallRecord)
        assert kept.response is not None
        marker = b'{"callspan_truncated":{"bytes":400}}'
        assert bytes(kept.response.body if what == "response.body" else kept.request.body) == marker


@pytest.mark.parametrize(("length", "same"), [(398, True), (399, False)])
def test_data_that_just_fit_are_kept(length: int, same: bool) -> None:
    record = EventRecord(event_id="e", event_type="action", time_ns=1, data="x" * length)
    assert (within(record, 400) is record) is same
