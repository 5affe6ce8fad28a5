"""Look-ups: finds in the application's stores the calls, sessions and spans that this process does not know.

A store may wait for a lock, so it is only opened on a thread of callspan's own, and for seconds only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar, cast

import msgspec

from callspan.agent.runtime import SpanRef, UnansweredError
from callspan.background import on_own_thread
from callspan.fail_open import fail_open, ours, reported
from callspan.record.call import CallRecord, Place
from callspan.record.events import EventRecord, SessionRecord, record_key
from callspan.record.merging import first_seen
from callspan.settings import Content
from callspan.spool.losses import Losses, Occasions, add_losses
from callspan.stores.base import EmptyStoreError, Reader, Stored, StoredCall, StoredKind, StoreError
from callspan.stores.protocol import Readable
from callspan.stores.urls import readable

LOOK_UP_S: Final = 5.0
"""The longest time that a look-up takes, and for which a store that timed out is left alone afterwards."""
_AGAIN_S: Final = 0.2
_UNREADABLE: Final = fail_open("look up what a store knows")
_COUNT: Final = fail_open("count a look-up that timed out")
_V = TypeVar("_V")
_Read: TypeAlias = Callable[[Reader, Sequence[str]], Mapping[str, _V]]
"""Returns what a store knows of each id."""


def is_before(stored_ns: int | None, seen_ns: int | None) -> bool:
    """Return whether a stored end had been read before the one of this process, or the time is unknown.

    What this process has written may be stored before the look-up: that is not before.
    """
    return stored_ns is None or seen_ns is None or stored_ns < seen_ns


class LookUps:
    """The stores that can be read."""

    def __init__(self, stores: Iterable[str], directory: Callable[[], Path | None] = lambda: None) -> None:
        """`directory` gives the spool directory, where look-ups without an answer are counted; None: nowhere."""
        self._directory = directory
        self._stores = readable(stores)
        self._silent_until: dict[str, float] = {}

    def __bool__(self) -> bool:
        """Return whether there is a store to ask."""
        return bool(self._stores)

    def find(self, kind: str, identity: str) -> SpanRef | None:
        """Return the reference of a span (`session`, `timestep`, `call`); None if no store has it.

        Raises UnansweredError.
        """
        return self._ask([identity], partial(_refs, cast("StoredKind", kind))).get(identity)

    def complete(self, call_ids: Sequence[str]) -> Mapping[str, StoredCall]:
        """Return those of the calls that are stored with their end. Raises UnansweredError."""
        return self._ask(call_ids, _ended)

    def has_span(self, event_id: str) -> bool:
        """Return whether a store has an event with the span of another process. Raises UnansweredError."""
        return bool(self._ask([event_id], _shown))

    def model(self, session_id: str) -> str | None:
        """Return the recorded model of a hosted agent's session; None if unknown. Raises UnansweredError."""
        return self._ask([session_id], _models).get(session_id)

    def _ask(self, ids: Sequence[str], read: _Read[_V]) -> dict[str, _V]:
        """Return what the stores know of the ids, the first one that knows an id of that id.

        Raises UnansweredError if nothing is known, and a store timed out or failed.
        """
        if not on_own_thread():
            raise UnansweredError("a store is only opened on a thread of callspan's own")
        deadline = time.monotonic() + LOOK_UP_S
        found: dict[str, _V] = {}
        complete = True
        for url, store in self._stores.items():
            now, missing = time.monotonic(), [one for one in ids if one not in found]
            if not missing:
                break
            if now >= deadline or now < self._silent_until.get(url, 0.0):
                complete = False
                continue
            try:
                found.update(_read(store, read, missing, deadline))
            except ours(EmptyStoreError):
                continue
            except reported(_UNREADABLE):
                complete = False
                self._silent_until[url] = time.monotonic() + LOOK_UP_S
        if not found and not complete:
            with _COUNT:
                directory = self._directory()
                if directory is not None:
                    add_losses(directory, Losses(unanswered=Occasions.one()))
            raise UnansweredError(f"no answer within {LOOK_UP_S:.0f} s")
        return found


def _read(store: Readable, read: _Read[_V], ids: Sequence[str], deadline: float) -> Mapping[str, _V]:
    try:
        return _read_once(store, read, ids, deadline)
    except ours(StoreError) as error:
        if isinstance(error, EmptyStoreError) or time.monotonic() + _AGAIN_S >= deadline:
            raise
    # The last writer may just have closed a SQLite file, and taken its write-ahead log with it.
    time.sleep(_AGAIN_S)
    return _read_once(store, read, ids, deadline)


def _read_once(store: Readable, read: _Read[_V], ids: Sequence[str], deadline: float) -> Mapping[str, _V]:
    with closing(store.reader(deadline - time.monotonic())) as reader:
        return read(reader, ids)


def _refs(kind: StoredKind, reader: Reader, ids: Sequence[str]) -> dict[str, SpanRef]:
    found = {record_key(one.record)[1]: _ref(reader, one) for one in reader.stored(kind, ids)}
    if kind == "call":
        found |= {one: ref for one in ids if one not in found and (ref := _ref_by_other_id(reader, one)) is not None}
    return found


def _ref_by_other_id(reader: Reader, identity: str) -> SpanRef | None:
    """Return the reference of the call with this id of its span, response or request; None if there is none."""
    call = reader.call(identity)
    if call is None or identity not in {call.span_id, call.request_id, call.response and call.response.id}:
        return None  # it begins with it, or is of its trace
    has_answer = call.response is not None and bool(bytes(call.response.body))
    return msgspec.structs.replace(_ref(reader, Stored(call, has_answer)), call_id=call.call_id)


def _ref(reader: Reader, stored: Stored) -> SpanRef:
    record, replace = stored.record, msgspec.structs.replace
    ref = SpanRef(trace_id=record.trace_id, span_id=record.span_id)
    if isinstance(record, SessionRecord):
        return replace(ref, place=Place(session_id=record.session_id), level=_level(record))
    if isinstance(record, CallRecord):
        return replace(
            ref, place=record.place, level=_level(record), sampled=record.sampled is not False,
            complete=_has_ended(record), has_answer=stored.has_answer, seen_ns=first_seen(record),
            response_id=None if record.response is None else record.response.id,
        )  # fmt: skip
    index = record.timestep if isinstance(record, EventRecord) else record.index
    place = Place(session_id=record.session_id, timestep_id=record.timestep_id, timestep=index)
    session = None if record.session_id is None else next(reader.stored("session", [record.session_id]), None)
    return replace(ref, place=place, level=None if session is None else _level(session.record))


def _level(record: object) -> Content | None:
    """Return the content level it was begun with; None: unknown, only those who read it later have recorded it."""
    if not isinstance(record, SessionRecord | CallRecord) or (record.pid is None and record.content_level == "full"):
        return None
    return record.content_level


def _has_ended(record: CallRecord) -> bool:
    """Return whether a store has the end of a call with its usage, not only that of a webhook."""
    return record.part == "answered" or (record.part == "ended" and not record.is_merged)


def _ended(reader: Reader, ids: Sequence[str]) -> dict[str, StoredCall]:
    found = ((one.record, one.has_answer) for one in reader.stored("call", ids))
    return {
        record.call_id: StoredCall(record.request.model is not None, has_answer, first_seen(record))
        for record, has_answer in found
        if isinstance(record, CallRecord) and _has_ended(record)
    }


def _shown(reader: Reader, ids: Sequence[str]) -> dict[str, bool]:
    found = (one.record for one in reader.stored("event", ids))
    return {one.event_id: True for one in found if isinstance(one, EventRecord) and one.span_id is not None}


def _models(reader: Reader, ids: Sequence[str]) -> dict[str, str]:
    found = (one.record for one in reader.stored("session", ids))
    named = ((one.session_id, one.metadata.get("agent_model")) for one in found if isinstance(one, SessionRecord))
    return {session_id: model for session_id, model in named if isinstance(model, str)}
