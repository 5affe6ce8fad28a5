"""Media by reference, in the bodies of every API."""

from __future__ import annotations

import base64
import hashlib
import json

import msgspec
import pytest

from callspan import Settings
from callspan.process.processors import caller_processors
from callspan.records import CallRecord, EventRecord, MessageRecord, Request, Response, Timing

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


def test_media_stay_when_requested() -> None:
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


@pytest.mark.parametrize(
    ("stated", "mime"),
    [
        ("mp3", "audio/mpeg"),
        ("flac", "audio/flac"),
        ("opus", "audio/opus"),
        ("aac", "audio/aac"),
        ("pcm16", "audio/pcm"),
        ("wav", "audio/wav"),
        ("audio/ogg", "audio/ogg"),
    ],
)
def test_the_format_of_a_sound_is_reported_as_a_type(stated: str, mime: str) -> None:
    sound = {"input_audio": {"data": _TEXT, "format": stated}}
    kept = applied(record("chat_completions", {"messages": [sound]}))
    assert json.loads(bytes(kept.request.body))["messages"][0]["input_audio"]["data"] == reference(mime)


@pytest.mark.parametrize(
    ("stated", "mime"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp"), (None, "image/png")]
)
def test_the_format_of_a_picture_is_reported_as_a_type(stated: str | None, mime: str) -> None:
    item = {"type": "image_generation_call", "result": _TEXT} | ({"output_format": stated} if stated else {})
    kept = applied(record("responses", None, {"output": [item]}))
    assert kept.response is not None
    assert json.loads(bytes(kept.response.body))["output"][0]["result"] == reference(mime)


@pytest.mark.parametrize(
    ("holder", "field", "mime"),
    [
        ({"type": "base64", "mime_type": "image/tiff"}, "data", "image/tiff"),
        ({"type": "base64", "mime": "image/bmp"}, "data", "image/bmp"),
        ({"type": "base64", "media_type": 3, "format": "wav"}, "data", "audio/wav"),
        ({"type": "base64"}, "data", None),
        ({"type": "base64"}, "file_data", None),
        ({"type": "base64"}, "image_data", None),
        ({"type": "base64"}, "b64_json", "image/png"),
        ({"type": "base64"}, "partial_image_b64", "image/png"),
    ],
)
def test_the_type_of_plain_base64_is_read_from_neighbouring_fields(
    holder: dict[str, object], field: str, mime: str | None
) -> None:
    kept = applied(record("messages", {"messages": [{**holder, field: _TEXT}]}))
    assert json.loads(bytes(kept.request.body))["messages"][0][field] == reference(mime)


@pytest.mark.parametrize("mark", ["base64", "b64_json", "input_audio", "audio", "image_generation_call"])
def test_bodies_of_an_unknown_api_are_looked_into_for_every_mark(mark: str) -> None:
    call = record("tomorrow", {"messages": [{mark: "here", "data": _TEXT}]})
    assert _HASH.encode() in bytes(applied(call).request.body)


@pytest.mark.parametrize(
    ("api", "part"),
    [
        ("completions", {"data": _TEXT, "note": "base64"}),
        ("messages", {"type": "image_generation_call", "result": _TEXT}),
        ("responses", {"input_audio": "here", "data": _TEXT}),
        ("chat_completions", {"type": "image_generation_call", "result": _TEXT}),
        ("embeddings", {"data": _TEXT, "note": "base64"}),
    ],
)
def test_bodies_without_a_mark_of_their_api_are_not_looked_into(api: str, part: object) -> None:
    call = record(api, {"messages": [part]})
    assert applied(call) is call


def test_a_picture_by_its_data_url_is_found_in_responses() -> None:
    part = {"type": "input_image", "image_url": f"data:image/png;base64,{_TEXT}"}
    kept = applied(record("responses", {"input": [{"role": "user", "content": [part]}]}))
    assert _HASH.encode() in bytes(kept.request.body)


@pytest.mark.parametrize("url", [f"data:;base64,{_TEXT}", f"data:;charset=utf-8;base64,{_TEXT}"])
def test_a_data_url_without_a_type_is_a_medium_of_no_type(url: str) -> None:
    kept = applied(record("messages", {"messages": [{"url": url}]}))
    assert json.loads(bytes(kept.request.body))["messages"][0]["url"] == reference(None)


def test_base64_of_the_url_alphabet_is_the_same_medium() -> None:
    data = bytes([251, 239, 190, 255]) * 12
    plain, url_safe = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    assert plain != url_safe
    hashes = [
        json.loads(bytes(applied(record("messages", {"messages": [{"type": "base64", "data": text}]})).request.body))
        for text in (plain, url_safe)
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(("length", "found"), [(12, False), (16, True), (18, False), (20, True)])
def test_short_or_uneven_texts_are_not_base64(length: int, found: bool) -> None:
    call = record("messages", {"messages": [{"type": "base64", "data": ("QUJD" * 8)[:length]}]})
    assert (applied(call) is not call) == found


def test_media_are_found_however_deep_and_what_is_beside_them_stays() -> None:
    deep = [[{"a": [{"type": "base64", "data": _TEXT}, "words", 3, None]}], f"data:image/png;base64,{_TEXT}"]
    kept = applied(record("messages", {"messages": deep, "model": "m"}))
    expected = [[{"a": [{"type": "base64", "data": reference(None)}, "words", 3, None]}], reference("image/png")]
    assert json.loads(bytes(kept.request.body)) == {"messages": expected, "model": "m"}


@pytest.mark.parametrize("answer", [[], {"data": 3}, {"data": [3, {"embedding": 3}, {"embedding": {}}]}, "embedding"])
def test_embeddings_without_vectors_stay_as_they_are(answer: object) -> None:
    call = record("embeddings", None, {"note": "embedding", "x": answer} if isinstance(answer, str) else answer)
    assert applied(call) is call


def test_request_and_answer_with_media_are_both_listed() -> None:
    part = {"image_url": {"url": f"data:image/png;base64,{_TEXT}"}}
    call = record("chat_completions", {"messages": [part]}, {"choices": [part]})
    assert [note.what for note in applied(call).redactions] == ["request.body", "response.body"]


@pytest.mark.parametrize("turn", [0, 61, 137, 299])
def test_a_small_picture_in_a_long_history_is_found(turn: int) -> None:
    """300 messages of prose, a third of a megabyte, and among them one icon of two KB."""
    url = "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 8).decode()
    messages: list[dict[str, object]] = [{"role": "user", "content": "and then it went on " * 50} for _ in range(300)]
    messages[turn] = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    call = applied(record("chat_completions", {"model": "m", "messages": messages}))
    assert len(bytes(call.request.body)) > 300_000
    assert url.encode() not in bytes(call.request.body)
    assert b"callspan_media" in bytes(call.request.body)


@pytest.mark.parametrize(
    "shape", [{"type": "base64", "media_type": "image/png", "data": _TEXT}, f"data:image/png;base64,{_TEXT}"]
)
def test_media_in_events_and_messages_become_references(shape: object) -> None:
    """As in a tool's result at the provider, where an image stands among texts."""
    given = {"arguments": {"url": "x"}, "result": [{"type": "image", "source": shape}, "a text"]}
    event = EventRecord(event_id="e", event_type="tool", time_ns=1, data=given)
    message = MessageRecord(message_id="m", message_type="observation", time_ns=1, content=shape)
    processors = caller_processors(Settings())
    kept, seen = processors.process(event).record, processors.process(message).record
    assert isinstance(kept.data, dict)
    image, text = kept.data["result"]
    assert _HASH in repr(image)
    assert (text, kept.data["arguments"]) == ("a text", {"url": "x"})
    assert _HASH in repr(seen.content)
    assert _TEXT not in repr([kept, seen])
    assert [note.why for note in (*kept.redactions, *seen.redactions)] == ["media", "media"]
    assert _TEXT in repr(given)
    assert _TEXT in repr(caller_processors(Settings(media="inline")).process(event).record)
