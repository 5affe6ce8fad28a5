"""The processors: their order, content, size limits and callbacks; the same object if nothing changes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.processed import processed

import callspan
from callspan import Settings
from callspan.delivery.recorder import Recorder
from callspan.fail_open import failures, forget_failures
from callspan.process import callbacks
from callspan.process.processors import caller_processors, within
from callspan.record.codec import encode_json
from callspan.records import (
    CallRecord,
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
    Usage,
    encode,
)
from callspan.settings import Content


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


def applied(record: Record, content: str) -> Record:
    return caller_processors(msgspec.structs.replace(Settings(), content=content)).process(record).record


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_no_content_is_left(call: CallRecord, content: str) -> None:
    assert b"SESAME" not in encode(applied(call, content))


def test_everything_taken_out_is_listed(call: CallRecord) -> None:
    kept = applied(call, "off")
    params = {f"request.params.{name}" for name in call.request.params.keys() - kept.request.params.keys()}
    assert {note.what for note in kept.redactions} >= {"request.body", "response.body", "error", *params}
    assert {note.why for note in kept.redactions} == {"content"}


def test_both_bodies_are_removed_if_needed(call: CallRecord) -> None:
    kept = within(call, 10)
    assert isinstance(kept, CallRecord)
    assert len(kept.redactions) == 2
    assert isinstance(kept.response, Response)
    assert b"callspan_truncated" in bytes(kept.response.body)


def test_cap_of_the_settings_is_applied(call: CallRecord) -> None:
    kept = caller_processors(msgspec.structs.replace(Settings(), max_record_bytes=200)).process(call).record
    assert [note.why for note in kept.redactions] == ["size"]


@pytest.mark.parametrize(("length", "same"), [(398, True), (399, False)])
def test_data_that_just_fit_are_kept(length: int, same: bool) -> None:
    record = EventRecord(event_id="e", event_type="action", time_ns=1, data="x" * length)
    assert (within(record, 400) is record) is same


CALL = CallRecord(call_id="c", timing=Timing(start_ns=1), metadata={"owner": "ann"})


def test_a_processed_record_is_never_changed_nor_shown() -> None:
    made = processed(CALL)
    assert made.record is CALL
    assert "ann" not in repr(made)
    with pytest.raises(AttributeError):
        made.record = CALL  # type: ignore[misc]


def test_anything_else_is_refused_and_counted_at_the_door_of_the_spool(tmp_path: Path) -> None:
    seen: list[object] = []
    recorder = Recorder(Settings(stores=(f"sqlite:///{tmp_path / 'calls.db'}",)), (seen.append,))
    for unprocessed in (CALL, object(), None):
        recorder.write(unprocessed)  # type: ignore[arg-type]
    assert (seen, list(tmp_path.iterdir())) == ([], [])
    assert recorder.counters()["dropped.unprocessed"] == 3
    assert recorder.drops() == {"unprocessed": 3}
    assert failures()["keep a record"] == 3


def test_one_module_makes_processed_records_and_lists_of_processors() -> None:
    """A list of no processors, and `object.__new__`, would let everything through."""
    makes = re.compile(r"(?<!class )\bProcess(?:ed|ors)\(")
    package = Path(callspan.__file__).parent
    found = {path.name for path in package.rglob("*.py") if makes.search(path.read_text())}
    assert found == {"processors.py"}


def call(outcome: Any = "success", duration_ns: int | None = None, usage: Usage | None = None) -> CallRecord:
    return CallRecord(call_id="c", outcome=outcome, usage=usage, timing=Timing(start_ns=1, duration_ns=duration_ns))


@pytest.fixture
def hooked() -> Iterator[Callable[..., Callable[[], None]]]:
    """Add callbacks that are gone afterwards."""
    added: list[Callable[[], None]] = []
    forget_failures()

    def add(*args: Any, **kwargs: Any) -> Callable[[], None]:
        added.append(callbacks.add_callback(*args, **kwargs))
        return added[-1]

    yield add
    for take_away in added:
        take_away()
    forget_failures()


SESSION = SessionRecord(session_id="s", seen_ns=1)
STEP = TimestepRecord(timestep_id="t", session_id="s", seen_ns=1, index=0)
EVENT = EventRecord(event_id="e", event_type="action", time_ns=1)
MESSAGE = MessageRecord(message_id="m", message_type="observation", time_ns=1)


@pytest.mark.parametrize(
    ("kinds", "received"),
    [
        (None, [SESSION, STEP, EVENT, MESSAGE, call()]),
        (["session"], [SESSION]),
        (["timestep", "call"], [STEP, call()]),
        (["action"], [EVENT]),
        (["observation"], [MESSAGE]),
        (["event", "message"], []),
        ([], []),
    ],
)
def test_kinds_are_types_of_events_and_messages_else_kinds_of_records(
    hooked: Any, kinds: list[str] | None, received: list[Record]
) -> None:
    found: list[Record] = []
    hooked("after_record", found.append, kinds=kinds)
    for record in (SESSION, STEP, EVENT, MESSAGE, call()):
        callbacks.call("after_record", record)
    assert found == received


class _OwnEvent(EventRecord, frozen=True, kw_only=True, tag="event"):
    """An application's record with a field of its own."""

    note: str = "secret"


@pytest.mark.parametrize("content", ["full", "off"])
def test_a_record_of_a_subclass_is_processed_as_one_of_its_kind(hooked: Any, content: Content) -> None:
    given = _OwnEvent(**{name: getattr(EVENT, name) for name in EVENT.__struct_fields__} | {"data": "x" * 9_000})
    hooked("before_record", lambda _: given)
    found = caller_processors(Settings(content=content, max_record_bytes=2_000)).process(EVENT).record
    assert type(found) is EventRecord
    assert [note.why for note in found.redactions] == ["size" if content == "full" else "content"]
    assert (found.data is None) == (content == "off")
    data = encode(found)
    assert len(data) < 4_000
    assert b"secret" not in data


def test_each_callback_gets_the_record_returned_by_the_previous_one(hooked: Any) -> None:
    hooked("before_record", lambda record: msgspec.structs.replace(record, name="a"))
    hooked("before_record", lambda record: msgspec.structs.replace(record, name=f"{record.name}b"))
    assert callbacks.call("before_record", EVENT) == msgspec.structs.replace(EVENT, name="ab")


def test_a_coroutine_function_is_refused_as_a_callback() -> None:
    async def callback(_: Record) -> None: ...

    with pytest.raises(TypeError, match="cannot be awaited"):
        callbacks.add_callback("event", callback)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("body", [b"", b'{"a":1}'])
def test_what_an_answer_states_besides_its_content_stays(call: CallRecord, body: bytes) -> None:
    answer = Response(id="r", finish_reasons=["stop"], body=msgspec.Raw(body))
    kept = applied(msgspec.structs.replace(call, response=answer), "off")
    assert isinstance(kept, CallRecord)
    assert kept.response is not None
    assert (kept.response.id, kept.response.finish_reasons, bytes(kept.response.body)) == ("r", ["stop"], b"")
