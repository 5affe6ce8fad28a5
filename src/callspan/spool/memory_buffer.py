"""Memory buffer: records that wait in memory while no disk takes them. Bounded: the oldest are dropped, counted."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque

from callspan.spool.segment import Batch
from callspan.spool.sink import Entry


class MemoryBuffer:
    """A source in memory. Safe from any thread; nothing of it survives the process."""

    def __init__(self, max_bytes: int) -> None:
        self.name = f"memory-{uuid.uuid4().hex}"
        self.end = 0
        self.sealed = False
        self.own = True
        self.keys: frozenset[str] | None = None
        self.cursors: dict[int, int] = {}
        self.passed: dict[int, int] = {}
        self.readers = 0
        self.created_ns = time.time_ns()
        self.caught_up_ns: dict[int, int] = {}
        self.dropped = 0
        """Records given up for newer ones before every sink had them."""
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._lock = threading.RLock()

    def append(self, payload: bytes) -> bool:
        """Keep a record, dropping the oldest for it; False if it alone is too large."""
        with self._lock:
            if len(payload) > self._max_bytes:
                self.dropped += 1
                return False
            while self._bytes + len(payload) > self._max_bytes:
                self._bytes -= len(self._entries.popleft().payload)
                self.dropped += 1
            end = self.end + len(payload)
            self._entries.append(Entry(self.name, self.end, end, payload))
            self._bytes += len(payload)
            self.end = end
            return True

    @property
    def waiting(self) -> bool:
        """Whether a record is here."""
        return bool(self._entries)

    def batch(self, offset: int, entries: int, size: int) -> Batch:
        """Return entries from `offset` on; what was dropped meanwhile is passed over."""
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
