"""Background: starts callspan's threads, and a worker that runs functions on one.

Background threads run in an empty context with OpenTelemetry's instrumentation suppressed: their SQL, HTTP and file
operations belong to no request of the application and create no spans, and calls made there are not recorded.
"""

from __future__ import annotations

import _thread
import atexit
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import Context, ContextVar
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Final

from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import fail_open, report
from callspan.runtime.forks import exit_left_s, in_child
from callspan.runtime.lock_free import AtomicFlag
from callspan.runtime.nothing import nothing

_IDLE_S: Final = 1.0
_EXIT_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.05
_WORK: Final = fail_open("do work in the background")
_START: Final = fail_open("start a thread")
_SUPPRESS: Final = fail_open("suppress instrumentation in a background thread")


class _Thread(threading.Thread):
    # Overrides `run`, because instrumentations wrap `threading.Thread.run` to attach the starting thread's context.
    def __init__(self, target: Callable[[], object], name: str, stop: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self._run_target, self.stop = target, stop

    def start(self) -> None:
        if _ENDING:
            raise RuntimeError("the interpreter is ending")
        super().start()

    def run(self) -> None:
        target, self._run_target = self._run_target, nothing
        _current.is_own = True
        try:
            run_isolated(target)
        finally:
            self.stop = nothing


def thread(target: Callable[[], object], name: str, *, stop: Callable[[], object]) -> threading.Thread:
    """Return a new daemon thread that runs `target` in an empty context with instrumentation suppressed.

    `stop` has `target` return soon. It is called as a subinterpreter ends.
    """
    return _Thread(target, name, stop)


def _end_threads() -> None:
    """End every thread as a subinterpreter ends: Python aborts the process if one outlives it."""
    # As the process ends, no other thread runs any more, and none could be joined.
    if sys.is_finalizing() or not _is_subinterpreter():
        return
    _ENDING.set()
    while running := [worker_thread for worker_thread in threading.enumerate() if isinstance(worker_thread, _Thread)]:
        for worker_thread in running:
            worker_thread.stop()
        for worker_thread in running:
            worker_thread.join(_POLL_S)


def _is_subinterpreter() -> bool:
    # Not by Python's module for them: it counts references to an interpreter, and to give back the last one ends it.
    try:
        ctypes = import_module("ctypes")  # not for subinterpreters of Python 3.12 with a lock of their own
        python = ctypes.pythonapi
        python.PyInterpreterState_Get.restype = ctypes.c_void_p
        return bool(python.PyInterpreterState_GetID(ctypes.c_void_p(python.PyInterpreterState_Get())))
    except (ImportError, AttributeError):  # the second: not CPython
        return False


atexit.register(_end_threads)  # the first one, which runs last


def run_isolated(target: Callable[[], object]) -> None:
    """Run `target` in an empty context with instrumentation suppressed."""
    Context().run(_run_suppressed, target)


class _ThreadState(threading.local):
    is_own = False


_current: Final = _ThreadState()


def on_own_thread() -> bool:
    """Return whether the running thread was started by `thread`, so that it may block, for example on a store."""
    return _current.is_own


_ISOLATED: Final[ContextVar[bool]] = ContextVar("callspan_isolated", default=False)
is_isolated: Final = _ISOLATED.get
"""Return whether the running code is callspan's own, in a thread or by `run_isolated`: its calls are not recorded."""


def _run_suppressed(target: Callable[[], object]) -> None:
    _ISOLATED.set(True)
    stack = ExitStack()
    with _SUPPRESS:
        # Not imported here, because lower layers do not depend on OpenTelemetry; without it nothing is traced.
        utils = sys.modules.get("opentelemetry.instrumentation.utils")
        if utils is not None:
            stack.enter_context(utils.suppress_instrumentation())
    try:
        target()
    finally:
        with _SUPPRESS:
            stack.close()


_ENDING: Final = AtomicFlag()
"""Set once a subinterpreter ends: then no thread is started."""


class Worker:
    """Runs functions soon, or after a delay, on a thread that exists while there is work.

    No method takes a lock, so `put` and `put_later` may be called from signal handlers and finalizers. A forked child
    starts without work.
    """

    def __init__(self, name: str, exit_timeout_s: float = _EXIT_TIMEOUT_S) -> None:
        """`exit_timeout_s` limits the time for waiting work at the end of the process."""
        self._name = name
        self._exit_timeout_s = exit_timeout_s
        self._exit_unregistered = AtomicFlag(is_set=True)
        self.discard_work()
        in_child(self, Worker.discard_work)

    def discard_work(self) -> None:
        """Begin without work and without a thread, as a forked child does."""
        self._waiting: deque[Callable[[], object]] = deque()
        self._later: dict[Callable[[], object], float] = {}
        self._wake: SimpleQueue[None] = SimpleQueue()
        self.is_idle = AtomicFlag(is_set=True)
        """Set while no thread runs, for lack of work or because none could be started. Whoever clears it starts one."""
        self._is_stopping = False
        self._working = 0
        """Id of the thread that runs waiting work, else 0."""

    def put(self, work: Callable[[], object]) -> None:
        """Run `work` soon, once."""
        if self._exit_unregistered.test_and_clear():
            atexit.register(self._drain_at_exit)
        self._waiting.append(work)
        self._ensure_thread()

    def put_later(self, delay_s: float, work: Callable[[], object]) -> None:
        """Run `work` once after a delay, or in `drain(later=True)`. If it already waits, the delay starts again."""
        self._later[work] = monotonic_s() + delay_s
        self._ensure_thread()

    def drain(self, timeout_s: float, *, later: bool = False) -> bool:
        """Wait until all waiting work has run; return False on timeout. `later` includes work that is not due yet.

        If no thread can be started, at the end of the interpreter, the work runs on the calling thread.
        """
        deadline = monotonic_s() + timeout_s
        if later:
            self._take_due(float("inf"))
        if not (self._waiting or self._working) or self._working == threading.get_ident():
            return True
        completion = threading.Event()
        self._waiting.append(completion.set)
        self._ensure_thread()
        while not completion.wait(max(0.0, min(_POLL_S, deadline - monotonic_s()))):
            if self.is_idle:
                self._work_off()
            elif monotonic_s() >= deadline:
                return False
        return True

    def _drain_at_exit(self) -> None:
        self.drain(exit_left_s(self._exit_timeout_s))

    def _work_off(self) -> None:
        self._working = threading.get_ident()
        while self._waiting:
            with _WORK:
                self._waiting.popleft()()
        self._working = 0

    def _take_due(self, now_s: float) -> float | None:
        """Move due work to the waiting work; return the due time of the next, or None."""
        next_due_s: float | None = None
        for work, due_s in list(self._later.items()):
            if due_s > now_s:
                next_due_s = due_s if next_due_s is None else min(next_due_s, due_s)
            elif self._later.pop(work, None) is not None:
                self._waiting.append(work)
        return next_due_s

    def _ensure_thread(self) -> None:
        self._wake.put(None)
        if _ENDING or not self.is_idle.test_and_clear():
            return
        # Not `Thread.start`: it waits for the new thread, which may wait for a lock held by the code that this
        # finalizer or signal handler interrupted.
        with _START:
            try:
                _thread.start_new_thread(self._start, ())
            except RuntimeError:
                self.is_idle.set()  # the interpreter is ending: `drain` runs the work

    def _start(self) -> None:
        with _START:
            thread(self._run_on, self._name, stop=self._stop).start()
            return
        self.is_idle.set()

    def _stop(self) -> None:
        self._is_stopping = True
        self._wake.put(None)

    def _run_on(self) -> None:
        try:
            self._run()
        except BaseException as error:  # a callback of the application may raise `SystemExit`
            self._working = 0
            self.is_idle.set()
            if self._waiting or self._later:
                self._ensure_thread()  # the next thread continues
            report(_WORK.what, error)

    def _run(self) -> None:
        while True:
            next_due_s = self._take_due(monotonic_s())
            self._work_off()
            if self._is_stopping:
                self.is_idle.set()
                return
            is_woken = self._sleep(_IDLE_S if next_due_s is None else next_due_s - monotonic_s())
            if not is_woken and next_due_s is None:
                self.is_idle.set()
                # Work added in the meantime found a running thread and did not start one.
                if not ((self._waiting or self._later) and self.is_idle.test_and_clear()):
                    return

    def _sleep(self, seconds: float) -> bool:
        """Return whether it was woken."""
        try:
            self._wake.get(timeout=max(0.0, seconds))
        except Empty:
            return False
        return True
