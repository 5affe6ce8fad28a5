"""The content setting: kept and removed fields, in every kind of record."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from callspan import Settings
from callspan.process.content import UNREADABLE, decoded, without_bodies
from callspan.process.processors import caller_processors
from callspan.record.call import NO_BODY
from callspan.record.codec import encode_json
from callspan.record.content_level import is_kept, without_texts
from callspan.record.parameters import ALLOWED
from callspan.records import (
    CallRecord,
    ErrorInfo,
    EventRecord,
    MessageRecord,
    Record,
    Redaction,
    Request,
    Response,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Timing,
    encode,
)


def applied(record: Record, content: str) -> Record:
    return caller_processors(msgspec.structs.replace(Settings(), content=content)).process(record).record


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_no_content_is_left(call: CallRecord, content: str) -> None:
    assert b"SESAME" not in encode(applied(call, content))


def test_metadata_keeps_counts_roles_tools_sizes_and_hashes(call: CallRecord) -> None:
    kept = applied(call, "metadata")
    assert isinstance(kept, CallRecord)
    assert kept.request.message_count == 2
    assert kept.request.roles == ["system", "user"]
    assert kept.request.tool_names == ["open"]
    assert kept.request.body_bytes == 500
    assert kept.request.body is NO_BODY
    note = next(note for note in kept.redactions if note.what == "request.body")
    body = bytes(call.request.body)
    assert note == Redaction(
        what="request.body", why="content", original_bytes=len(body), sha256=hashlib.sha256(body).hexdigest()
    )


@pytest.mark.parametrize("before", ["full", "metadata"])
def test_off_keeps_counts_but_no_roles_tools_or_hashes(call: CallRecord, before: str) -> None:
    """Also of a record that another level has reduced before."""
    kept = applied(applied(call, before), "off")
    assert isinstance(kept, CallRecord)
    assert kept.request.message_count == 2
    assert kept.request.body_bytes == 500
    assert kept.request.roles is None
    assert kept.request.tool_names is None
    assert all(note.sha256 is None for note in kept.redactions)


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_settings_keep_numbers_and_words_of_the_provider(call: CallRecord, content: str) -> None:
    kept = applied(call, content)
    assert isinstance(kept, CallRecord)
    assert kept.request.params == {
        "temperature": 0.5,
        "prediction": {"type": "content"},
        "reasoning": {"effort": "low"},
        "service_tier": "flex",
    }


_ALLOWED: list[dict[str, Any]] = [
    {"encoding_format": "float", "modalities": ["text", "audio"], "previous_response_id": "resp_1"},
    {"reasoning_effort": "low", "service_tier": "flex", "truncation": "auto", "verbosity": "high", "store": True},
    {
        "size": "1024x1536",
        "style": "vivid",
        "quality": "hd",
        "voice": "alloy",
        "moderation": "low",
        "background": "auto",
    },
    {"reasoning": {"effort": "low", "summary": "auto"}, "thinking": {"type": "enabled", "budget_tokens": 5}},
    {"text": {"verbosity": "low", "format": {"type": "json_schema"}}, "stream_options": {"include_usage": True}},
    {"tool_choice": "auto"},
    {"tool_choice": {"type": "function"}, "response_format": {"type": "json_schema"}, "temperature": 0.5, "n": 2},
]


@pytest.mark.parametrize("params", _ALLOWED, ids=lambda params: next(iter(params)))
def test_numbers_and_words_that_the_provider_defines_are_not_content(call: CallRecord, params: dict[str, Any]) -> None:
    assert _kept_of(call, {**params, "stop": "SESAME"}) == (params, {"stop"})


@pytest.mark.parametrize("name", [*ALLOWED, "metadata", "extra", "user", "stop", "include", "model"])
def test_any_other_value_of_any_parameter_is_removed_and_its_name_listed(call: CallRecord, name: str) -> None:
    """Whole texts, lists and objects; what is not a scalar under an allowed key; numbers of unknown parameters."""
    for value in (
        "SESAME", ["SESAME"], {"SESAME": 1}, {"type": "SESAME"}, {"type": ["text"]}, {"summary": {"auto": "SESAME"}},
        ["auto", "SESAME"], {"mode": "SESAME", "note": 5}, "auto ", [[1]],
    ):  # fmt: skip
        assert _kept_of(call, {name: value}) == ({}, {name})
    if name not in ALLOWED:
        assert _kept_of(call, {name: 5}) == ({}, {name})


def _kept_of(call: CallRecord, params: dict[str, Any]) -> tuple[dict[str, object], set[str]]:
    """Return the parameters kept at `off`, and the names listed as removed."""
    request = msgspec.structs.replace(call.request, params=params)
    kept = applied(msgspec.structs.replace(call, request=request), "off")
    assert isinstance(kept, CallRecord)
    listed = {note.what for note in kept.redactions if note.what.startswith("request.params.")}
    return kept.request.params, {what.removeprefix("request.params.") for what in listed}


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_an_error_keeps_its_types_and_loses_its_texts(call: CallRecord, content: str) -> None:
    kept = applied(call, content)
    assert isinstance(kept, CallRecord)
    assert kept.error is not None
    assert (kept.error.kind, kept.error.type, kept.error.code, kept.error.status) == (
        "bad_input",
        "invalid_request_error",
        "x",
        400,
    )
    assert kept.error.message is kept.error.body is kept.error.param is None


def test_everything_taken_out_is_listed(call: CallRecord) -> None:
    kept = applied(call, "off")
    params = {f"request.params.{name}" for name in call.request.params.keys() - kept.request.params.keys()}
    assert {note.what for note in kept.redactions} >= {"request.body", "response.body", "error", *params}
    assert {note.why for note in kept.redactions} == {"content"}


@pytest.mark.parametrize(
    ("body", "roles"),
    [
        (b'{"input":"hi"}', None),
        (b'{"input":[{"role":"user"},{"type":"function_call"},{"type":"message","role":"assistant"}]}', 3),
        (b'{"messages":[1]}', None),
        (b"[]", None),
    ],
)
def test_roles_of_invalid_bodies_are_unknown(call: CallRecord, body: bytes, roles: int | None) -> None:
    request = msgspec.structs.replace(call.request, body=msgspec.Raw(body))
    kept = applied(msgspec.structs.replace(call, request=request), "metadata")
    assert isinstance(kept, CallRecord)
    expected = None if roles is None else ["user", "function_call", "assistant"]
    assert kept.request.roles == expected


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


@pytest.mark.parametrize("record", _OTHERS, ids=lambda record: type(record).__name__)
def test_records_without_content_are_unchanged(record: Record) -> None:
    silent = msgspec.structs.replace(
        record, **{key: None for key in ("data", "content", "annotation") if hasattr(record, key)}
    )
    assert applied(silent, "off") == silent


@pytest.mark.parametrize("record", _OTHERS, ids=lambda record: type(record).__name__)
@pytest.mark.parametrize("content", ["metadata", "off"])
def test_events_messages_and_rewards_lose_content_and_keep_figures(record: Record, content: str) -> None:
    kept = applied(record, content)
    assert b"SESAME" not in encode(kept)
    assert len(kept.redactions) == 1
    assert kept.redactions[0].original_bytes
    assert getattr(kept, "reward", 1.0) == 1.0
    assert getattr(kept, "value", 0.5) == 0.5


@pytest.mark.parametrize("kind", [SessionRecord, TimestepRecord])
def test_sessions_and_steps_without_errors_are_unchanged(kind: type) -> None:
    index = {"timestep_id": "t", "index": 0} if kind is TimestepRecord else {}
    record = kind(session_id="s", seen_ns=1, metadata={"seed": 7}, **index)
    assert applied(record, "off") == record


def test_an_error_of_a_step_loses_its_texts(call: CallRecord) -> None:
    record = TimestepRecord(timestep_id="t", session_id="s", seen_ns=1, index=0, error=call.error)
    kept = applied(record, "metadata")
    assert b"SESAME" not in encode(kept)
    assert [note.what for note in kept.redactions] == ["error"]


@pytest.mark.parametrize("field", ["message", "param", "body"])
def test_an_error_with_texts_loses_them(field: str) -> None:
    error = ErrorInfo(kind="server", type="x", code="c", **{field: "SESAME"})
    assert without_texts(error) == ErrorInfo(kind="server", type="x", code="c")


def test_an_error_without_texts_is_the_same_object() -> None:
    error = ErrorInfo(kind="server", type="x", code="c")
    assert without_texts(error) is error


@pytest.mark.parametrize("body", [b"", b'{"a":1}'])
def test_what_an_answer_states_besides_its_content_stays(call: CallRecord, body: bytes) -> None:
    answer = Response(id="r", finish_reasons=["stop"], body=msgspec.Raw(body))
    kept = applied(msgspec.structs.replace(call, response=answer), "off")
    assert isinstance(kept, CallRecord)
    assert kept.response is not None
    assert (kept.response.id, kept.response.finish_reasons, bytes(kept.response.body)) == ("r", ["stop"], b"")


@pytest.mark.parametrize(("body", "value"), [(b"", None), (b"3", 3), (b"{", UNREADABLE), (b'{"a":[]}', {"a": []})])
def test_a_body_is_decoded_or_none_or_unreadable(body: bytes, value: object) -> None:
    assert decoded(msgspec.Raw(body)) == value
    assert is_kept(msgspec.Raw(body)) is bool(body)


def test_where_there_is_no_room_a_call_loses_its_bodies_and_says_so() -> None:
    earlier, body = Redaction(what="error.message", why="secret"), msgspec.Raw(b'{"x":1}')
    big = CallRecord(
        call_id="c",
        timing=Timing(start_ns=1),
        request=Request(model="m", body_bytes=7, body=body),
        response=Response(id="r", body=body),
        redactions=[earlier],
    )
    bare = without_bodies(big)
    assert isinstance(bare, CallRecord)
    assert (bare.request, bare.response) == (Request(model="m", body_bytes=7), Response(id="r"))
    assert bare.redactions == [earlier, Redaction(what="request.body, response.body", why="size")]
    unanswered = without_bodies(CallRecord(call_id="c", timing=Timing(start_ns=1)))
    assert isinstance(unanswered, CallRecord)
    assert unanswered.response is None
    session = SessionRecord(session_id="s", seen_ns=1, metadata={"a": 1})
    assert without_bodies(session) is session
