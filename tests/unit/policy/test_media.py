"""Media by reference, in the bodies of every API."""

from __future__ import annotations

import base64
import hashlib
import json

import msgspec
import pytest

from callspan.config import Settings
from callspan.policy.apply import Policy
from callspan.record.call import CallRecord, Request, Response, Timing

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
    kept = Policy(msgspec.structs.replace(Settings(), **settings)).apply(call)
    assert isinstance(kept, CallRecord)
    return kept


def reference(mime: str | None) -> dict[str, object]:
    media: dict[str, object] = {"sha256": _HASH, "bytes": len(_DATA)}
    if mime is not None:
        media["mime"] = mime
    return {"callspan_media": media}


_PADDING = "words of a long conversation " * 300

_REQUESTS = [
    ("chat_completions", {"image_url": {"url": f"data:image/png;base64,{_TEXT}"}}, ("image_url", "url"), "image/png"),
    ("chat_completions", {"input_audio": {"data": _TEXT, "format": "wav"}}, ("input_audio", "data"), "audio/wav"),
    (
        "chat_completions",
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{_TEXT}"}},
        ("file", "file_data"),
        "application/pdf",
    ),
    (
        "responses",
        {"type": "input_image", "image_url": f"data:image/webp;base64,{_TEXT}"},
        ("image_url",),
        "image/webp",
    ),
    (
        "messages",
        {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": _TEXT}},
        ("source", "data"),
        "image/gif",
    ),
]


@pytest.mark.parametrize("padding", ["", _PADDING], ids=["small body", "large body"])
@pytest.mark.parametrize(("api", "part", "path", "mime"), _REQUESTS)
def test_media_of_a_request_become_references(
    api: str, part: dict[str, object], path: tuple[str, ...], mime: str, padding: str
) -> None:
    wire = {"messages": [{"role": "user", "content": padding}, {"role": "user", "content": [part]}]}
    kept = applied(record(api, wire))
    assert _TEXT.encode() not in bytes(kept.request.body)
    found = json.loads(bytes(kept.request.body))["messages"][1]["content"][0]
    for key in path:
        found = found[key]
    assert found == reference(mime)
    assert [(note.what, note.why) for note in kept.redactions] == [("request.body", "media")]
    assert kept.redactions[0].original_bytes == len(json.dumps(wire))


@pytest.mark.parametrize(
    ("api", "answer"),
    [
        ("chat_completions", {"choices": [{"message": {"audio": {"id": "a", "data": _TEXT}}}]}),
        ("chat_completions", {"choices": [{"message": {"images": [f"data:image/png;base64,{_TEXT}"]}}]}),
        ("responses", {"output": [{"type": "image_generation_call", "result": _TEXT, "output_format": "png"}]}),
    ],
)
def test_media_of_an_answer_become_references(api: str, answer: object) -> None:
    kept = applied(record(api, None, answer))
    assert kept.response is not None
    assert _TEXT.encode() not in bytes(kept.response.body)
    assert _HASH.encode() in bytes(kept.response.body)
    assert kept.redactions[0].what == "response.body"


def test_media_stay_when_asked_for() -> None:
    call = record(*_REQUESTS[0][:2])
    assert applied(call, media="inline") is call


@pytest.mark.parametrize(
    "value",
    [
        {"type": "redacted_thinking", "data": _TEXT, "note": "base64"},
        {"type": "text", "data": _TEXT, "note": "base64"},
        {"type": "function_call", "result": _TEXT, "note": "base64"},
        {"text": "please decode this base64: aGVsbG8="},
        {"data": "not base64 at all, though long enough"},
        {"encrypted_content": _TEXT, "note": "base64"},
    ],
)
def test_what_is_no_media_stays_as_it_was(value: object) -> None:
    call = record("messages", {"messages": [value]})
    assert applied(call) is call


def test_body_that_is_no_json_stays_as_it_was() -> None:
    call = msgspec.structs.replace(record("messages"), request=Request(body=msgspec.Raw(b"base64 {")))
    assert applied(call) is call


def test_vectors_of_embeddings_become_their_length() -> None:
    answer = {"data": [{"embedding": [0.1, 0.2, 0.3]}, {"embedding": base64.b64encode(bytes(16)).decode()}]}
    kept = applied(record("embeddings", {"input": "x", "encoding_format": "base64"}, answer))
    assert kept.response is not None
    rows = json.loads(bytes(kept.response.body))["data"]
    assert [row["embedding"] for row in rows] == [
        {"callspan_vector": {"dimensions": 3}},
        {"callspan_vector": {"dimensions": 4}},
    ]


def test_long_vector_answers_are_found_whatever_they_look_like() -> None:
    answer = {"data": [{"embedding": [0.123456789] * 3000}]}
    kept = applied(record("embeddings", None, answer))
    assert kept.response is not None
    assert len(bytes(kept.response.body)) < 200
