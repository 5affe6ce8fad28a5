"""Memory buffer: a bounded source of records while the disk cannot be written; it drops the oldest."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque

from callspan.spool.segment import Batch, Source
from callspan.spool.sink import Entry


class MemoryBuffer(Source):
    """A source in memory. Safe from any thread; lost when the process ends."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"memory-{uuid.uuid4().hex}", time.time_ns())
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
