"""The processors: content levels, size, media and redactors; the same object if nothing changes."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import json
import operator
import re
from collections.abc import Callable, Iterator
from functools import partial, reduce
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from tests.conftest import Instrument
from tests.support.records import event, made, message, raw, reward, session, step
from tests.support.rig import until
from tests.support.waiting import HANG_MS

import callspan
from callspan import Settings, redact_texts
from callspan.delivery.recorder import Recorder
from callspan.process.processors import caller_processors, within
from callspan.records import (
    Attempt,
    CallRecord,
    ErrorInfo,
    Place,
    Record,
    Request,
    Response,
    SessionRecord,
    Stream,
    Timing,
    encode,
)
from callspan.runtime.fail_open import failures, forget_failures
from callspan.testing import ScriptedProvider, capture

SAID = {"role": "user", "content": "SESAME"}
TOOL = {"type": "function", "function": {"name": "open", "description": "SESAME"}}
PARAMS: dict[str, object] = {
    "temperature": 0.5, "stop": ["SESAME"], "prediction": {"type": "content", "content": "SESAME"},
    "reasoning": {"effort": "low", "note": "SESAME"}, "service_tier": "flex", "user": "SESAME",
}  # fmt: skip
CALL = made(
    "c", provider="openai", api="chat_completions", outcome="error",
    request=Request(
        model="m", message_count=1, tool_names=["open"], params=PARAMS, body_bytes=500,
        body=raw({"model": "m", "messages": [SAID], "tools": [TOOL], "temperature": 0.5}),
    ),
    response=Response(
        id="r", finish_reasons=["stop"], body_bytes=90,
        body=raw({"choices": [{"message": {"role": "assistant", "content": "SESAME"}}]}),
    ),
    error=ErrorInfo(
        kind="bad_input", type="invalid_request_error", code="x", status=400, message="bad: SESAME", param="SESAME",
        body={"error": {"message": "SESAME"}},
    ),
)  # fmt: skip
"""A call whose every field of content says SESAME."""
EVENT = event("e", event_type="action", time_ns=1)


def applied(record: Record, redactor: Callable[[Any], Any] | None = None, **settings: Any) -> Any:
    return caller_processors(Settings(**settings), redactor).process(record).record


@pytest.fixture(autouse=True)
def _fresh_failures() -> Iterator[None]:
    forget_failures()
    yield
    forget_failures()


class Broken(dict[str, object]):
    """What cannot be read, which stands for any bug of ours."""

    def items(self) -> Any:
        raise RuntimeError("a bug")

    __len__ = items


@pytest.mark.parametrize(
    "fields",
    [
        {"request": Request(params=Broken(api_key="SESAME"), body=CALL.request.body)},
        {"metadata": Broken()},
        {"api": []},
    ],
)
def test_failing_processor_drops_content_and_is_counted(fields: dict[str, Any]) -> None:
    kept = applied(msgspec.structs.replace(CALL, **fields))
    assert sum(failures().values()) == 1
    assert b"SESAME" not in encode(msgspec.structs.replace(kept, api=None))
    assert kept.error.status == 400
    assert {note.why for note in kept.redactions} == {"processor_failed"}


def test_removed_content_keeps_outline_and_lists_redactions() -> None:
    for content in ("metadata", "off"):
        assert b"SESAME" not in encode(applied(CALL, content=content))
    outline, body = applied(CALL, content="metadata"), bytes(CALL.request.body)
    (note,) = [note for note in outline.redactions if note.what == "request.body"]
    assert (outline.request.roles, note.original_bytes) == (["user"], len(body))
    assert note.sha256 == hashlib.sha256(body).hexdigest()
    kept = applied(CALL, content="off")
    assert (kept.response.id, kept.response.finish_reasons, bytes(kept.response.body)) == ("r", ["stop"], b"")
    params = {f"request.params.{name}" for name in CALL.request.params.keys() - kept.request.params.keys()}
    assert {note.what for note in kept.redactions} >= {"request.body", "response.body", "error", *params}
    assert {note.why for note in kept.redactions} == {"content"}


def test_image_settings_are_not_content() -> None:
    drawn = {"svg": {"reasoning": {"effort": "low"}}, "output_format": "svg"}
    params = {"complexity": "low", "frame_count": 9, "frame_duration_ms": 200, **drawn}
    kept = applied(made(api="images", request=Request(params=params)), content="metadata")
    assert (kept.request.params, kept.redactions) == (params, [])


def test_longer_body_is_removed_first() -> None:
    assert [note.why for note in applied(CALL, max_record_bytes=200).redactions] == ["size"]
    kept: Any = within(CALL, 10)
    assert len(kept.redactions) == 2
    assert b"callspan_truncated" in bytes(kept.response.body)


@pytest.mark.parametrize(("length", "same"), [(398, True), (399, False)])
def test_data_at_the_limit_are_kept(length: int, same: bool) -> None:
    record = msgspec.structs.replace(EVENT, data="x" * length)
    assert (within(record, 400) is record) is same


def test_spool_rejects_and_counts_oversized_records(tmp_path: Path) -> None:
    seen: list[object] = []
    recorder = Recorder(Settings(stores=(f"sqlite:///{tmp_path / 'calls.db'}",)), (seen.append,))
    for unprocessed in (CALL, object(), None):
        recorder.write(unprocessed)  # type: ignore[arg-type]
    assert (seen, list(tmp_path.iterdir())) == ([], [])
    assert recorder.counters()["dropped.unprocessed"] == 3
    assert recorder.drops() == {"unprocessed": 3}
    assert failures()["keep a record"] == 3


DATA = bytes(range(256)) * 4
TEXT = base64.b64encode(DATA).decode()


def reference(mime: str | None) -> dict[str, object]:
    media = {"sha256": hashlib.sha256(DATA).hexdigest(), "bytes": len(DATA)}
    return {"callspan_media": {**media, "mime": mime} if mime else media}


@pytest.mark.parametrize(
    "body",
    [
        raw([{"type": "redacted_thinking", "data": TEXT, "note": "base64"}]),
        raw([{"type": "reasoning.encrypted", "data": TEXT, "format": "openai-responses-v1", "note": "base64"}]),
        raw([{"text": "please decode this base64: aGVsbG8="}]),
        raw([{"data": "word fast then slow", "note": "base64"}]),
        raw([{"encrypted_content": TEXT, "note": "base64"}]),
        msgspec.Raw(b"base64 {"),
    ],
)
def test_body_without_media_is_unchanged(body: msgspec.Raw) -> None:
    call = made(api="messages", request=Request(body=body))
    assert applied(call) is call


def test_deep_media_are_replaced_alone() -> None:
    deep = [[{"a": [{"type": ["base64"], "data": TEXT}, "words", 3, None]}], f"data:image/png;base64,{TEXT}"]
    kept = applied(made(api="messages", request=Request(body=raw({"messages": deep, "model": "m"}))))
    expected = [[{"a": [{"type": ["base64"], "data": reference(None)}, "words", 3, None]}], reference("image/png")]
    assert json.loads(bytes(kept.request.body)) == {"messages": expected, "model": "m"}


@pytest.mark.parametrize(("stated", "mime"), [("gif", "image/gif"), ("svg", "image/svg+xml"), ("avif", "image/avif")])
def test_image_type_is_read_from_its_header(stated: str, mime: str) -> None:
    item = {"type": "image_generation_call", "output_format": stated, "result": TEXT}
    kept: Any = applied(made(api="responses", response=Response(body=raw({"output": [item]}))))
    assert json.loads(bytes(kept.response.body))["output"][0]["result"] == reference(mime)


FILES: list[tuple[bytes, str]] = [
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff\xe0", "image/jpeg"), (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
    (b"GIF89a", "image/gif"), (b"<svg xmlns=", "image/svg+xml"), (b"RIFF\0\0\0\0WAVE", "audio/wav"),
    (b"fLaC", "audio/flac"), (b"OggS", "audio/ogg"), (b"ID3\4", "audio/mpeg"),
    (b"\0\0\0\x20ftypisom", "video/mp4"), (b"%PDF-1.7", "application/pdf"), (b"\xff\xfb\x90", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
]  # fmt: skip


def file_of(start: bytes, size: int = 6000) -> str:
    return base64.b64encode(start.ljust(size, b"a")).decode()


@pytest.mark.parametrize("api", ["chat_completions", "invoke_model", "embeddings", "rerank", "POST /v1/other"])
@pytest.mark.parametrize(("start", "mime"), FILES)
def test_file_is_media_in_any_field(start: bytes, mime: str, api: str) -> None:
    file, words = file_of(start), "JVBERi is how a file begins, " * 99
    sent = {"model": "m", "picture": file, "masks": [file, words], "text": words, "sealed": "a" * 6000}
    kept = applied(made(api=api, request=Request(body=raw(sent))))
    body = json.loads(bytes(kept.request.body))
    assert [one["callspan_media"]["mime"] for one in (body["picture"], body["masks"][0])] == [mime, mime]
    assert {**body, "picture": file, "masks": [file, words]} == sent
    assert body["masks"][1] == words


def test_file_in_the_result_of_a_tool_is_media() -> None:
    kept: Any = applied(msgspec.structs.replace(EVENT, data={"screen": file_of(b"\x89PNG\r\n\x1a\n")}))
    assert kept.data["screen"]["callspan_media"]["mime"] == "image/png"


def test_picture_to_embed_is_media() -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TEXT}"}}
    sent = {"model": "m", "encoding_format": "base64", "messages": [{"role": "user", "content": [picture]}]}
    kept = applied(made(api="embeddings", request=Request(body=raw(sent))))
    content = json.loads(bytes(kept.request.body))["messages"][0]["content"]
    assert content == [{"type": "image_url", "image_url": {"url": reference("image/png")}}]


def test_text_that_begins_like_a_file_is_none() -> None:
    texts = [
        file_of(b"JVBERi is no file"),
        file_of(b"RIFF\0\0\0\0MIDI"),
        file_of(b"%PDF-1.7") + "!",
        file_of(b"GIF89a", 600),
    ]
    call = made(api="invoke_model", request=Request(body=raw({"texts": texts, "more": "a" * 6000})))
    assert applied(call) is call


MEDIA: list[tuple[str, str, dict[str, Any]]] = [
    ("chat", "image/png", {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TEXT}"}}),
    ("chat", "audio/wav", {"type": "input_audio", "input_audio": {"data": TEXT, "format": "wav"}}),
    ("responses", "application/pdf",
     {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{TEXT}"}),
    ("messages", "image/png", {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": TEXT}}),
]  # fmt: skip


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(("api", "mime", "part"), MEDIA)
def test_media_become_references(
    provider: ScriptedProvider, client: openai.OpenAI, claude: anthropic.Anthropic, api: str, mime: str, part: Any,
    inline: bool,
) -> None:  # fmt: skip
    question = {"type": "input_text" if api == "responses" else "text", "text": "What is this?"}
    sent: Any = [{"role": "user", "content": [question, part]}]
    with capture(media="inline" if inline else "reference") as seen:
        if api == "messages":
            claude.messages.create(model="m", max_tokens=9, messages=sent)
        elif api == "responses":
            client.responses.create(model="m", input=sent)
        else:
            client.chat.completions.create(model="m", messages=sent)
    (record,), (span,), digest = seen.records, seen.spans, hashlib.sha256(DATA).hexdigest()
    assert TEXT.encode() in provider.requests[0].content, "the provider got it whole"
    body = bytes(record.request.body).decode()
    assert (TEXT in body, digest in body) == (inline, not inline)
    attributes = span.attributes or {}
    shown = json.loads(str(attributes["gen_ai.input.messages"]))[0]["parts"][1]
    assert (shown["uri"], shown["mime_type"], shown["size"]) == (f"urn:sha256:{digest}", mime, len(DATA))
    assert "callspan.truncated_bytes" not in attributes, "nothing was cut: what it stands for is elsewhere"
    assert TEXT[:200] not in span.to_json()


# The application's redactor


def _raises(record: Any) -> Any:
    raise RuntimeError("SESAME")


def _wrong_type(record: Any) -> Any:
    return msgspec.structs.replace(record, timing="SESAME")


def _with_bytes(record: Any) -> Any:
    return msgspec.structs.replace(record, metadata={"note": {"deep": (b"SESAME",)}})


def _stops(kind: type[BaseException], record: Any) -> Any:
    raise kind("SESAME")


def _other_call(record: Any) -> Any:
    return msgspec.structs.replace(record, call_id="another")


@pytest.mark.parametrize(
    "redactor",
    [
        _raises, _wrong_type, _other_call, lambda record: None, lambda record: {"kind": "call"},
        lambda record: "SESAME", _with_bytes,
        redact_texts(_raises), redact_texts(lambda text: text.encode()), redact_texts(lambda text: None),
        *(partial(_stops, kind) for kind in (SystemExit, GeneratorExit, KeyboardInterrupt, asyncio.CancelledError)),
    ],
)  # fmt: skip
def test_failing_redactor_drops_all_content(redactor: Callable[[Any], Any]) -> None:
    kept = applied(msgspec.structs.replace(CALL, metadata={"note": "SESAME"}), redactor, content="metadata")
    assert b"SESAME" not in encode(kept)
    assert base64.b64encode(b"SESAME") not in encode(kept)
    assert kept.request.tool_names is kept.request.roles is None
    assert {(note.why, note.sha256) for note in kept.redactions} == {("redactor_failed", None)}
    assert (kept.call_id, kept.metadata) == ("c", {})
    assert "metadata" in {note.what for note in kept.redactions}
    assert {note.why for note in kept.redactions} == {"redactor_failed"}
    assert failures() == {"redact a record with the application's redactor": 1}


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, KeyboardInterrupt])
@pytest.mark.parametrize("stops_at", ["start", "end"])
@pytest.mark.parametrize("streaming", [False, True])
def test_exiting_redactor_drops_content_and_only_interrupts_propagate(
    kind: type[BaseException], stops_at: str, streaming: bool, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def redact(record: Any) -> Any:
        asked.append(record.part)
        if record.part == ("started" if stops_at == "start" else "ended"):
            raise kind
        return record

    def ask() -> None:
        answer: Any = client.chat.completions.create(model="m", messages=[SAID], stream=streaming)
        if streaming:
            list(answer)

    with capture(redact=redact) as seen:
        if kind is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                ask()
        else:
            ask()
        gc.collect()
        ended = [record for record in seen.records if record.part == "ended"]
    assert len(ended) == 1
    if stops_at == "end":
        assert b"SESAME" not in encode(ended[0])
        assert {note.why for note in ended[0].redactions} == {"redactor_failed"}
    assert len(failures()) == 1
    assert len([said for said in caplog.records if "redact a record" in said.getMessage()]) == 1


@pytest.mark.parametrize("end", [False, True])
def test_interrupted_redactor_keeps_the_session_record(end: bool) -> None:
    def redact(record: Any) -> Any:
        if (record.end_ns is not None) == end:
            raise KeyboardInterrupt
        return record

    with capture(redact=redact) as seen:
        with pytest.raises(KeyboardInterrupt), callspan.session("SESAME"):
            pass
        until(lambda: any(one.end_ns for one in seen.everything))
    versions = [one for one in seen.everything if isinstance(one, SessionRecord) and (one.end_ns is not None) == end]
    assert versions
    assert {one.name for one in versions} == {None}


PLACES: list[tuple[str, Callable[[dict[str, Any]], Record]]] = [
    ("event", lambda mapping: event("e", event_type="tool", data={"arguments": mapping, "result": [mapping]})),
    ("message", lambda mapping: message("m", {"observation": mapping})),
    ("metadata", lambda mapping: event("e", event_type="tool", metadata={"tags": mapping})),
    ("params", lambda mapping: made("c", request=Request(params={"metadata": mapping, **mapping}))),
    ("unknown member", lambda mapping: made("c", request=Request(body=raw({"messages": [{**SAID, **mapping}]})))),
    ("tool use", lambda mapping: made("c", response=Response(body=raw({"content": [{"input": {"to": mapping}}]})))),
    ("schema", lambda mapping: made("c", request=Request(body=raw({"tools": [{"properties": mapping}]})))),
    ("error", lambda mapping: made("c", error=ErrorInfo(kind="unknown", type="x", body={"error": mapping}))),
]  # fmt: skip


@pytest.mark.parametrize(("place", "with_mapping"), PLACES, ids=[place for place, _ in PLACES])
def test_application_keys_are_masked_and_kept_distinct(
    place: str, with_mapping: Callable[[dict[str, Any]], Record]
) -> None:
    record = with_mapping({"ann@example.com": 1, "bob@example.com": 2, "x": {"eve@example.com": 3}})
    kept = encode(applied(record, redact_texts(lambda text: re.sub(r"[a-z]+@example\.com", "[mail]", text))))
    assert b"@example.com" not in kept
    assert kept.count(b'"[mail]":') == encode(record).count(b'"ann@') + encode(record).count(b'"eve@')
    assert kept.count(b'"[mail] 2":2') == encode(record).count(b'"bob@')


def test_wire_keys_are_kept_and_never_replaced() -> None:
    body = {"messages": [{"ann": "a", "role": "user", "content": [{"type": "text", "text": "Hi", "bob": 1}]}]}
    kept = applied(made("c", request=Request(body=raw(body))), redact_texts(lambda text: "role"))
    assert json.loads(bytes(kept.request.body)) == {
        "messages": [{"role 2": "role", "role": "user", "content": [{"type": "text", "text": "role", "role": 1}]}]
    }


@pytest.mark.parametrize("body", [b'{"a":"\\ud800"}', b"SESAME"], ids=["half a character", "text"])
def test_unreadable_body_is_removed_before_the_redactor(body: bytes) -> None:
    kept = applied(msgspec.structs.replace(CALL, request=Request(body=msgspec.Raw(body))), lambda record: record)
    assert bytes(kept.request.body) == b""
    assert "redactor_failed" in {note.why for note in kept.redactions}


_NAMED: list[Record] = [
    session(
        "id-s", parent_session_id="id-p", trace_id="id-t", span_id="id-x", metadata={"a": ["SESAME"]},
        **dict.fromkeys(["name", "group_id", "task_id", "experiment", "user_id"], "SESAME"),
    ),
    step(
        "id-t", session_id="id-s", parent_timestep_id="id-p", trace_id="id-t", span_id="id-x", name="SESAME",
    ),
    event(
        "id-e", event_type="action", session_id="id-s", timestep_id="id-t", call_id="id-c", name="SESAME",
        data={"arguments": {"id": "SESAME"}},
    ),
    message(
        "id-m", {"x": [{"y": "SESAME"}]}, session_id="id-s", timestep_id="id-t", call_id="id-c", sender="SESAME",
        receiver="SESAME",
    ),
    reward(
        "id-r", session_id="id-s", timestep_id="id-t", event_id="id-e", call_id="id-c", label="SESAME", source="SESAME",
        annotation="SESAME",
    ),
    CallRecord(
        call_id="id-c", trace_id="id-t", span_id="id-x", place=Place(session_id="id-s", session_name="SESAME"),
        timing=Timing(start_ns=1), outcome="error", stream=Stream(end="cut_off"), response=Response(),
        metadata={"run": "SESAME", "user_id": "SESAME"},
        attempts=[Attempt(number=1, start_ns=0)],
    ),
]  # fmt: skip


@pytest.mark.parametrize("record", _NAMED, ids=lambda record: type(record).__name__)
def test_redactor_keeps_ids_and_masks_application_names(record: Record) -> None:
    before, lost, changed = encode(record), applied(record, _raises), applied(record, redact_texts(lambda text: "***"))
    for kept in map(encode, (lost, changed)):
        assert b"SESAME" not in kept
        assert kept.count(b'"id-') == before.count(b'"id-')
    assert encode(changed).count(b'"***"') >= before.count(b'"SESAME"')
    assert {note.why for note in changed.redactions} == {"redactor"}
    assert failures() == {"redact a record with the application's redactor": 1}


def words_of(kind: msgspec.inspect.Type) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """Where a record has one of a few words of callspan, and each of these words."""
    if isinstance(kind, msgspec.inspect.StructType):
        below = [(field.encode_name, field.type) for field in kind.fields if field.name != "conversation"]
        yield from (((name, *path), word) for name, of in below for path, word in words_of(of))
    elif isinstance(kind, msgspec.inspect.ListType):
        yield from (((0, *path), word) for path, word in words_of(kind.item_type))
    elif isinstance(kind, msgspec.inspect.UnionType):
        yield from (found for of in kind.types for found in words_of(of))
    elif isinstance(kind, msgspec.inspect.LiteralType):
        yield from (((), word) for word in kind.values)


@pytest.mark.parametrize("record", _NAMED, ids=lambda record: type(record).__name__)
def test_text_redactor_keeps_callspan_words(record: Record) -> None:
    """Without them the record is none, and loses its content."""
    for path, word in words_of(msgspec.inspect.type_info(type(record))):
        fields: Any = msgspec.json.decode(encode(record))
        if "finish" in path:  # a list of words
            fields["response"]["finish"] = [word]
        reduce(operator.getitem, path[:-1], fields)[path[-1]] = word
        kept = redact_texts(lambda text: "***")(msgspec.convert(fields, type(record)))
        left: Any = msgspec.to_builtins(kept)
        holder = reduce(operator.getitem, path[:-1], left)
        assert (holder[0] if isinstance(holder, list) else holder.get(path[-1], word)) == word, (path, word)


def _in_place(record: Any) -> Any:
    for sent in record.request.body["messages"]:
        sent["content"] = "***"
    return record


def _anew(record: Any) -> Any:
    error = msgspec.structs.replace(record.error, message=None)
    request = msgspec.structs.replace(record.request, body=None)
    return msgspec.structs.replace(record, error=error, request=request, metadata={"tenant": "t"})


@pytest.mark.parametrize(
    ("redactor", "changed"), [(_in_place, {"request.body"}), (_anew, {"request.body", "error.message", "metadata"})]
)
def test_redactor_changes_are_kept_and_listed(redactor: Callable[[Any], Any], changed: set[str]) -> None:
    kept = applied(CALL, redactor)
    assert b"SESAME" not in bytes(kept.request.body).split(b'"tools"')[0]
    assert {(note.what, note.why) for note in kept.redactions} == {(what, "redactor") for what in changed}
    assert b"SESAME" in bytes(CALL.request.body), "the caller's record is untouched"


def test_redactor_runs_before_hashing() -> None:
    """The hash of a secret lets it be guessed, so what is masked must not be in the hash."""
    masked, plain = (applied(CALL, redactor, content="metadata") for redactor in (_in_place, None))
    digests = [next(note.sha256 for note in one.redactions if note.sha256) for one in (masked, plain)]
    assert digests[0] != digests[1]


def test_record_cannot_change_application_objects() -> None:
    state = {"board": ["x"]}

    def wipe(record: Any) -> Any:
        record.data.clear()
        return record

    assert applied(msgspec.structs.replace(EVENT, data=state), wipe).data == {}
    assert state == {"board": ["x"]}


@pytest.mark.parametrize("stream", [False, True])
def test_redactor_runs_twice_for_a_call(stream: bool, client: openai.OpenAI) -> None:
    """Before the request, on what its span and first version show, and at the end, on the whole."""
    seen_bodies = []

    def redact(record: Any) -> Any:
        seen_bodies.append(record.request.body is not None)
        record.metadata.update(dict.fromkeys(record.metadata, "[redacted]"))
        return record

    create: Any = client.chat.completions.create
    with capture(redact=redact) as seen, callspan.metadata(user_id="ann@example.com"):
        answer = create(model="m", messages=[{"role": "user", "content": "q"}], stream=stream)
        if stream:
            list(answer)
        versions = [record for record in seen.everything if isinstance(record, CallRecord)]
    assert seen_bodies == [False, True]
    assert [record.is_first_version for record in versions] == ([True, False] if stream else [False])
    assert {record.metadata["user_id"] for record in versions} == {"[redacted]"}
    assert {(record.call_id, record.trace_id, record.span_id) for record in versions} == {
        (versions[-1].call_id, versions[-1].trace_id, versions[-1].span_id)
    }


def test_redactor_does_not_run_where_nothing_is_shown_or_kept(
    client: openai.OpenAI, instrumented: Instrument, tmp_path: Path
) -> None:
    """Neither a store, a span, a metric nor a callback: a second `instrument()` may add them."""
    runs = []

    def redact(record: Any) -> Any:
        runs.append(record)
        return record

    def ask() -> int:
        runs.clear()
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])
        return len(runs)

    handle = instrumented(redact=redact)
    assert ask() == 0
    with trace.use_span(
        TracerProvider().get_tracer("theirs").start_span("chat m", attributes={"gen_ai.operation.name": "chat"})
    ):
        assert ask() == 2
    remove = callspan.add_callback("after_record", lambda _: None)
    assert ask() == 2
    remove()
    handle = instrumented(redact=redact, stores=f"jsonl:///{tmp_path}/calls.jsonl")
    assert ask() == 2
    assert handle.force_flush(HANG_MS)
