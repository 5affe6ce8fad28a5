"""Recent: the entries of a segment that were read last, so that several stores read and decode each of them once."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final

from callspan.spool.sink import Entry

_MOST_BYTES: Final = 1 << 20
_MOST_S: Final = 2.0
"""For so long it is kept in memory, also where another process erases it from the segment meanwhile."""
_START: Final = attrgetter("start")


class Recent:
    """A bounded stretch of one segment. Safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.reading = threading.Lock()
        """Held by the one thread that reads on in the segment; the others then find what it has read."""
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._start = self._end = 0
        self._size = 0
        self._since = clock() - 2 * _MOST_S

    def after(self, offset: int) -> tuple[Sequence[Entry], int]:
        """Return the entries from an offset on, and the offset to read on from; none, and the same, if it has none."""
        with self._lock:
            if not self._start <= offset < self._end or self._is_old():
                return (), offset
            return self._entries[bisect_left(self._entries, offset, key=_START) :], self._end

    def add(self, start: int, end: int, entries: Sequence[Entry]) -> None:
        """Add what was read from one offset to another, unless it lies before."""
        with self._lock:
            if start > self._end or self._is_old():
                self._begin_at(start)
                self._since = self._clock()
            if start == self._end:
                self._entries += entries
                self._size += sum(len(entry.payload) for entry in entries)
                self._end = end
                self._drop(0)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._begin_at(0)

    def discard_before(self, offset: int) -> None:
        """Forget what lies before an offset."""
        with self._lock:
            self._drop(offset)

    def _begin_at(self, offset: int) -> None:
        self._entries, self._size = [], 0
        self._start = self._end = offset

    def _is_old(self) -> bool:
        return self._clock() - self._since > _MOST_S

    def _drop(self, offset: int) -> None:
        """Forget what lies before an offset, and what is too much."""
        number = 0
        for entry in self._entries:
            if entry.end > offset and self._size <= _MOST_BYTES:
                break
            number += 1
            self._size -= len(entry.payload)
            self._start = entry.end
        del self._entries[:number]
