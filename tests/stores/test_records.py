"""Values of records: JSON that every store can hold, within bounds, and of media only the facts of their headers."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.provider.media import PNG, wav

from callspan.record.bounded import fit_json, newest_that_fit
from callspan.record.media_reference import header_fields
from callspan.records import EventRecord, encode


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
        ("a\0", "a�"),
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
def test_non_json_values_are_replaced(value: object, expected: object) -> None:
    line = encode(EventRecord(event_id="e", event_type="x", time_ns=1, data={"v": value, "bad": "\ud800"}))
    data = json.loads(line)["data"]
    assert data["bad"] == "�"
    assert data["v"] == expected


_SOUND = wav()
_FLAC = b"fLaC\0\0\0\x22" + b"\0" * 10 + (44_100 << 44 | 88_200).to_bytes(8, "big") + b"\0" * 16
_FORMATS: dict[str, tuple[bytes, dict[str, object]]] = {
    "png": (PNG, {"mime": "image/png"}),
    "gif": (b"GIF89a\x10\0\x20\0", {"mime": "image/gif"}),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x04", {"mime": "image/jpeg"}),
    "webp": (b"RIFF\0\0\0\0WEBPVP8 ", {"mime": "image/webp"}),
    "wav": (_SOUND, {"mime": "audio/wav", "seconds": 0.5}),
    "wav of unknown length": (_SOUND[:40] + b"\xff\xff\xff\xff" + _SOUND[44:], {"mime": "audio/wav", "seconds": 0.5}),
    "flac": (_FLAC, {"mime": "audio/flac", "seconds": 2.0}),
    "mp3": (b"ID3\x04", {"mime": "audio/mpeg"}),
    "pdf": (b"%PDF-1.7", {"mime": "application/pdf"}),
    "a cut png": (PNG[:18], {"mime": "image/png"}),
    "a wav that says nothing": (b"RIFF\0\0\0\0WAVEdata\x01\0\0\0", {"mime": "audio/wav"}),
    "text": (b"Hello.", {}),
    "nothing": (b"", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", _FORMATS)
def test_file_header_gives_type_and_duration(name: str) -> None:
    data, fields = _FORMATS[name]
    assert header_fields(data, len(data)) == fields


@given(st.sampled_from([data[:16] for data, _ in _FORMATS.values()]), st.binary(max_size=64), st.integers(0, 99))
def test_any_file_header_is_accepted(magic: bytes, rest: bytes, size: int) -> None:
    assert header_fields(magic + rest, size).keys() <= {"mime", "seconds"}


@pytest.mark.parametrize(
    ("value", "limit", "kept"),
    [
        (list(range(1_000)), 60, '{"callspan_truncated":{"bytes":5002}}'),
        (list(range(1_000)), 2, "{}"),
        ("x" * 50, 20, '"…[cut: 50 bytes]"'),
    ],
)
def test_unshortenable_values_become_their_size(value: object, limit: int, kept: str) -> None:
    assert fit_json(value, limit)[0].decode() == kept


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
def test_first_and_newest_messages_of_a_history_are_kept(sizes: list[int], limit: int, start: int) -> None:
    assert newest_that_fit(len(sizes), sizes.__getitem__, limit) == start


@pytest.mark.parametrize(
    ("limit", "whole"), [(9_000, {"text", "quote", "id"}), (4_000, {"quote", "id"}), (500, {"id"})]
)
def test_longest_texts_are_cut_first_with_their_size(limit: int, whole: set[str]) -> None:
    value = {"text": "ä" * 3_000, "quote": "x" * 900, "id": "0123456789abcdef"}
    data, cut = fit_json([value], limit)
    (kept,) = json.loads(data)
    assert len(data) <= limit
    assert {name for name, text in kept.items() if text == value[name]} == whole
    sizes = {name: len(text.encode()) for name, text in value.items()}
    assert all(text.endswith(f"…[cut: {sizes[name]} bytes]") for name, text in kept.items() if name not in whole)
    assert (cut == 0) is (limit == 9_000)


@given(st.lists(st.sampled_from(["prose " * 600, "é" * 300, '"' * 90, "id"]), max_size=6), st.integers(2, 9_000))
def test_values_with_many_texts_stay_within_limits(texts: list[str], limit: int) -> None:
    data, cut = fit_json({"parts": texts}, limit)
    assert len(data) <= limit
    assert (json.loads(data) == {"parts": texts}) is (cut == 0)
