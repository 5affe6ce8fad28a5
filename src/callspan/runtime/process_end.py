"""Process end: sends buffered spans when a process ends without `atexit`, because OpenTelemetry relies on `atexit`.

Servers such as uvicorn raise SIGTERM again after their own clean-up. If the signal has its default action, callspan's
handler first ends open streams and sends spans; then the default action follows, with the same exit status. A gunicorn
worker may reset the signal after the fork, so callspan sets its handler again there.

A forked worker of multiprocessing also ends without `atexit`, and drops the finalizers of its parent. A finalizer is
therefore registered at the first call of each process, when the library has set up the worker. Workers of a fork server
import callspan after the fork, and nothing else tells them from other processes. Celery's prefork workers run no
finalizers; Celery's own signal announces their end.
"""

from __future__ import annotations

import _thread
import atexit
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from callspan.runtime.background import run_isolated
from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import fail_open
from callspan.runtime.forks import in_child
from callspan.runtime.lock_free import AtomicFlag

_FLUSH: Final = fail_open("send spans before SIGTERM ends the process")
_LOOK: Final = fail_open("find gevent's hub")
_WATCH: Final = fail_open("handle SIGTERM in a worker of gunicorn")
_FLUSH_S: Final = 3.0
_POLL_S: Final = 0.005
_flushes: Final[list[Callable[[float], object]]] = []
_pending_signals: Final[list[int]] = []
"""The signal received during `atexit`, when Python 3.12 cannot start threads; a second one takes effect at once."""
_exit_unregistered: Final = AtomicFlag(is_set=True)
_WATCHED: Final = "_callspan_watches"
_REGISTER: Final = fail_open("register a finalizer in a forked worker")
_FLUSH_WORKER: Final = fail_open("send the spans of a forked worker")
_DELIVER: Final = fail_open("deliver the records of a forked worker")
_LIBRARIES: Final = ("multiprocessing", "billiard")
"""billiard is Celery's fork of multiprocessing."""
_DELIVER_S: Final = 2.0
_AFTER_SPOOL: Final = 50


def flush_before(flush: Callable[[float], object]) -> None:
    """Call `flush(seconds)` before SIGTERM ends this process; replaces an earlier function.

    No effect if this is not the main thread, or the application handles the signal, unless it is a uvicorn server.
    """
    _flushes[:] = [flush]
    in_child(_watch_gunicorn_worker, lambda watch: watch())
    _handle()


def _handle() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        if _exit_unregistered:
            atexit.register(_at_exit)
            _exit_unregistered.test_and_clear()
        signal.signal(signal.SIGTERM, _end)
    else:
        _watch_uvicorn(getattr(signal.getsignal(signal.SIGTERM), "__self__", None))


def _watch_gunicorn_worker() -> None:
    """In a forked child: set the handler again after a gunicorn worker has set its own.

    A worker sets its handlers after the fork and then loads the application. Uvicorn's workers reset SIGTERM to the
    default action, and raise it again at their end, as uvicorn itself does.
    """
    with _WATCH:
        worker = getattr(sys.modules.get("gunicorn.workers.base"), "Worker", None)
        load = getattr(worker, "load_wsgi", None)
        if worker is None or load is None or hasattr(load, _WATCHED):
            return

        @functools.wraps(load)
        def load_wsgi(*arguments: object, **keywords: object) -> object:
            application = load(*arguments, **keywords)
            with _WATCH:
                if _flushes:
                    _handle()
            return application

        setattr(load_wsgi, _WATCHED, True)
        worker.load_wsgi = load_wsgi


def _watch_uvicorn(server: Any) -> None:
    """Flush when a uvicorn server that handles the signal has shut down.

    A running server that loads the application, as with workers, a reloader or a factory, has set its handler first.
    At its end it restores the default action and raises the signal again.
    """
    with _WATCH:
        kind = getattr(sys.modules.get("uvicorn.server"), "Server", None)
        if kind is None or not isinstance(server, kind) or hasattr(server.shutdown, _WATCHED):
            return
        shutdown = server.shutdown

        @functools.wraps(shutdown)
        async def shut_down(*arguments: object, **keywords: object) -> None:
            await shutdown(*arguments, **keywords)
            # Also called if the application stops the server and continues.
            if signal.SIGTERM in getattr(server, "_captured_signals", ()):
                _flush_in_time()

        setattr(shut_down, _WATCHED, True)
        server.shutdown = shut_down


def forget() -> None:
    """Restore the default action of the signal if callspan's handler is installed."""
    _flushes.clear()
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _end:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, frame: object) -> None:
    del frame
    if (gevent := _gevent_in_hub()) is not None:
        gevent.spawn(_flush_and_die, number)
        return
    if not _flush_in_time() and not _pending_signals:
        _pending_signals.append(number)
        return
    _die(number)


def _gevent_in_hub() -> Any:
    """Return gevent if its hub runs this handler, as all greenlets wait: code in the hub must not block."""
    gevent = sys.modules.get("gevent")
    with _LOOK:
        return gevent if gevent is not None and gevent.getcurrent() is gevent.get_hub() else None
    return None


def _flush_in_time() -> bool:
    """Flush on another thread, for a limited time; False if no thread can be started."""
    # The interrupted code may hold any lock, also the one that starting a `threading.Thread` takes.
    ends: list[bool] = []
    try:
        _thread.start_new_thread(_flush_on_thread, (ends,))
    except RuntimeError:
        return False
    with _FLUSH:
        deadline = monotonic_s() + _FLUSH_S
        while not ends and monotonic_s() < deadline:
            time.sleep(_POLL_S)
    return True


def _at_exit() -> None:
    if _pending_signals:
        _flush_and_die(_pending_signals[0])


def _flush_and_die(number: int) -> None:
    with _FLUSH:
        run_isolated(_flush)
    _die(number)


def _die(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _flush_on_thread(ends: list[bool]) -> None:
    try:
        run_isolated(_flush)
    finally:
        ends.append(True)


def _flush() -> None:
    for flush in tuple(_flushes):
        with _FLUSH:
            flush(_FLUSH_S)


class ForkedWorkers:
    """Calls `flush` at the end of each forked worker that makes a call. Thread-safe."""

    __slots__ = ("__weakref__", "_deliver", "_flush", "unregistered")

    def __init__(self, flush: Callable[[float], object], deliver: Callable[[float], object]) -> None:
        self._flush = flush
        """Sends spans within a number of seconds."""
        self._deliver = deliver
        """Delivers records within a number of seconds, in workers where the spool does not do so itself."""
        self.unregistered = AtomicFlag(is_set=True)
        """Set in each process until its first call."""
        in_child(self, ForkedWorkers.in_forked_child)

    def in_forked_child(self) -> None:
        """Begin as a forked child."""
        self.unregistered.set()

    def first_call(self) -> None:
        """Register finalizers in a worker, once."""
        if self.unregistered.test_and_clear():
            with _REGISTER:
                self._register()

    def _register(self) -> None:
        is_worker = False
        for library in _LIBRARIES:
            util, process = sys.modules.get(f"{library}.util"), sys.modules.get(f"{library}.process")
            # Both libraries identify a forked worker only by the name of its process object.
            if util is not None and process is not None and process.current_process().name != "MainProcess":
                util.Finalize(None, self._end, exitpriority=_AFTER_SPOOL)
                is_worker = True
        celery = sys.modules.get("celery.signals")
        if celery is not None and is_worker:
            celery.worker_process_shutdown.connect(self._end_in_celery, weak=False, dispatch_uid="callspan")

    def _end_in_celery(self, **signal_arguments: object) -> None:
        del signal_arguments
        with _DELIVER:
            self._deliver(_DELIVER_S)
        self._end()

    def _end(self) -> None:
        with _FLUSH_WORKER:
            self._flush(_FLUSH_S)
