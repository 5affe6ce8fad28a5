"""The content setting: kept and removed fields, in every kind of record."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from callspan import Settings
from callspan.process.processors import caller_processors
from callspan.record.codec import encode_json
from callspan.records import (
    CallRecord,
    EventRecord,
    MessageRecord,
    Record,
    Redaction,
    Response,
    RewardRecord,
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


_OTHERS: list[Record] = [
    EventRecord(event_id="e", event_type="action", time_ns=1, data={"move": "SESAME"}, reward=1.0),
    MessageRecord(message_id="m", message_type="observation", time_ns=1, content="SESAME"),
    RewardRecord(reward_id="r", time_ns=1, value=0.5, annotation="SESAME"),
]


@pytest.mark.parametrize("what", ["data", "content", "annotation"])
def test_what_was_taken_out_of_other_records_is_named_with_its_size_and_hash(what: str) -> None:
    record = next(record for record in _OTHERS if hasattr(record, what))
    encoded = encode_json(getattr(record, what))
    for content, digest in (("metadata", hashlib.sha256(encoded).hexdigest()), ("off", None)):
        kept = applied(record, content)
        assert kept.redactions == [Redaction(what=what, why="content", original_bytes=len(encoded), sha256=digest)]
        assert getattr(kept, what) is None


@pytest.mark.parametrize("body", [b"", b'{"a":1}'])
def test_what_an_answer_states_besides_its_content_stays(call: CallRecord, body: bytes) -> None:
    answer = Response(id="r", finish_reasons=["stop"], body=msgspec.Raw(body))
    kept = applied(msgspec.structs.replace(call, response=answer), "off")
    assert isinstance(kept, CallRecord)
    assert kept.response is not None
    assert (kept.response.id, kept.response.finish_reasons, bytes(kept.response.body)) == ("r", ["stop"], b"")
