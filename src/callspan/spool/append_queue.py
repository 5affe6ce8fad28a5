"""Append queue: the records of one spool on their way to the disk. What interrupts the writing of one loses none."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, TypeAlias

from callspan.fail_open import fail_open

Slim: TypeAlias = Callable[[], bytes]
"""Gives a record without its bodies."""
Keep: TypeAlias = Callable[[bytes, Slim | None], bool]
"""Writes one record; False where it was dropped, and counted."""

_TRIES: Final = 2
"""How often the writing of one record may be interrupted before it is given up."""
_APPEND: Final = fail_open("keep a record")


class _Waiting:
    """A record on its way to the disk."""

    __slots__ = ("kept", "payload", "slim", "tries")

    def __init__(self, payload: bytes, slim: Slim | None) -> None:
        self.payload = payload
        self.slim = slim
        self.tries = 0
        self.kept: bool | None = None
        """Whether it is kept; None while that is open."""


class AppendQueue:
    """Writes records one at a time, under `lock`, in the order they come. Safe from any thread and signal handler.

    A record leaves the queue after it is written: where a signal handler raises in between, or makes a call of its own,
    the next writer writes what is left, perhaps a second time.
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
            # A signal handler has interrupted an append of its own thread, which goes on with this record too.
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
