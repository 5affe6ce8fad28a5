"""The application's redactor: its input, its allowed results, and its failures."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import msgspec
import pytest

from callspan import Settings, redact_texts
from callspan.fail_open import failures, forget_failures
from callspan.process.processors import caller_processors
from callspan.records import (
    Attempt,
    CallRecord,
    EventRecord,
    MessageRecord,
    Place,
    Record,
    Redaction,
    Request,
    RewardRecord,
    SessionRecord,
    Stream,
    TimestepRecord,
    Timing,
    encode,
)


@pytest.fixture(autouse=True)
def _fresh_failures() -> Iterator[None]:
    forget_failures()
    yield
    forget_failures()


def applied(record: Record, redactor: Callable[[Any], Any], **settings: object) -> Record:
    return caller_processors(msgspec.structs.replace(Settings(), **settings), redactor).process(record).record


def _raises(record: Any) -> Any:
    raise RuntimeError("SESAME")


def _wrong_type(record: Any) -> Any:
    return msgspec.structs.replace(record, timing="SESAME")


def _other_call(record: Any) -> Any:
    return msgspec.structs.replace(record, call_id="another")


@pytest.mark.parametrize(
    "redactor",
    [
        _raises, _wrong_type, _other_call, lambda record: None, lambda record: {"kind": "call"},
        lambda record: "SESAME",
        redact_texts(_raises),
    ],
)  # fmt: skip
def test_a_failing_redactor_loses_the_content_and_never_keeps_it(
    call: CallRecord, redactor: Callable[[Any], Any]
) -> None:
    kept = applied(msgspec.structs.replace(call, metadata={"note": "SESAME"}), redactor)
    assert b"SESAME" not in encode(kept)
    assert isinstance(kept, CallRecord)
    assert (kept.call_id, kept.metadata) == ("c", {})
    assert "metadata" in {note.what for note in kept.redactions}
    assert {note.why for note in kept.redactions} == {"redactor_failed"}
    assert failures() == {"redact a record with the application's redactor": 1}


def test_an_interrupt_passes_through_the_redactor(call: CallRecord) -> None:
    def interrupt(record: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        applied(call, interrupt)


# A function of texts as a redactor


@pytest.mark.parametrize("body", [b'{"a":"\\ud800"}', b"SESAME"], ids=["half a character", "text"])
def test_an_unreadable_body_is_removed_and_does_not_bypass_the_redactor(call: CallRecord, body: bytes) -> None:
    kept = applied(msgspec.structs.replace(call, request=Request(body=msgspec.Raw(body))), lambda record: record)
    assert isinstance(kept, CallRecord)
    assert bytes(kept.request.body) == b""
    assert "redactor_failed" in {note.why for note in kept.redactions}


_NAMED: list[Record] = [
    SessionRecord(
        session_id="id-s", seen_ns=1, parent_session_id="id-p", trace_id="id-t", span_id="id-x",
        name="SESAME", group_id="SESAME", task_id="SESAME", experiment="SESAME", user_id="SESAME",
        metadata={"a": ["SESAME"]},
    ),
    TimestepRecord(
        timestep_id="id-t", session_id="id-s", seen_ns=1, index=0, parent_timestep_id="id-p", trace_id="id-t",
        span_id="id-x", name="SESAME",
    ),
    EventRecord(
        event_id="id-e", event_type="action", time_ns=1, session_id="id-s", timestep_id="id-t", call_id="id-c",
        name="SESAME", data={"arguments": {"id": "SESAME"}},
    ),
    MessageRecord(
        message_id="id-m", message_type="observation", time_ns=1, session_id="id-s", timestep_id="id-t",
        call_id="id-c", sender="SESAME", receiver="SESAME", content={"x": [{"y": "SESAME"}]},
    ),
    RewardRecord(
        reward_id="id-r", time_ns=1, value=1.0, session_id="id-s", timestep_id="id-t", event_id="id-e",
        call_id="id-c", label="SESAME", source="SESAME", annotation="SESAME",
    ),
    CallRecord(
        call_id="id-c", trace_id="id-t", span_id="id-x", place=Place(session_id="id-s", session_name="SESAME"),
        timing=Timing(start_ns=1), outcome="error", stream=Stream(end="cut_off"), metadata={"run": "SESAME"},
        attempts=[Attempt(number=1, start_ns=0)],
    ),
]  # fmt: skip


@pytest.mark.parametrize("record", _NAMED, ids=lambda record: type(record).__name__)
def test_a_redactor_that_fails_leaves_ids_and_no_name_of_the_applications(record: Record) -> None:
    def failing(record: Any) -> Any:
        raise RuntimeError("a fault")

    before, kept = encode(record), encode(applied(record, failing))
    assert b"SESAME" not in kept
    assert kept.count(b'"id-') == before.count(b'"id-')


@pytest.mark.parametrize("record", _NAMED, ids=lambda record: type(record).__name__)
def test_a_redactor_of_texts_changes_every_name_and_no_id(record: Record) -> None:
    changed = applied(record, redact_texts(lambda text: "***"))
    before, kept = encode(record), encode(changed)
    assert b"SESAME" not in kept
    assert kept.count(b'"***"') >= before.count(b'"SESAME"')
    assert kept.count(b'"id-') == before.count(b'"id-')
    assert {note.why for note in changed.redactions} == {"redactor"}
    assert failures() == {}


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
def test_a_redactor_of_texts_leaves_every_word_of_callspan(record: Record) -> None:
    """Without them the record is none, and loses its content."""
    for path, word in words_of(msgspec.inspect.type_info(type(record))):
        fields: Any = msgspec.json.decode(encode(record))
        reduce(operator.getitem, path[:-1], fields)[path[-1]] = word
        kept = redact_texts(lambda text: "***")(msgspec.convert(fields, type(record)))
        left: Any = msgspec.to_builtins(kept)
        assert reduce(operator.getitem, path[:-1], left).get(path[-1], word) == word, (path, word)


def test_redactor_runs_before_hashes_are_taken(call: CallRecord) -> None:
    """The hash of a secret lets it be guessed, so what is masked must not be in the hash."""

    def mask(record: Any) -> Any:
        record.request.body = {}
        return record

    def empty(record: Any) -> Any:
        return msgspec.structs.replace(record, request=msgspec.structs.replace(record.request, body={"messages": []}))

    with_mask = applied(call, empty, content="metadata")
    plain = applied(call, lambda record: record, content="metadata")

    def digest(record: Record) -> str | None:
        return next(note.sha256 for note in record.redactions if note.sha256)

    assert digest(with_mask) != digest(plain)


def test_a_redactor_that_fails_leaves_neither_names_of_tools_nor_hashes(call: CallRecord) -> None:
    def failing(record: Any) -> Any:
        raise RuntimeError("a fault")

    kept = applied(call, failing, content="metadata")
    assert isinstance(kept, CallRecord)
    assert kept.request.tool_names is kept.request.roles is None
    assert all(note.sha256 is None for note in kept.redactions)


def test_change_in_place_is_kept_and_listed(call: CallRecord) -> None:
    def mask(record: Any) -> Any:
        for message in record.request.body["messages"]:
            message["content"] = "***"
        return record

    kept = applied(call, mask)
    assert isinstance(kept, CallRecord)
    assert b"SESAME" not in bytes(kept.request.body).split(b'"tools"')[0]
    assert kept.redactions == [Redaction(what="request.body", why="redactor")]
    assert b"SESAME" in bytes(call.request.body), "the caller's record is untouched"


def test_replaced_record_is_kept_and_every_change_listed(call: CallRecord) -> None:
    def mask(record: Any) -> Any:
        error = msgspec.structs.replace(record.error, message=None)
        request = msgspec.structs.replace(record.request, body=None)
        return msgspec.structs.replace(record, error=error, request=request, metadata={"tenant": "t"})

    kept = applied(call, mask)
    assert isinstance(kept, CallRecord)
    assert bytes(kept.request.body) == b""
    assert {note.what for note in kept.redactions} == {"request.body", "error.message", "metadata"}


def test_objects_of_the_application_cannot_be_changed_through_the_record() -> None:
    state = {"board": ["x"]}

    def wipe(record: Any) -> Any:
        record.data.clear()
        return record

    kept = applied(EventRecord(event_id="e", event_type="environment", time_ns=1, data=state), wipe)
    assert isinstance(kept, EventRecord)
    assert kept.data == {}
    assert state == {"board": ["x"]}
