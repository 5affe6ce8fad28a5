"""Deferred ends: runs the ends of calls that are reported only by the garbage collector or the end of the process.

A finalizer may run anywhere, even while its thread holds a lock of the OpenTelemetry SDK or of callspan: ending a
span there can deadlock. So it only queues the call and wakes a thread. The ends are run by that thread, by a flush,
and at the end of the process, never during another call.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from callspan.background import Worker
from callspan.fail_open import fail_open
from callspan.frames import FRAMES

if TYPE_CHECKING:
    from callspan.observe.call import Call

_END: Final = fail_open("end a dropped stream")
_AT_EXIT_S: Final = 5.0
"""Seconds to wait at exit for ends that a thread is running."""


class DeferredEnds:
    """Calls whose ends are deferred to a background thread, and those whose response is open. Takes no lock."""

    def __init__(self, worker: Worker | None = None) -> None:
        """`worker` runs the ends; None: a new background worker."""
        self.worker = worker or Worker("callspan-deferred-ends")
        self._exit_registered = False
        self._tracked_in: int | None = None
        # Entries are removed when their call is collected. A WeakSet is not used because its changes take several
        # Python steps, between which another thread or a signal handler may run.
        self._open: dict[int, weakref.ref[Call]] = {}

    def note(self, call: Call) -> None:
        """Queue the end of `call` as of now. Safe in a finalizer.

        If a forked child drops its copy of a stream, the call continues in the parent.
        """
        if not call.ended and call.record.pid in (None, os.getpid()):
            self.put(partial(_end, call, call.offset_ns()))

    def put(self, work: Callable[[], object]) -> None:
        """Queue the rest of an interrupted end. Safe in a finalizer."""
        if not self._exit_registered:
            atexit.register(self.at_exit)
            self._exit_registered = True
        self.worker.put(work)

    def track(self, call: Call) -> None:
        """Track a call with an open response, which may be dropped or still be open at exit."""
        if self._tracked_in != os.getpid():
            # Calls that were open in the parent of a fork are ended by the parent.
            if not self._exit_registered:
                atexit.register(self.at_exit)
                self._exit_registered = True
            self._open = {}
            self._tracked_in = os.getpid()
        key, entries = id(call), self._open
        entries[key] = weakref.ref(call, lambda _: entries.pop(key, None))

    @property
    def under_way(self) -> bool:
        """True while a response of this process is open whose call has not ended."""
        return self._tracked_in == os.getpid() and any(not call.ended for call in self._calls())

    def at_exit(self) -> None:
        """End all open calls as closed, because the process ends."""
        self.end_open(_AT_EXIT_S)

    def end_open(self, timeout_s: float) -> None:
        """End every call whose response is open as closed; wait for those being ended on other threads."""
        deadline = time.monotonic() + timeout_s
        FRAMES.drain(timeout_s)
        if self._tracked_in == os.getpid():
            for call in self._calls():
                self.note(call)
        self.drain(max(0.0, deadline - time.monotonic()))

    def drain(self, timeout_s: float = _AT_EXIT_S) -> bool:
        """Wait for every queued end, and what came over websockets; False on timeout."""
        deadline = time.monotonic() + timeout_s
        ended = FRAMES.drain(timeout_s)
        return self.worker.drain(max(0.0, deadline - time.monotonic())) and ended

    def _calls(self) -> list[Call]:
        return [call for entry in list(self._open.values()) if (call := entry()) is not None]


def _end(call: Call, at_ns: int) -> None:
    with _END:
        call.leave(at_ns)
