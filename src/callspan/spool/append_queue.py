"""Append queue: the records of one spool that are to be written. An interrupted write loses none.

Where no disk takes them they wait in memory, which is bounded: the oldest are dropped, counted.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from callspan.fail_open import fail_open
from callspan.spool.segment import Batch
from callspan.spool.sink import Entry

Slim: TypeAlias = Callable[[], bytes]
"""Gives a record without its bodies."""
Keep: TypeAlias = Callable[[bytes, Slim | None], bool]
"""Writes one record; False where it was dropped, and counted."""

_TRIES: Final = 2
"""How often the writing of one record may be interrupted before it is given up."""
_APPEND: Final = fail_open("keep a record")


class _Waiting(msgspec.Struct, eq=False):
    """A record on its way to the disk."""

    payload: bytes
    slim: Slim | None
    tries: int = 0
    kept: bool | None = None
    """Whether it is kept; None while that is open."""


class AppendQueue:
    """Writes records one at a time, under `lock`, in the order they come. Safe from any thread and signal handler.

    A record leaves the queue after it is written: where a signal handler raises in between, or makes a call of its own,
    the next writer writes the rest, perhaps a second time.
    """

    def __init__(self, lock: threading.RLock, keep: Keep, counts: Counter[str]) -> None:
        self._lock = lock
        self._keep = keep
        self._counts = counts
        self._waiting: deque[_Waiting] = deque()
        self._writer = 0
        """The thread that is writing; of use to that thread alone."""

    def add(self, payload: bytes, slim: Slim | None) -> bool:
        """Write a record, or have it written by what is being interrupted; False if it was dropped."""
        waiting = _Waiting(payload, slim)
        self._waiting.append(waiting)
        self.write()
        return waiting.kept is not False

    def write(self) -> None:
        """Write every record that waits: this thread's, and those whose append was interrupted."""
        thread = threading.get_ident()
        if self._writer == thread:
            # A signal handler has interrupted an append of its own thread, which continues this record too.
            return
        with self._lock:
            self._writer = thread
            try:
                while self._waiting:
                    self._write_first(self._waiting[0])
                    self._waiting.popleft()
            finally:
                self._writer = 0

    def _write_first(self, waiting: _Waiting) -> None:
        if waiting.kept is not None:
            return  # interrupted just before it was taken off
        waiting.tries += 1
        if waiting.tries <= _TRIES:
            with _APPEND:
                waiting.kept = self._keep(waiting.payload, waiting.slim)
                return
        waiting.kept = False
        self._counts["dropped.error"] += 1


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
