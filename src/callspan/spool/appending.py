"""Appending: the queue of records to be written, and the segment they go to. An interrupted write loses none.

If the disk cannot be written they wait in a bounded memory buffer, which drops and counts the oldest.
"""

from __future__ import annotations

import errno
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from callspan.background import frames_of
from callspan.fail_open import fail_open, ours, reported
from callspan.spool.cap import Cap, WithoutBodies
from callspan.spool.segment import Batch, Segment
from callspan.spool.segment_set import SegmentSet
from callspan.spool.sink import Entry

Keep: TypeAlias = Callable[[bytes, WithoutBodies | None], bool]
"""Writes one record; False if it was dropped and counted."""

_TRIES: Final = 2
"""How often the write of one record may be interrupted before the record is dropped."""
_APPEND: Final = fail_open("keep a record")
_RETRY_S: Final = 1.0


class Queued(msgspec.Struct, eq=False):
    """A record to be written. A repeated append after an interrupt passes the same object, which is written once."""

    payload: bytes
    without_bodies: WithoutBodies | None
    tries: int = 0
    kept: bool | None = None
    """Whether it was written; None if not yet known."""


class AppendQueue:
    """Writes records one at a time, under `lock`, in the order they come. Safe from any thread and signal handler.

    A record is removed from the queue after it is written: if a signal handler raises or makes a call of its own in
    between, the next writer writes the rest, and may write a record twice.
    """

    def __init__(self, lock: threading.RLock, keep: Keep, lost: Callable[[str, bytes], object]) -> None:
        """`lost` counts a record that could not be written, by the reason."""
        self._lock = lock
        self._keep = keep
        self._lost = lost
        self._waiting: deque[Queued] = deque()
        self._writer = 0
        """Id of the thread that writes, or was interrupted in it; only that thread can rely on it."""

    def add(self, waiting: Queued) -> bool:
        """Write a record, or queue it if this interrupts another append; False if it was dropped."""
        if waiting.kept is None and waiting not in self._waiting:
            self._waiting.append(waiting)
        self.write()
        return waiting.kept is not False

    def write(self) -> None:
        """Write every queued record, including those whose append was interrupted."""
        if self._writer == threading.get_ident() and self._is_writing():
            # Called in a signal handler during an append of the same thread, which also writes this record.
            return
        with self._lock:
            self._write_all()

    def _is_writing(self) -> bool:
        return any(
            frame.f_code is AppendQueue._write_all.__code__ and frame.f_locals["self"] is self
            for frame in frames_of(sys._getframe())
        )

    def _write_all(self) -> None:
        self._writer = threading.get_ident()
        while self._waiting:
            first = self._waiting[0]
            if first.kept is None:  # else interrupted just before it was removed
                first.tries += 1
                try:
                    first.kept = first.tries <= _TRIES and self._keep(first.payload, first.without_bodies)
                except reported(_APPEND):
                    first.tries = _TRIES + 1
                if first.tries > _TRIES:
                    first.kept = False
                    self._lost("error", first.payload)
            self._waiting.popleft().payload = b""
        self._writer = 0


class SegmentWriter:
    """Appends frames to the active segment. Callers hold the lock of the spool."""

    __slots__ = ("_active", "_cap", "_directory", "_open_at", "_segments", "_sync", "used")

    def __init__(self, directory: Path, segments: SegmentSet, cap: Cap, *, sync: bool) -> None:
        """`sync`: fsync each frame before its append returns."""
        self.used = 0
        """Approximate bytes in the directory: as measured at the last segment, plus those written since."""
        self._directory = directory
        self._segments = segments
        self._cap = cap
        self._sync = sync
        self._active: Segment | None = None
        self._open_at = 0.0

    def write(self, frame: bytes) -> None:
        """Append one frame.

        Raises:
            OSError: the disk is full or not writable, or creating a file failed a moment ago.
        """
        segment = self._active
        if segment is None or segment.missing or segment.end + len(frame) > self._cap.segment_bytes:
            segment = self._rotate()
        try:
            segment.append(frame)
        except ours(OSError) as error:
            # If the file reached a size limit, another file can be written; on a full disk it cannot.
            if error.errno != errno.EFBIG or not segment.end:
                raise
            segment = self._rotate()
            segment.append(frame)
        if self._sync:
            segment.sync()
        self.used += len(frame)

    def seal(self) -> None:
        """Seal the active segment: the next frame goes to a new one."""
        segment, self._active = self._active, None
        if segment is None:
            return
        segment.seal()
        if self._segments.sinks == 0 or not segment.end:
            self._segments.release(segment)
        self._segments.remove_delivered(segment)

    def _rotate(self) -> Segment:
        if self._active is not None and not self._active.end and not self._active.missing:
            return self._active
        now = time.monotonic()
        if now < self._open_at:
            raise OSError(f"{self._directory} could not create a file a moment ago")
        try:
            segment = self._segments.create()
        except ours(OSError):
            self._open_at = now + _RETRY_S
            raise
        self._open_at = 0.0
        self.seal()
        self._active = segment
        # Other processes write here too, and their bytes count towards the cap.
        self.used = self._cap.measure()
        return segment


class MemoryBuffer:
    """A source in memory. Safe from any thread; lost when the process ends."""

    def __init__(self, max_bytes: int) -> None:
        self.name = f"memory-{uuid.uuid4().hex}"
        self.end = 0
        self.sealed = False
        self.own = True
        self.keys: frozenset[str] | None = None
        self.cursors: dict[int, int] = {}
        self.readers = 0
        self.created_ns = time.time_ns()
        self.caught_up_ns: dict[int, int] = {}
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._lock = threading.RLock()

    def append(self, payload: bytes) -> list[Entry]:
        """Add a record; return those dropped for it, the oldest first, or itself alone if it is too large."""
        with self._lock:
            entry = Entry(self.name, self.end, self.end + len(payload), payload)
            if len(payload) > self._max_bytes:
                return [entry]
            dropped: list[Entry] = []
            while self._bytes + len(payload) > self._max_bytes:
                dropped.append(self._entries.popleft())
                self._bytes -= len(dropped[-1].payload)
            self._entries.append(entry)
            self._bytes += len(payload)
            self.end = entry.end
            return dropped

    def entries(self) -> list[Entry]:
        """Return all records that are left."""
        with self._lock:
            return list(self._entries)

    @property
    def waiting(self) -> bool:
        """Whether it holds a record."""
        return bool(self._entries)

    def batch(self, offset: int, entries: int, size: int) -> Batch:
        """Return entries from `offset` on, skipping dropped ones."""
        taken: list[Entry] = []
        total = 0
        with self._lock:
            for entry in self._entries:
                if entry.start < offset:
                    continue
                total += len(entry.payload)
                if taken and (len(taken) >= entries or total > size):
                    break
                taken.append(entry)
            return Batch(taken, (), taken[-1].end if taken else max(offset, self.end))

    def discard_before(self, offset: int) -> None:
        """Free what lies before `offset`."""
        with self._lock:
            while self._entries and self._entries[0].end <= offset:
                self._bytes -= len(self._entries.popleft().payload)

    def remove(self) -> None:
        """Free everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def release(self) -> None:
        """Do nothing: there is no file."""
