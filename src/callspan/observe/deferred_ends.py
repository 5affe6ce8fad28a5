"""Deferred ends: runs the ends of calls that only the garbage collector or the process end report.

A finalizer may run anywhere, even while its thread holds a lock of the OpenTelemetry SDK or of callspan: ending a
span there can deadlock. So it only queues the call and wakes a thread. That thread, a flush, or the end of the
process runs the ends, never another call. The thread also writes the first version of long calls.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from callspan.runtime.background import Worker
from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import fail_open
from callspan.runtime.forks import exit_left_s, first_at_exit, in_child
from callspan.runtime.lock_free import AtomicFlag

if TYPE_CHECKING:
    from callspan.observe.call import Call
    from callspan.record.call import ErrorInfo

_END: Final = fail_open("end a dropped stream")
_WRITE: Final = fail_open("write the first version of a call")
_AT_EXIT_S: Final = 5.0
"""Seconds to wait at exit for ends that a thread is running."""
_LONG_S: Final = 1.0
"""Only longer calls have a first version, so that short ones do not pay for it."""


class DeferredEnds:
    """The open calls of a process, and their deferred ends and first versions. Takes no lock."""

    def __init__(self) -> None:
        self.worker = Worker("callspan-deferred-ends")
        self._exit_registered = False
        self._unwatched = AtomicFlag(is_set=True)
        """Set while no check of the open calls is scheduled."""
        in_child(self, DeferredEnds.forget_watch)
        # Not a WeakSet: its changes take several Python steps, and another thread or a signal handler may run between
        # them.
        self._calls: dict[int, weakref.ref[Call]] = {}

    def note(self, call: Call, error: ErrorInfo | None = None) -> None:
        """Queue the end of `call` as of now, with the error of its answer if there is one. Safe in a finalizer.

        If a forked child drops its copy of a stream, the call continues in the parent.
        """
        if not call.ended and call.record.pid in (None, os.getpid()):
            self.put(partial(_end, call, call.offset_ns(), error))

    def put(self, work: Callable[[], object]) -> None:
        """Queue an interrupted end. Safe in a finalizer."""
        self.worker.put(work)

    def track(self, call: Call) -> None:
        """Track a call from its start until it is collected."""
        if not self._exit_registered:
            first_at_exit(self._end_at_exit)
            self._exit_registered = True
        # Removed by a built-in: an interrupt within a Python callback would be lost.
        self._calls[id(call)] = weakref.ref(call, partial(self._calls.pop, id(call)))
        if self._unwatched or self.worker.is_idle:
            self._watch()

    def forget_watch(self) -> None:
        """Note in a forked child that no check is scheduled: its worker starts without work."""
        self._unwatched.set()

    def _watch(self) -> None:
        self._unwatched.test_and_clear()
        self.worker.put_later(_LONG_S, self._write_long_calls)

    def _write_long_calls(self) -> None:
        self._unwatched.set()
        waiting = [_try_to_write(call) for call in self.open_calls()]
        if any(waiting):
            self._watch()

    @property
    def under_way(self) -> bool:
        """True while a call of this process has not ended."""
        return bool(self.open_calls())

    def end_open(self, timeout_s: float) -> None:
        """Presume that every call that has not ended is left; wait for those being ended on other threads."""
        deadline = monotonic_s() + timeout_s
        for call in self.open_calls():
            self.put(partial(_presume_left, call, call.offset_ns()))
        self.drain(max(0.0, deadline - monotonic_s()))

    def _end_at_exit(self) -> None:
        self.end_open(exit_left_s(_AT_EXIT_S))

    def drain(self, timeout_s: float = _AT_EXIT_S) -> bool:
        """Wait for every queued end; False on timeout."""
        return self.worker.drain(timeout_s)

    def open_calls(self, most: int = sys.maxsize) -> list[Call]:
        """Return the calls of this process that have not ended, of at most so many that began last."""
        entries = list(self._calls.values())[-most:]
        calls = [call for entry in entries if (call := entry()) is not None and not call.ended]
        # Calls of a fork's parent continue there.
        return [call for call in calls if call.record.pid == os.getpid()]


def _try_to_write(call: Call) -> bool:
    """Write the first version of a call that is long; return whether to try again later."""
    if call.offset_ns() < _LONG_S * 1e9:
        return True
    with _WRITE:
        return call.write_first_version_from_worker()
    return False


def _presume_left(call: Call, at_ns: int) -> None:
    with _END:
        call.presume_left(at_ns)


def _end(call: Call, at_ns: int, error: ErrorInfo | None) -> None:
    with _END:
        if error is None:
            call.leave(at_ns)
        else:
            call.end(None, error=error, at_ns=at_ns)
