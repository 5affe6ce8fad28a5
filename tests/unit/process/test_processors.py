"""The processors together: their order, the same object if nothing changes, and failing closed."""

from __future__ import annotations

import json

import msgspec
import pytest

from callspan import Settings
from callspan.fail_open import failures, forget_failures
from callspan.process.processors import caller_processors
from callspan.records import (
    CallRecord,
    EventRecord,
    MessageRecord,
    Record,
    Request,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Timing,
    encode,
)

_IDLE: list[Record] = [
    SessionRecord(session_id="s", seen_ns=1),
    TimestepRecord(timestep_id="t", session_id="s", seen_ns=1, index=0),
    EventRecord(event_id="e", event_type="action", time_ns=1, data=[3]),
    MessageRecord(message_id="m", message_type="observation", time_ns=1, content={"x": 1}),
    RewardRecord(reward_id="r", time_ns=1, value=1.0, annotation="good"),
]


@pytest.mark.parametrize("record", _IDLE, ids=lambda record: type(record).__name__)
def test_default_processors_keep_a_record_of_every_kind(record: Record) -> None:
    assert caller_processors(Settings()).process(record).record == record


def test_default_processors_return_the_same_call(call: CallRecord) -> None:
    assert caller_processors(Settings()).process(call).record is call


def test_call_without_any_body_goes_through_every_setting() -> None:
    record = CallRecord(call_id="c", timing=Timing(start_ns=1))
    for content in ("full", "metadata", "off"):
        kept = caller_processors(msgspec.structs.replace(Settings(), content=content)).process(record).record
        assert kept == msgspec.structs.replace(record, content_level=content)


def test_media_are_not_looked_for_when_bodies_go_anyway(call: CallRecord) -> None:
    image = {"messages": [{"image_url": {"url": "data:image/png;base64,AAAABBBBCCCCDDDD"}}]}
    request = msgspec.structs.replace(call.request, body=msgspec.Raw(json.dumps(image).encode()))
    processors = caller_processors(msgspec.structs.replace(Settings(), content="off"))
    kept = processors.process(msgspec.structs.replace(call, request=request)).record
    assert "media" not in {note.why for note in kept.redactions}


def test_a_failing_processor_loses_the_content_and_is_counted(call: CallRecord) -> None:
    """A settings object that cannot be read stands for any bug of ours."""

    class Broken(dict[str, object]):
        def items(self) -> object:
            raise RuntimeError("a bug")

    forget_failures()
    request = Request(params=Broken(api_key="SESAME"), body=call.request.body)
    kept = caller_processors(Settings()).process(msgspec.structs.replace(call, request=request)).record
    counted = failures()
    forget_failures()
    assert counted["mask the secrets of a record"] == 1
    assert b"SESAME" not in encode(kept)
    assert isinstance(kept, CallRecord)
    assert kept.error is not None
    assert kept.error.status == 400
    assert {note.why for note in kept.redactions} == {"processor_failed"}


def test_redactions_of_earlier_steps_are_kept(call: CallRecord) -> None:
    masked = msgspec.structs.replace(call, metadata={"password": "x"})
    kept = (
        caller_processors(msgspec.structs.replace(Settings(), content="off"), lambda record: record)
        .process(masked)
        .record
    )
    assert "secret" in {one.why for one in kept.redactions}
    assert {note.why for note in kept.redactions} == {"secret", "content"}


def test_a_failed_processor_keeps_the_numbers_of_the_response(call: CallRecord) -> None:
    class Broken(dict[str, object]):
        def items(self) -> object:
            raise RuntimeError("a bug")

    request = msgspec.structs.replace(call.request, params=Broken(api_key="SESAME"))
    kept = caller_processors(Settings()).process(msgspec.structs.replace(call, request=request)).record
    forget_failures()
    assert isinstance(kept, CallRecord)
    assert kept.response is not None
    assert (kept.response.id, kept.response.finish_reasons, kept.response.body_bytes) == ("r", ["stop"], 90)
    assert bytes(kept.response.body) == b""
    assert (kept.request.model, kept.request.message_count, kept.request.body_bytes) == ("m", 2, 500)
    assert kept.request.params == {}
