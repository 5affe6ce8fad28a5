"""History: which events and spans a receiver has read, without content, so that the next one at its port goes on.

A call is what its events say together. They come in any order, perhaps twice, some to one receiver and some to the one
after it. So the readers keep the events, and say anew what the calls are whenever one is added. What they keep is here
on disk too, written before a request is acknowledged: the next receiver reads it, and knows what the one before knew.
It is bounded: the oldest events are forgotten, but never one with a request or tool that still waits.
Content is not here: records have it, or the files of `waiting`.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec

from callspan.receive.decoding import LogEvent
from callspan.record.call import NO_BODY
from callspan.record.ids import response_call_id
from callspan.record.labels import Ownership
from callspan.runtime.lock_free import LRUCache
from callspan.semconv.vocabularies import Kind, Role
from callspan.settings import Content

_MAX_ENTRIES: Final = 32_768
_MAX_BYTES: Final = 64 << 20
"""Of the records of spans, which have what was said."""
_MAX_KEYS: Final = 16_384
_OTHER: Final = "other"


class ReadEvent(msgspec.Struct, frozen=True, tag="event", omit_defaults=True):
    """An event, without the attributes that are content."""

    event: LogEvent
    waits_as: str = ""
    """The id of its request or tool, which may wait, see `waiting`; empty for other events."""


class WrittenRecord(msgspec.Struct, frozen=True, tag="record"):
    """The newest version of a call's record, or the record of a tool."""

    record_id: str
    """Empty if the record with these names belongs to another call now."""
    seen_ns: int
    keys: list[str]
    """The names that its events give it."""


class ReadRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent, a workflow or a tool: what its span says of it, and what became of it."""

    role: Role
    start_ns: int
    end_ns: int | None = None
    ownership: Ownership = Ownership()
    serves: Ownership = Ownership()
    name: str
    level: Content = "full"
    session: msgspec.Raw
    event: msgspec.Raw = NO_BODY
    """Its record as an agent or a tool, without content; empty once that is written."""
    tool_call_id: str | None = None
    has_runs: bool = False
    has_calls: bool = False
    is_recorded: bool = False
    told_user: str | None = None


class ReadSpan(msgspec.Struct, frozen=True, kw_only=True, tag="span", omit_defaults=True):
    """A span that is a call's or an agent's, or is around some, and what became of it."""

    key: str
    parent: str | None
    kind: Kind | None
    is_call: bool = False
    record: msgspec.Raw = NO_BODY
    """The record that its span alone makes; empty for none, and if callspan itself records the call."""
    level: Content = "full"
    call_id: str = ""
    is_written: bool = False
    is_replaced: bool = False
    is_top: bool = False
    run: ReadRun | None = None


Entry: TypeAlias = ReadEvent | WrittenRecord | ReadSpan
_decode: Final = msgspec.json.Decoder(ReadEvent | WrittenRecord | ReadSpan).decode
_encode: Final = msgspec.json.Encoder().encode


class Names(NamedTuple):
    """The names of a call: an earlier version may have been written under any of them."""

    keys: Sequence[Sequence[str]]
    """Those of its end, by rank: certain names come first; within a rank the first name counts most."""
    new_id: str
    """Its id, if no version was written."""
    request_keys: Sequence[str] = ()
    """Those of its requests. What was written under these names alone has no counters."""
    has_request: bool = True
    """Whether its request was received, and no other request may turn out to be its own."""


class WrittenRecords:
    """The ids of written records. Not thread-safe.

    A call may be written before all its names are known. It keeps its first id, so that whatever comes later is a
    version of the same record. If events move to another call, that call needs a version too, newer than all others.
    """

    def __init__(self) -> None:
        self._ids: LRUCache[str, str] = LRUCache(_MAX_KEYS)
        self._seen_ns: LRUCache[str, int] = LRUCache(_MAX_KEYS)

    def id_of(self, key: str) -> str | None:
        """Return the id of the record that was written with this key; empty if it belongs to another call now."""
        return self._ids.get(key)

    def ids_of(self, calls: Sequence[Names]) -> list[str]:
        """Return the ids of different calls: for each call the id of its written record, else a new one.

        If events move between calls, a record may be left without a call: it goes to a call that would get a new one,
        so that there are never more records than calls. An answer without its request and a request without its answer
        may turn out to be one call. So such an answer gets no new record while such a request has one, and there are
        never more records than calls that are left if all of these pairs are one call each.
        """
        ids: dict[int, str] = {}
        answered = [number for number, names in enumerate(calls) if names.keys]
        unanswered = [number for number, names in enumerate(calls) if not names.keys]
        for rank in range(max((len(names.keys) for names in calls), default=0)):
            self._claim(
                {number: calls[number].keys[rank] for number in answered if rank < len(calls[number].keys)}, ids
            )
        counted = self._unclaimed((key for number in answered for rank in calls[number].keys for key in rank), ids)
        requests = {number: calls[number].request_keys for number in answered}
        self._claim(requests, ids, counted)
        counted = [ident for ident in counted if ident not in ids.values()]
        for number in answered:
            if number not in ids and counted:
                ids[number] = counted.pop(0)
        self._claim(requests, ids)
        left = counted + self._unclaimed((key for keys in requests.values() for key in keys), ids)
        for number in answered:
            if number not in ids and left:
                ids[number] = left.pop(0)
        self._claim({number: calls[number].request_keys for number in unanswered}, ids)
        recorded = [number for number in unanswered if number in ids]
        limit = len(unanswered) - sum(not calls[number].has_request for number in answered)
        for number in answered:
            if number not in ids and recorded and (not calls[number].has_request or len(recorded) > limit):
                ids[number] = ids.pop(recorded.pop())
        for number in (*answered, *unanswered):
            ident = ids.pop(number, None) or (left.pop(0) if left else calls[number].new_id)
            while ident in ids.values():
                ident = response_call_id(_OTHER, ident)  # The call that is named so was taken for this one before.
            ids[number] = ident
        return [ids[number] for number in range(len(calls))]

    def _claim(
        self, keys: Mapping[int, Sequence[str]], ids: dict[int, str], among: Container[str] | None = None
    ) -> None:
        """Add the ids of the records, perhaps only `among` some, that were written with the keys of calls."""
        for number in sorted(keys.keys() - ids.keys()):
            for key in keys[number]:
                ident = self._ids.get(key)
                if ident and ident not in ids.values() and (among is None or ident in among):
                    ids[number] = ident
                    break

    def _unclaimed(self, keys: Iterable[str], ids: dict[int, str]) -> list[str]:
        """Return the ids of the records that were written with these keys and have no call."""
        return [ident for ident in dict.fromkeys(map(self._ids.get, keys)) if ident and ident not in ids.values()]

    def is_written(self, record_id: str) -> bool:
        """Return whether there is a version of a record."""
        return self._seen_ns.get(record_id) is not None

    def version(self, record_id: str, seen_ns: int) -> int:
        """Return when a version was made: later than all others."""
        last_ns = self._seen_ns.get(record_id)
        return seen_ns if last_ns is None else max(seen_ns, last_ns + 1)

    def put(self, record: WrittenRecord) -> None:
        """Take a version."""
        self._seen_ns.put(record.record_id, max(record.seen_ns, self._seen_ns.get(record.record_id) or 0))
        for key in record.keys:
            self._ids.put(key, record.record_id)


class History:
    """The file of a receiver's history. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = self._bytes = 0

    def entries(self, waiting: Container[str]) -> list[Entry]:
        """Return what receivers before have read, oldest first, and keep only that. Raises OSError.

        `waiting` has the ids of what waits.
        """
        entries = _remembered(entries_in(self._path), waiting)
        self.replace(entries)
        return entries

    def add(self, entries: Iterable[Entry], waiting: Container[str]) -> None:
        """Append entries; forget the oldest of too many, but not of what waits by these ids. Raises OSError."""
        lines = [_encode(entry) + b"\n" for entry in entries]
        if not lines:
            return
        # In one write: what is torn by the end of a process is one line, at the end.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            content = memoryview(b"".join(lines))
            while content:
                content = content[os.write(descriptor, content) :]
        finally:
            os.close(descriptor)
        self._entries += len(lines)
        self._bytes += sum(map(len, lines))
        if self._entries > 2 * _MAX_ENTRIES or self._bytes > 2 * _MAX_BYTES:
            self.entries(waiting)

    def replace(self, entries: list[Entry]) -> None:
        """Keep only these. Raises OSError."""
        replace_entries(self._path, entries)
        self._entries, self._bytes = len(entries), sum(map(_words, entries))


def _words(entry: Entry) -> int:
    """Return about how many bytes an entry takes for what was said."""
    return len(bytes(entry.record)) if isinstance(entry, ReadSpan) else 0


def _remembered(entries: list[Entry], waiting: Container[str]) -> list[Entry]:
    room, first = _MAX_BYTES, len(entries)
    while first and len(entries) - first < _MAX_ENTRIES and (room := room - _words(entries[first - 1])) > 0:
        first -= 1
    older, newest = entries[:first], entries[first:]
    return [*(entry for entry in older if isinstance(entry, ReadEvent) and entry.waits_as in waiting), *newest]


def entries_in(path: Path) -> list[Entry]:
    """Return what a file has, without lines that were not written whole."""
    entries: list[Entry] = []
    with suppress(OSError):
        for line in path.read_bytes().splitlines():
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                entries.append(_decode(line))
    return entries


def replace_entries(path: Path, entries: Iterable[Entry]) -> None:
    """Replace what a file has, at once. Raises OSError."""
    other = path.with_suffix(".new")
    other.unlink(missing_ok=True)
    with os.fdopen(os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.writelines(_encode(entry) + b"\n" for entry in entries)
    other.replace(path)
