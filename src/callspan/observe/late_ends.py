"""Late ends: ends that nobody but the garbage collector or the end of the process reports.

A finalizer may run anywhere, also while its thread holds a lock of the OpenTelemetry SDK or of ours:
ending a span there can deadlock. So it only notes the call and wakes a thread; nothing else is safe.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from queue import SimpleQueue

from callspan.fail_open import fail_open
from callspan.forks import renew_locks
from callspan.observe.live_call import LiveCall
from callspan.record.call import StreamEnd


class LateEnds:
    """Carries out ends on a thread of its own, started with the first call that may need it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[LiveCall, int, StreamEnd]] = deque()
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._carrying_out = threading.Lock()
        self._started_in: int | None = None
        self._open: weakref.WeakSet[LiveCall] = weakref.WeakSet()
        renew_locks(self, "_carrying_out")

    def note(self, call: LiveCall, how: StreamEnd) -> None:
        """Note that `call` has ended now. The only method that is safe in a finalizer.

        A forked child that drops its copy of a stream has ended nothing: the call goes on in the parent.
        """
        if not call.ended and call.record.pid in (None, os.getpid()):
            self._waiting.append((call, call.offset_ns(), how))
            self._wake.put(True)

    def follow(self, call: LiveCall) -> None:
        """Take care of a call whose response is still open: it may be dropped, or outlive the process."""
        if self._started_in != os.getpid():
            # A fork leaves the thread behind; and what was open in the parent is the parent's to end.
            if self._started_in is None:
                atexit.register(self.at_exit)
            self._open.clear()
            self._started_in = os.getpid()
            threading.Thread(target=self._run, name="callspan-late-ends", daemon=True).start()
        self._open.add(call)

    @property
    def under_way(self) -> bool:
        """True while a response of this process is open whose call has not ended."""
        with fail_open("look for streams that are being read"):
            return self._started_in == os.getpid() and not all(call.ended for call in list(self._open))
        return True

    def at_exit(self) -> None:
        """End what is still open as dropped: the process ends, nobody will read on."""
        self.drain()
        if self._started_in == os.getpid():
            for call in list(self._open):
                self.note(call, "dropped")
            self.drain()

    def drain(self) -> None:
        """Carry out every end noted so far, and wait for one being carried out on another thread."""
        with self._carrying_out:
            while self._waiting:
                call, at_ns, how = self._waiting.popleft()
                with fail_open("end a dropped stream"):
                    complete = call.stream_complete
                    call.end(
                        how="complete" if complete else how,
                        outcome="success" if complete else "cancelled",
                        at_ns=at_ns,
                    )

    def _run(self) -> None:
        mine = os.getpid()
        while os.getpid() == mine:
            self._wake.get()
            self.drain()
