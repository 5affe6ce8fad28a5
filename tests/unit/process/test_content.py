"""The content setting: kept and removed fields, in every kind of record."""

from __future__ import annotations

import msgspec
import pytest

from callspan import Settings
from callspan.process.processors import caller_processors
from callspan.records import (
    CallRecord,
    Record,
    encode,
)


def applied(record: Record, content: str) -> Record:
    return caller_processors(msgspec.structs.replace(Settings(), content=content)).process(record).record


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_no_content_is_left(call: CallRecord, content: str) -> None:
    assert b"SESAME" not in encode(applied(call, content))


def test_everything_taken_out_is_listed(call: CallRecord) -> None:
    kept = applied(call, "off")
    params = {f"request.params.{name}" for name in call.request.params.keys() - kept.request.params.keys()}
    assert {note.what for note in kept.redactions} >= {"request.body", "response.body", "error", *params}
    assert {note.why for note in kept.redactions} == {"content"}
