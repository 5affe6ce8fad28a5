"""Begun records: the first records of what has begun in this process and not ended, for the head of its next segment.

A process that is killed leaves its last segment. With these in its head that segment alone says what was not ended:
the ones before it may be delivered and gone.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Final

import msgspec

from callspan.fail_open import fail_open
from callspan.process.content import without_bodies
from callspan.record import codec
from callspan.record.call import CallRecord
from callspan.record.content_level import without_content
from callspan.record.events import RUN_TYPES, SCOPE_TYPES, EventRecord, Record, record_key, start_id
from callspan.record.span_frames import SegmentHead, encode_frame_of

_LARGE_BYTES: Final = 2048
_MOST_BYTES: Final = 1 << 18
"""Of more, the oldest are not kept: what never ends makes room."""
_HEAD: Final = fail_open("make the head of a segment; its spans cannot be sent")


class _Process:
    """What one process has begun; a fork begins anew, so that no one says of a parent's that it was interrupted."""

    def __init__(self) -> None:
        self.pid, self.ident = os.getpid(), uuid.uuid4().hex
        self.records: dict[tuple[str, str], bytes] = {}
        self.bytes = 0

    def add(self, key: tuple[str, str], payload: bytes) -> None:
        self.remove(key)
        self.records[key] = payload
        self.bytes += len(payload)
        while self.bytes > _MOST_BYTES and self.records:
            self.remove(next(iter(self.records)))

    def remove(self, key: tuple[str, str]) -> None:
        self.bytes -= len(self.records.pop(key, b""))


_here: Final[list[_Process]] = []
"""That of this process, whichever recorder writes: one that is replaced leaves what it began to the next."""


def _process() -> _Process:
    if not _here or _here[0].pid != os.getpid():
        _here[:] = [_Process()]
    return _here[0]


class BegunRecords:
    """Keeps them while a store takes spans. Safe from any thread."""

    def __init__(self, head: Callable[[], SegmentHead]) -> None:
        """`head` returns what the spans of this process have in common."""
        self._head = head

    def note(self, record: Record, payload: bytes) -> None:
        """Keep a record that begins something; forget the one whose end this is."""
        if is_begin(record):
            # Without its bodies where these are large: all of them are in memory.
            _process().add(begin_key(record), codec.encode(_slim(record)) if len(payload) > _LARGE_BYTES else payload)
        elif (process := _process()).records:
            process.remove(begin_key(record))

    def head(self) -> bytes:
        """Return the payload of a new segment's head; empty where it cannot be made. Never raises."""
        with _HEAD:
            process = _process()
            # Without content: what is erased meanwhile would come back with the next segment.
            records = map(codec.decode, list(process.records.values()))
            begun = [msgspec.Raw(codec.encode(without_content(record, keep_facts=False))) for record in records]
            return encode_frame_of(msgspec.structs.replace(self._head(), process=process.ident, begun=begun))
        return b""


def _slim(record: Record) -> Record:
    return msgspec.structs.replace(record, data=None) if isinstance(record, EventRecord) else without_bodies(record)


def is_begin(record: Record) -> bool:
    """Return whether a record is the first of something that ends with another one, and has a span that is sent."""
    if isinstance(record, CallRecord):
        return record.part == "started" and bool(record.sampled)
    if isinstance(record, SCOPE_TYPES):
        return record.end_ns is None and bool(record.sampled)
    return isinstance(record, EventRecord) and record.event_type in RUN_TYPES and bool(record.sampled)


def begin_key(record: Record) -> tuple[str, str]:
    """Return the key of the record that begins what this one is the begin or end of."""
    kind, ident = record_key(record)
    return kind, start_id(ident) if isinstance(record, EventRecord) and record.event_type not in RUN_TYPES else ident
