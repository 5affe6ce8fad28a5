"""Frames: the messages of websockets wait here, by reference, for the one thread of the process that reads them."""

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

MOST_BYTES: Final = 8 << 20
"""How much may wait, of all connections together."""
SMALL_BYTES: Final = MOST_BYTES >> 7
"""What may wait of each connection before they are added up, see `FrameQueue.has_room`."""
_NAP_S: Final = 0.01
_IDLE_S: Final = 5.0
_READ: Final = fail_open("read a message of a websocket")

Read: TypeAlias = Callable[[Any, int], object]
"""Takes a message, and when it came (monotonic nanoseconds). Called on the thread, for one message at a time."""


class WaitingBytes:
    """How much of one connection waits, in bytes. `added` is written where it is received, `taken` where it is read."""

    __slots__ = ("added", "taken")

    def __init__(self) -> None:
        self.added = self.taken = 0


class FrameQueue:
    """What was received and not read yet. No method but `drain` waits, so all others may be called anywhere.

    Who receives a message appends `(read, message, when)` to `waiting` if there is room, and calls `rouse` if `resting`
    is set. In a forked child nothing waits: it is the parent's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.waiting: Final[deque[tuple[Read, Any, int]]] = deque()
        self.resting: Final = AtomicFlag(is_set=True)
        """Set while the thread sleeps or there is none; not set while it looks again soon by itself."""
        self.waiting_bytes: Final[dict[int, WaitingBytes]] = {}
        """Of the open connections, by id."""
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
        """Whether the thread is at work on what has waited."""

    def put(self, read: Read, message: object) -> None:
        """Have a message read soon."""
        self.waiting.append((read, message, time.perf_counter_ns()))
        if self.resting:
            self.rouse()

    def has_room(self) -> bool:
        """Whether what was added last may wait; called only where more than `SMALL_BYTES` of its connection wait."""
        return sum(one.added - one.taken for one in list(self.waiting_bytes.values())) <= MOST_BYTES

    def rouse(self) -> None:
        """Wake the thread, or start one."""
        # What `test_and_clear` does, without a frame of Python.
        if not self.resting.pop("is_set", False):
            return
        if not self._unstarted.pop("is_set", False):
            self._wake.put(None)
            return
        try:
            # Not `Thread.start`, which waits for the new thread.
            _thread.start_new_thread(self._start, ())
        except RuntimeError:
            self._rest()  # the interpreter is ending: `drain` reads

    def drain(self, timeout_s: float) -> bool:
        """Wait until what was received so far is read; False if that took longer. At once on the thread itself."""
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
"""Those of this process."""
