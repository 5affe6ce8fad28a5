"""Reader of records that are scanned by each query; reader of JSON Lines, rotated files first."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from callspan.providers.registry import with_conversation
from callspan.record.call import NO_BODY, CallRecord
from callspan.record.codec import decode
from callspan.record.events import Record, SessionRecord, TimestepRecord, record_key
from callspan.record.formats import OtherFormatError, check_file
from callspan.record.merging import merged, order_of
from callspan.stores import aggregates
from callspan.stores.base import (
    MOST_CALLS,
    CallFilter,
    Content,
    Event,
    History,
    SessionFilter,
    SessionSummary,
    Stored,
    StoreError,
    Summary,
    Times,
)
from callspan.stores.filters import fits_call, fits_session, needs_session
from callspan.stores.history import Links, before_in_conversation, follow
from callspan.stores.jsonl.store import check_there, files_of, lines_in, read_cursors
from callspan.stores.payloads import text_of
from callspan.stores.rows import merge

_EVERY: Final = CallFilter()
_ANY: Final = SessionFilter()
_T = TypeVar("_T")
_keys: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(
        msgspec.defstruct("Key", [("key", str)], tag_field="kind", tag=kind, rename={"key": name})
    )
    for kind, name in (("session", "session_id"), ("timestep", "timestep_id"), ("call", "call_id"))
}
"""Decoders that read only the id of a record of their kind."""
_NO_RECORD: Final = (msgspec.DecodeError, OtherFormatError, UnicodeDecodeError, RecursionError)


class RecordsReader:
    """A reader of records that are read again for each query: each in several versions perhaps, in any order."""

    def __init__(self, name: str, read: Callable[[], Iterable[Record]]) -> None:
        """`read` returns the records as they were stored."""
        self.name = name
        self._read = read

    def calls(self, which: CallFilter = _EVERY) -> Iterator[CallRecord]:
        """Yield calls with their conversations, see `CallFilter.content`."""
        found = sorted(self._matching(which), key=_call_order, reverse=which.newest_first)
        end = None if which.limit is None else which.offset + which.limit
        yield from (_with_content(record, which.content) for record in found[which.offset : end])

    def call(self, call_id: str) -> CallRecord | None:
        """Return one call by its id, a unique prefix of it, or another id, see `Reader.call`; None if there is none."""
        calls = {record.call_id: record for record in self._matching(_EVERY)}
        found = _by_prefix(calls, call_id)
        if found is None and call_id:
            known = (record for record in sorted(calls.values(), key=_call_order) if call_id in _ids(record))
            found = next(known, None)
        return None if found is None else with_conversation(found)

    def history(self, call: CallRecord, *, limit: int = MOST_CALLS) -> History:
        """Return the recorded calls before one that continues a response or a conversation, at most `limit`."""
        records = self._records()
        calls = sorted((one for one in records if isinstance(one, CallRecord)), key=_call_order, reverse=True)
        by_response = {one.response.id: one for one in calls if one.response is not None and one.response.id}

        def of_conversation(later: CallRecord, most: int) -> Iterator[CallRecord]:
            return islice(_matching([*calls], before_in_conversation(later)), most)

        found = follow(call, Links(by_response.get, of_conversation), limit)
        return found._replace(calls=[with_conversation(one) for one in found.calls])

    def count_calls(self, which: CallFilter = _EVERY) -> int:
        """Return how many calls `calls` would yield without its limit."""
        return sum(1 for _ in self._matching(which))

    def sessions(
        self, *, since_ns: int | None = None, limit: int | None = None, which: SessionFilter = _ANY
    ) -> Iterator[SessionSummary]:
        """Yield sessions, newest first; without a filter also sessions known only from their calls."""
        every = self._sessions().values()
        found = [(at, one) for at, one in every if since_ns is None or (at or 0) >= since_ns]
        found = [(at, one) for at, one in found if fits_session(one.session, which)]
        newest = sorted(found, key=lambda pair: (pair[0] or 0, pair[1].session.session_id), reverse=True)
        yield from (one for _, one in newest[:limit])

    def session(self, session_id: str) -> SessionSummary | None:
        """Return one session by its id or a unique prefix; None if there is none."""
        found = _by_prefix(self._sessions(), session_id)
        return None if found is None else found[1]

    def timestep(self, timestep_id: str) -> TimestepRecord | None:
        """Return one timestep by its id or the application's own id (the first of several); else None."""
        steps = (record for record in self._records() if isinstance(record, TimestepRecord))
        found = (one for one in steps if timestep_id in {one.timestep_id, one.user_step_id})
        return min(found, key=lambda step: step.start_ns or 0, default=None)

    def timesteps(self, session_id: str) -> Iterator[TimestepRecord]:
        """Yield the timesteps of a session by their start."""
        yield from aggregates.timesteps_of(self._records(), session_id)

    def events(self, session_id: str) -> Iterator[Event]:
        """Yield events, messages and rewards of a session in the order they happened."""
        yield from aggregates.events_of(self._records(), session_id)

    def summary(self, by: str, which: CallFilter = _EVERY, *, latencies: bool = True) -> Iterator[Summary]:
        """Yield sums over calls, largest number of calls first."""
        records = self._records()
        found = _matching(records, which)
        yield from aggregates.summarise(found, by, latencies=latencies, sessions=_sessions_of(records))

    def times(self, which: CallFilter = _EVERY) -> Iterator[Times]:
        """Yield the times of the calls that succeeded, in any order."""
        yield from aggregates.times_of(self._matching(which))

    def stored(self, kind: str, ids: Sequence[str]) -> Iterator[Stored]:
        """Yield the records of a kind that have one of these whole ids."""
        versions: dict[str, list[Record]] = {}
        for record in self._stored(kind, frozenset(ids)):
            versions.setdefault(record_key(record)[1], []).append(record)
        for found in map(_newest, versions.values()):
            if isinstance(found, CallRecord):
                yield Stored(_with_content(found, "none"), bool(found.response and bytes(found.response.body)))
            elif isinstance(found, SessionRecord | TimestepRecord):
                yield Stored(found)

    def _stored(self, kind: str, ids: frozenset[str]) -> Iterator[Record]:
        """Yield all versions of the records of a kind that have one of these ids."""
        for record in self._read():
            found, key = record_key(record)
            if found == kind and key in ids:
                yield record

    def position(self, segment: str) -> int | None:  # noqa: ARG002 - the protocol's name
        """Return None: unknown."""
        return None

    def close(self) -> None:
        """Do nothing: nothing is kept open."""

    def _matching(self, which: CallFilter) -> Iterator[CallRecord]:
        return _matching(self._records(), which)

    def _records(self) -> list[Record]:
        """Return every record once: the newest version, or for sessions and timesteps all versions merged."""
        found: dict[tuple[str, str], list[Record]] = {}
        for record in self._read():
            found.setdefault(record_key(record), []).append(record)
        return list(aggregates.given_to_steps(_newest(versions) for versions in found.values()))

    def _sessions(self) -> dict[str, tuple[int | None, SessionSummary]]:
        """Return each session with its sort time, by id."""
        return aggregates.sessions_of(self._records())


class JsonLinesReader(RecordsReader):
    """Reads the files for each query, so that it sees new records."""

    def __init__(self, path: str | Path, wait_s: float | None = None) -> None:
        """`wait_s` is how long reading may take from now on; None: any time.

        Raises StoreError if the file is missing or has another format.
        """
        super().__init__(f"jsonl:///{path}", self._decoded)
        self._path = Path(path)
        self._until = float("inf") if wait_s is None else time.monotonic() + wait_s
        check_there(self._path)

    def position(self, segment: str) -> int | None:
        """Return the offset up to which the file has a spool segment."""
        return read_cursors(self._path).get(segment, 0)

    def _decoded(self) -> Iterator[Record]:
        for line in self._lines():
            with contextlib.suppress(*_NO_RECORD):
                yield decode(line)

    def _stored(self, kind: str, ids: frozenset[str]) -> Iterator[Record]:
        """Yield all versions of these records; other lines are not decoded."""
        decoder = _keys[kind]
        for line in self._lines():
            with contextlib.suppress(*_NO_RECORD):
                if decoder.decode(line).key in ids:
                    yield decode(line)

    def _lines(self) -> Iterator[bytes]:
        """Yield every line once, even if files are rotated during the scan: list the files until nothing is new."""
        read: set[int] = set()
        listed: list[Path] = []
        before = -1
        # A file that is renamed after it was listed is not found, and the next list has it under its new name.
        while (files := files_of(self._path)) != listed or len(read) > before:
            listed, before = files, len(read)
            for path in files:
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    inode = os.fstat(file.fileno()).st_ino
                    if inode not in read:
                        read.add(inode)
                        check_file(path)
                        yield from takewhile(self._is_in_time, lines_in(file))

    def _is_in_time(self, _: bytes) -> bool:
        """Return True. Raises StoreError once reading has taken too long."""
        if time.monotonic() > self._until:
            raise StoreError(f"{self.name}: too large to be read in time")
        return True


def _matching(records: list[Record], which: CallFilter) -> Iterator[CallRecord]:
    sessions = _sessions_of(records) if needs_session(which) else {}
    steps = {
        one.timestep_id
        for one in records
        if isinstance(one, TimestepRecord) and which.timestep_id in {one.timestep_id, one.user_step_id}
    }
    if which.timestep_id is not None:
        steps.add(which.timestep_id)
    for record in records:
        if (
            isinstance(record, CallRecord)
            and (which.timestep_id is None or record.place.timestep_id in steps)
            and _matches(record, which)
            and fits_call(record, sessions.get(record.place.session_id or ""), which)
        ):
            yield record


def _with_content(record: CallRecord, content: Content) -> CallRecord:
    replace = msgspec.structs.replace
    if content != "all":
        if any(one is not None and bytes(one.body) for one in (record.request, record.response)):
            record = replace(record, conversation=None)  # it was read from the bodies
        record = replace(record, request=replace(record.request, body=NO_BODY))
    if content == "none":
        return replace(record, response=record.response and replace(record.response, body=NO_BODY))
    return with_conversation(record)


def _sessions_of(records: list[Record]) -> dict[str, SessionRecord]:
    return {record.session_id: record for record in records if isinstance(record, SessionRecord)}


def _matches(record: CallRecord, which: CallFilter) -> bool:
    answering = record.response.model if record.response else None
    start = record.timing.start_ns
    return (
        which.session_id in {None, record.place.session_id}
        and which.in_session in {None, record.place.session_id is not None}
        and which.model in {None, record.request.model, answering}
        and which.provider in {None, record.provider}
        and which.batch_id in {None, record.batch_id}
        and which.response_id in {None, record.response.id if record.response else None}
        and which.conversation_id in {None, record.request.conversation_id}
        and (which.since_ns is None or start >= which.since_ns)
        and (which.until_ns is None or start < which.until_ns)
        and (which.errors is None or _fits(record, errors=which.errors))
        and which.in_progress in {None, record.outcome == "in_progress"}
        and which.cut_off in {None, record.stream is not None and record.stream.end == "cut_off"}
        and (which.text is None or which.text.casefold() in text_of(record).casefold())
    )


def _fits(record: CallRecord, *, errors: bool) -> bool:
    return aggregates.is_error(record.outcome) if errors else record.outcome == "success"


def _ids(record: CallRecord) -> tuple[str | None, ...]:
    response_id = record.response.id if record.response else None
    return record.span_id, response_id, record.request_id, record.trace_id


def _newest(versions: list[Record]) -> Record:
    last = max(versions, key=order_of)
    if isinstance(last, SessionRecord):
        return merge([record for record in versions if isinstance(record, SessionRecord)])
    if isinstance(last, TimestepRecord):
        return merge([record for record in versions if isinstance(record, TimestepRecord)])
    if isinstance(last, CallRecord) and last.is_merged:
        return merged([record for record in versions if isinstance(record, CallRecord)])
    return last


def _by_prefix(found: Mapping[str, _T], prefix: str) -> _T | None:
    if prefix in found or not prefix:
        return found.get(prefix)
    matching = [value for key, value in found.items() if key.startswith(prefix)]
    return matching[0] if len(matching) == 1 else None


def _call_order(record: CallRecord) -> tuple[int, str]:
    return record.timing.start_ns, record.call_id
