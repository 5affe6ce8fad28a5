"""Size limits keep valid JSON and whole characters, cut the longest first, and state the original size."""

from __future__ import annotations

import msgspec
import pytest

from callspan import Settings
from callspan.process.processors import caller_processors, within
from callspan.records import CallRecord, EventRecord, Request, Response, Timing


def test_both_bodies_are_removed_if_needed(call: CallRecord) -> None:
    kept = within(call, 10)
    assert isinstance(kept, CallRecord)
    assert len(kept.redactions) == 2
    assert isinstance(kept.response, Response)
    assert b"callspan_truncated" in bytes(kept.response.body)


def test_cap_of_the_settings_is_applied(call: CallRecord) -> None:
    kept = caller_processors(msgspec.structs.replace(Settings(), max_record_bytes=200)).process(call).record
    assert [note.why for note in kept.redactions] == ["size"]


@pytest.mark.parametrize(("room", "same"), [(0, True), (-1, False)])
def test_bodies_that_just_fit_are_kept(room: int, same: bool) -> None:
    body = msgspec.Raw(b'"' + b"x" * 98 + b'"')
    record = CallRecord(
        call_id="c", timing=Timing(start_ns=1), request=Request(body=body), response=Response(body=body)
    )
    assert (within(record, 200 + room) is record) is same


@pytest.mark.parametrize(("length", "same"), [(398, True), (399, False)])
def test_data_that_just_fit_are_kept(length: int, same: bool) -> None:
    record = EventRecord(event_id="e", event_type="action", time_ns=1, data="x" * length)
    assert (within(record, 400) is record) is same
