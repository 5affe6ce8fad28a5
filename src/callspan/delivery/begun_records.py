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

from callspan.process.content import without_bodies
from callspan.record import codec
from callspan.record.call import CallRecord
from callspan.record.events import AGENT_START, SCOPE_TYPES, TOOL_START, EventRecord, Record, record_key, start_id
from callspan.record.span_frames import SegmentHead, encode_frame_of

_STARTS: Final = frozenset({AGENT_START, TOOL_START})
_LARGE_BYTES: Final = 16_384
_MOST: Final = 4096
"""More are not kept: the oldest of what never ends makes room."""


class BegunRecords:
    """Keeps them while a store takes spans. Safe from any thread; a fork begins without those of its parent."""

    def __init__(self, head: Callable[[], SegmentHead]) -> None:
        """`head` returns what the spans of this process have in common."""
        self._head = head
        self._begin()

    def note(self, record: Record, payload: bytes) -> None:
        """Keep a record that begins something; forget the one whose end this is."""
        if os.getpid() != self._pid:
            self._begin()
        if is_begin(record):
            if len(self._records) >= _MOST:
                self._records.pop(next(iter(self._records)), None)
            # Without bodies where it is large: all of them go into the head of each segment.
            large = len(payload) > _LARGE_BYTES
            self._records[begin_key(record)] = codec.encode(without_bodies(record)) if large else payload
        else:
            self._records.pop(begin_key(record), None)

    def head(self) -> bytes:
        """Return the payload of a new segment's head."""
        if os.getpid() != self._pid:
            self._begin()
        begun = [msgspec.Raw(payload) for payload in list(self._records.values())]
        return encode_frame_of(msgspec.structs.replace(self._head(), process=self._process, begun=begun))

    def _begin(self) -> None:
        self._pid, self._process = os.getpid(), uuid.uuid4().hex
        self._records: dict[tuple[str, str], bytes] = {}


def is_begin(record: Record) -> bool:
    """Return whether a record is the first of something that ends with another one, and has a span that is sent."""
    if isinstance(record, CallRecord):
        return record.part == "started" and bool(record.sampled)
    if isinstance(record, SCOPE_TYPES):
        return record.end_ns is None and bool(record.sampled)
    return isinstance(record, EventRecord) and record.event_type in _STARTS and bool(record.sampled)


def begin_key(record: Record) -> tuple[str, str]:
    """Return the key of the record that begins what this one is the begin or end of."""
    kind, ident = record_key(record)
    return kind, start_id(ident) if isinstance(record, EventRecord) and record.event_type not in _STARTS else ident
