"""Forked workers: how spans still in memory are sent when a forked worker of multiprocessing ends.

Such a worker ends without `atexit`, on which OpenTelemetry's providers rely, and forgets the finalisers of its
parent. So it is noticed at its first call, which reads the process id. Celery's prefork workers run
no finalisers either; a signal of Celery's own tells of their end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

from callspan.fail_open import fail_open

_ARM: Final = fail_open("see to the end of a forked worker")
_FLUSH: Final = fail_open("send the spans of a forked worker")
_DELIVER: Final = fail_open("deliver the records of a forked worker")
_LIBRARIES: Final = ("multiprocessing", "billiard")
"""billiard is Celery's own copy of multiprocessing."""
_FLUSH_S: Final = 3.0
_DELIVER_S: Final = 2.0
_AFTER_SPOOL: Final = 50


class ForkedWorkers:
    """Tells the process id, and has `flush` called at the end of a worker that was forked. Safe from any thread."""

    __slots__ = ("_deliver", "_flush", "_pid")

    def __init__(self, flush: Callable[[float], object], deliver: Callable[[float], object]) -> None:
        self._flush = flush
        """Sends spans; called with the seconds it may take."""
        self._deliver = deliver
        """Delivers records; likewise, and only where the spool does not see to it itself."""
        self._pid = os.getpid()

    def process_id(self) -> int:
        """Return the id of this process; in a child that is new here, see to its end first."""
        pid = os.getpid()
        if pid != self._pid:
            self._pid = pid
            with _ARM:
                self._arm()
        return pid

    def _arm(self) -> None:
        for library in _LIBRARIES:
            util, process = sys.modules.get(f"{library}.util"), sys.modules.get(f"{library}.process")
            # The name of a forked worker's process object is the one thing both libraries tell it by.
            if util is not None and process is not None and process.current_process().name != "MainProcess":
                util.Finalize(None, self._end, exitpriority=_AFTER_SPOOL)
        celery = sys.modules.get("celery.signals")
        if celery is not None:
            celery.worker_process_shutdown.connect(self._end_in_celery, weak=False, dispatch_uid="callspan")

    def _end_in_celery(self, **signal_arguments: object) -> None:
        del signal_arguments
        with _DELIVER:
            self._deliver(_DELIVER_S)
        self._end()

    def _end(self) -> None:
        with _FLUSH:
            self._flush(_FLUSH_S)
