"""Frames: a queue of received websocket messages, and the thread that reads them."""

from __future__ import annotations

import _thread
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias

from callspan.background import AtomicFlag, thread
from callspan.fail_open import fail_open, report
from callspan.forks import in_child

MAX_BYTES: Final = 8 << 20
"""Maximum number of waiting bytes, of all connections together."""
SMALL_BYTES: Final = MAX_BYTES >> 7
"""Number of waiting bytes of one connection that needs no check, see `FrameQueue.has_room`."""
_NAP_S: Final = 0.01
_IDLE_S: Final = 5.0
_READ: Final = fail_open("read a message of a websocket")

Read: TypeAlias = Callable[[Any, int], object]
"""Called on the thread with one message and the time of its receipt (monotonic nanoseconds)."""


class WaitingBytes:
    """Byte counters of one connection: the receiving thread writes `added`, the reading thread `taken`."""

    __slots__ = ("added", "taken")

    def __init__(self) -> None:
        self.added = self.taken = 0


class FrameQueue:
    """Messages that were received and not read yet. Only `drain` blocks; all other methods may be called anywhere.

    The receiver of a message appends `(read, message, time_ns)` to `waiting` if there is room, and calls `rouse` if
    `resting` is set. A forked child starts with an empty queue.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.waiting: Final[deque[tuple[Read, Any, int]]] = deque()
        self.resting: Final = AtomicFlag(is_set=True)
        """Set while there is no thread, or it sleeps until it is woken."""
        self.waiting_bytes: Final[dict[int, WaitingBytes]] = {}
        """The counters of the open connections, by id."""
        self._unstarted: Final = AtomicFlag(is_set=True)
        self._renew()
        in_child(self, FrameQueue._renew)

    def _renew(self) -> None:
        self.waiting.clear()
        self.resting.set()
        self._unstarted.set()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._reader = 0
        self.reading = False
        """Whether a message is being read."""

    def put(self, read: Read, message: object) -> None:
        """Add a message."""
        self.waiting.append((read, message, time.perf_counter_ns()))
        if self.resting:
            self.rouse()

    def has_room(self) -> bool:
        """Return whether the last message may wait; called if its connection has more than `SMALL_BYTES` waiting."""
        return sum(one.added - one.taken for one in list(self.waiting_bytes.values())) <= MAX_BYTES

    def rouse(self) -> None:
        """Wake the thread, or start one."""
        # `test_and_clear` inlined, to save the call.
        if not self.resting.pop("is_set", False):
            return
        if not self._unstarted.pop("is_set", False):
            self._wake.put(None)
            return
        try:
            # Not `Thread.start`, which waits for the new thread.
            _thread.start_new_thread(self._start, ())
        except RuntimeError:
            self._rest()  # the interpreter is ending: `drain` reads the messages

    def drain(self, timeout_s: float) -> bool:
        """Wait until all messages received so far are read; return False on timeout. A no-op on the thread itself."""
        if not (self.waiting or self.reading) or threading.get_ident() == self._reader:
            return True
        is_read = _thread.allocate_lock()
        is_read.acquire()
        self.put(lambda *_: is_read.release(), None)
        self._wake.put(None)
        if self._unstarted.test_and_clear():  # no thread can be started, or none has been yet
            try:
                self._read_all()
            finally:
                self._rest()
        return is_read.acquire(timeout=max(0.0, timeout_s))

    def _rest(self) -> None:
        self._unstarted.set()
        self.resting.set()

    def _start(self) -> None:
        with _READ:
            thread(self._run, self._name).start()
            return
        self._rest()

    def _run(self) -> None:
        self._reader = threading.get_ident()
        while True:
            self._read_all()
            self._sleep(_NAP_S)
            if self.waiting:
                continue
            self.resting.set()
            if self.waiting:
                self.resting.test_and_clear()
                continue
            if self._sleep(_IDLE_S) or not self.resting.test_and_clear():
                continue
            self._reader = 0
            self._rest()
            if self.waiting:
                self.rouse()
            return

    def _sleep(self, seconds: float) -> bool:
        """Return whether it was woken."""
        try:
            self._wake.get(timeout=seconds)
        except Empty:
            return False
        return True

    def _read_all(self) -> None:
        try:
            while self.waiting:
                self.reading = True
                try:
                    read, message, at_ns = self.waiting.popleft()
                except IndexError:
                    return
                try:
                    read(message, at_ns)
                except BaseException as error:  # noqa: BLE001 - a callback of the application may raise `SystemExit`
                    report(_READ.what, error)
        finally:
            self.reading = False


FRAMES: Final = FrameQueue("callspan-frames")
