"""Media by reference, in the bodies of every API."""

from __future__ import annotations

import base64
import hashlib
import json

import msgspec
import pytest

from callspan import Settings
from callspan.process.processors import caller_processors
from callspan.records import CallRecord, Request, Response, Timing

_DATA = bytes(range(256)) * 4
_TEXT = base64.b64encode(_DATA).decode()
_HASH = hashlib.sha256(_DATA).hexdigest()


def record(api: str, request: object = None, response: object = None) -> CallRecord:
    def body(value: object) -> msgspec.Raw:
        return msgspec.Raw(b"" if value is None else json.dumps(value).encode())

    return CallRecord(
        call_id="c",
        api=api,
        timing=Timing(start_ns=1),
        request=Request(body=body(request)),
        response=Response(body=body(response)),
    )


def applied(call: CallRecord, **settings: object) -> CallRecord:
    kept = caller_processors(msgspec.structs.replace(Settings(), **settings)).process(call).record
    assert isinstance(kept, CallRecord)
    return kept


def reference(mime: str | None) -> dict[str, object]:
    media: dict[str, object] = {"sha256": _HASH, "bytes": len(_DATA)}
    if mime is not None:
        media["mime"] = mime
    return {"callspan_media": media}


@pytest.mark.parametrize(
    "value",
    [
        {"type": "redacted_thinking", "data": _TEXT, "note": "base64"},
        {"type": "text", "data": _TEXT, "note": "base64"},
        {"type": "function_call", "result": _TEXT, "note": "base64"},
        {"text": "please decode this base64: aGVsbG8="},
        {"data": "not base64 at all, though long enough"},
        {"data": "word fast then slow", "note": "base64"},
        {"encrypted_content": _TEXT, "note": "base64"},
    ],
)
def test_values_that_are_not_media_are_unchanged(value: object) -> None:
    call = record("messages", {"messages": [value]})
    assert applied(call) is call


def test_body_that_is_not_json_stays_as_it_was() -> None:
    call = msgspec.structs.replace(record("messages"), request=Request(body=msgspec.Raw(b"base64 {")))
    assert applied(call) is call


def test_media_are_found_however_deep_and_what_is_beside_them_stays() -> None:
    deep = [[{"a": [{"type": "base64", "data": _TEXT}, "words", 3, None]}], f"data:image/png;base64,{_TEXT}"]
    kept = applied(record("messages", {"messages": deep, "model": "m"}))
    expected = [[{"a": [{"type": "base64", "data": reference(None)}, "words", 3, None]}], reference("image/png")]
    assert json.loads(bytes(kept.request.body)) == {"messages": expected, "model": "m"}


@pytest.mark.parametrize(
    ("stated", "mime"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp"), (None, "image/png")]
)
def test_the_format_of_a_picture_is_reported_as_a_type(stated: str | None, mime: str) -> None:
    item = {"type": "image_generation_call", "result": _TEXT} | ({"output_format": stated} if stated else {})
    kept = applied(record("responses", None, {"output": [item]}))
    assert kept.response is not None
    assert json.loads(bytes(kept.response.body))["output"][0]["result"] == reference(mime)
