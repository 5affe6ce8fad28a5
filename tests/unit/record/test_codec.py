"""Records: encoded and decoded without loss, no work for the garbage collector, references to media."""

from __future__ import annotations

import datetime as dt
import inspect
import io
import json
import struct
import wave
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.record import call, events, messages, usage
from callspan.record.events import record_key
from callspan.record.formats import format_in
from callspan.record.media_reference import header_fields
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
from callspan.stores import bodies, payloads
from tests.provider.media import png

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


_TYPES = [
    found
    for module in (call, events, messages, usage, bodies, payloads)
    for _, found in inspect.getmembers(module, inspect.isclass)
    if issubclass(found, msgspec.Struct) and found.__module__ == module.__name__
]


@pytest.mark.parametrize("kind", _TYPES, ids=lambda kind: kind.__name__)
def test_it_is_not_tracked(kind: type[msgspec.Struct]) -> None:
    assert not kind.__struct_config__.gc


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
_JPEG = b"\xff\xd8\xff\xe0\0\x04\0\0\xff\xc0\0\x11\x08" + struct.pack(">HH", 480, 640) + b"\x03"
_WEBP = b"RIFF\0\0\0\0WEBP"
_FORMATS: dict[str, tuple[bytes, dict[str, object]]] = {
    "png": (png(), {"mime": "image/png", "width": 8, "height": 8}),
    "gif": (b"GIF89a\x10\0\x20\0", {"mime": "image/gif", "width": 16, "height": 32}),
    "jpeg": (_JPEG, {"mime": "image/jpeg", "width": 640, "height": 480}),
    "webp lossy": (_WEBP + b"VP8 " + b"\0" * 10 + struct.pack("<HH", 30, 20), {
        "mime": "image/webp", "width": 30, "height": 20}),
    "webp lossless": (_WEBP + b"VP8L\0\0\0\0\x2f" + struct.pack("<I", 29 | 19 << 14), {
        "mime": "image/webp", "width": 30, "height": 20}),
    "webp extended": (_WEBP + b"VP8X" + b"\0" * 8 + b"\x1d\0\0\x13\0\0", {
        "mime": "image/webp", "width": 30, "height": 20}),
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
def test_the_header_of_a_file_gives_type_pixels_and_seconds(name: str) -> None:
    data, fields = _FORMATS[name]
    assert header_fields(data, len(data)) == fields


@given(st.sampled_from([data[:16] for data, _ in _FORMATS.values()]), st.binary(max_size=64), st.integers(0, 99))
def test_any_bytes_are_read_without_an_error(magic: bytes, rest: bytes, size: int) -> None:
    fields = header_fields(magic + rest, size)
    assert fields.keys() <= {"mime", "width", "height", "seconds"}
