"""Running sums, episodes, callbacks and flagged, each on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from callspan import Settings
from callspan.fail_open import failures, forget_failures
from callspan.process import callbacks
from callspan.process.processors import caller_processors
from callspan.records import (
    CallRecord,
    EventRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TimestepRecord,
    Timing,
    Usage,
    encode,
)
from callspan.settings import Content


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


def test_a_callback_that_raises_leaves_the_record_and_is_counted(hooked: Any, caplog: pytest.LogCaptureFixture) -> None:
    def bad(_: Record) -> None:
        raise ValueError("bad callback")

    hooked("before_record", bad, priority=1)
    hooked("before_record", lambda record: msgspec.structs.replace(record, name="still"))
    assert callbacks.call("before_record", EVENT) == msgspec.structs.replace(EVENT, name="still")
    assert sum(failures().values()) == 1


def test_a_coroutine_function_is_refused_as_a_callback() -> None:
    async def callback(_: Record) -> None: ...

    with pytest.raises(TypeError, match="cannot be awaited"):
        callbacks.add_callback("event", callback)  # type: ignore[arg-type]
