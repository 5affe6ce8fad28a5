"""Records: encoded and merged without loss, bounded, of media only what their headers say."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import json
import wave
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.provider.media import png

from callspan.record.bounded import fit_json, newest_that_fit
from callspan.record.events import record_key
from callspan.record.formats import format_in
from callspan.record.ids import response_call_id
from callspan.record.media_reference import header_fields
from callspan.record.merging import merged
from callspan.records import (
    FORMAT,
    Attempt,
    CallRecord,
    Cost,
    ErrorInfo,
    EventRecord,
    MessageRecord,
    Place,
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


def sound(seconds: float = 0.5, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(b"\0\0" * int(seconds * rate))
    return file.getvalue()


_SOUND = sound()
_FLAC = b"fLaC\0\0\0\x22" + b"\0" * 10 + (44_100 << 44 | 88_200).to_bytes(8, "big") + b"\0" * 16
_FORMATS: dict[str, tuple[bytes, dict[str, object]]] = {
    "png": (png(), {"mime": "image/png"}),
    "gif": (b"GIF89a\x10\0\x20\0", {"mime": "image/gif"}),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x04", {"mime": "image/jpeg"}),
    "webp": (b"RIFF\0\0\0\0WEBPVP8 ", {"mime": "image/webp"}),
    "wav": (_SOUND, {"mime": "audio/wav", "seconds": 0.5}),
    "wav of unknown length": (_SOUND[:40] + b"\xff\xff\xff\xff" + _SOUND[44:], {"mime": "audio/wav", "seconds": 0.5}),
    "flac": (_FLAC, {"mime": "audio/flac", "seconds": 2.0}),
    "mp3": (b"ID3\x04", {"mime": "audio/mpeg"}),
    "pdf": (b"%PDF-1.7", {"mime": "application/pdf"}),
    "a cut png": (png()[:18], {"mime": "image/png"}),
    "a wav that says nothing": (b"RIFF\0\0\0\0WAVEdata\x01\0\0\0", {"mime": "audio/wav"}),
    "text": (b"Hello.", {}),
    "nothing": (b"", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", _FORMATS)
def test_the_header_of_a_file_gives_type_and_seconds(name: str) -> None:
    data, fields = _FORMATS[name]
    assert header_fields(data, len(data)) == fields


@given(st.sampled_from([data[:16] for data, _ in _FORMATS.values()]), st.binary(max_size=64), st.integers(0, 99))
def test_any_bytes_are_read_without_an_error(magic: bytes, rest: bytes, size: int) -> None:
    fields = header_fields(magic + rest, size)
    assert fields.keys() <= {"mime", "seconds"}


@pytest.mark.parametrize(
    ("value", "limit", "kept"),
    [
        (list(range(1_000)), 60, '{"callspan_truncated":{"bytes":3891}}'),
        (list(range(1_000)), 2, "{}"),
        (list(range(1_000)), 1, "0"),
        ("x" * 50, 20, '"…[cut: 50 bytes]"'),
    ],
)
def test_what_cannot_be_shortened_is_replaced_by_its_size(value: object, limit: int, kept: str) -> None:
    found = fit_json(value, limit)[0].decode()
    if "truncated" in kept:
        assert json.loads(found).keys() == {"callspan_truncated"}
    else:
        assert found == kept


@pytest.mark.parametrize(
    ("sizes", "limit", "start"),
    [
        ([], 10, 0),
        ([1, 1, 1, 1], 10, 1),
        ([1, 5, 3, 1], 10, 1),
        ([1, 4, 9, 1], 10, 2),
        ([0, 0, 0, 0], 0, 1),
    ],
)
def test_the_first_and_the_newest_of_a_history_are_kept(sizes: list[int], limit: int, start: int) -> None:
    assert newest_that_fit(len(sizes), sizes.__getitem__, limit) == start


@pytest.mark.parametrize(
    ("limit", "whole"), [(9_000, {"text", "quote", "id"}), (4_000, {"quote", "id"}), (500, {"id"})]
)
def test_the_longest_texts_are_cut_first_and_note_their_size(limit: int, whole: set[str]) -> None:
    value = {"text": "ä" * 3_000, "quote": "x" * 900, "id": "0123456789abcdef"}
    data, cut = fit_json([value], limit)
    (kept,) = json.loads(data)
    assert len(data) <= limit
    assert {name for name, text in kept.items() if text == value[name]} == whole
    sizes = {name: len(text.encode()) for name, text in value.items()}
    assert all(text.endswith(f"…[cut: {sizes[name]} bytes]") for name, text in kept.items() if name not in whole)
    assert (cut == 0) is (limit == 9_000)


@given(st.lists(st.sampled_from(["prose " * 600, "é" * 300, '"' * 90, "id"]), max_size=6), st.integers(2, 9_000))
def test_values_of_many_texts_stay_within_their_bounds(texts: list[str], limit: int) -> None:
    data, cut = fit_json({"parts": texts}, limit)
    assert len(data) <= limit
    assert (json.loads(data) == {"parts": texts}) is (cut == 0)


S = 1_000_000_000
CALL_ID = response_call_id("openai", "resp_1")
BEGUN = CallRecord(
    call_id=CALL_ID, part="started", provider="openai", api="responses", sdk="openai/3", pid=7, host="h",
    place=Place(session_id="s"), request=Request(model="gpt-5", stream=True), outcome="in_progress",
    response=Response(id="resp_1", status="queued"), timing=Timing(start_ns=10 * S), trace_id="a" * 32,
)  # fmt: skip
CREATED = msgspec.structs.replace(
    BEGUN, part="requested", request=Request(model="gpt-5", stream=True, body=msgspec.Raw(b'{"model":"gpt-5"}')),
    timing=Timing(start_ns=10 * S, duration_ns=S // 10, headers_ns=5), metadata={"user_id": "u"}, retries=1,
    attempts=[Attempt(number=1, start_ns=0, end_ns=S // 10)],
)  # fmt: skip
ENDED = CallRecord(
    call_id=CALL_ID, part="ended", seen_in="webhook", provider="openai", api="responses",
    response=Response(id="resp_1", status="completed"), timing=Timing(start_ns=13 * S, duration_ns=0),
)  # fmt: skip
ANSWER = CallRecord(
    call_id=CALL_ID, part="answered", seen_in="fetch", seen_ns=14 * S, provider="openai", api="responses",
    sdk="openai/3",
    response=Response(id="resp_1", status="completed", body=msgspec.Raw(b'{"output":[]}')),
    usage=Usage(input_tokens=3, output_tokens=4), cost=Cost(usd=Decimal("0.5"), source="t"),
    timing=Timing(start_ns=9 * S, duration_ns=5 * S),
)  # fmt: skip


def test_times_are_those_of_the_calls_own_request_as_far_as_it_saw_them() -> None:
    own = msgspec.structs.replace(ANSWER, seen_in="call", pid=7, timing=Timing(start_ns=8 * S, first_token_ns=S))
    begun = msgspec.structs.replace(own, part="started", response=CREATED.response, timing=Timing(start_ns=8 * S))
    for order in itertools.permutations([begun, own]):
        assert merged(order).timing == own.timing
    assert merged([ENDED, ANSWER]).timing == merged([ANSWER, ENDED]).timing == ANSWER.timing


def test_a_response_that_ends_within_the_providers_second_lasted_as_long_as_its_request_saw() -> None:
    ended = msgspec.structs.replace(ENDED, timing=Timing(start_ns=10 * S, duration_ns=0))
    seen = msgspec.structs.replace(CREATED, timing=Timing(start_ns=10 * S + S // 2, headers_ns=7, last_chunk_ns=9))
    for order in itertools.permutations([seen, ended, ended]):
        assert merged(order).timing.duration_ns == 9
