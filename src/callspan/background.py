"""Background: starts callspan's threads, and passes work to one of them.

A background thread runs in an empty context with OpenTelemetry's instrumentation suppressed: what it does (SQL, HTTP,
files) belongs to no request of the application and makes no span, and calls made there are not recorded.
"""

from __future__ import annotations

import _thread
import atexit
import logging
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context, ContextVar
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

from callspan.fail_open import fail_open, log, report
from callspan.forks import in_child

_IDLE_S: Final = 1.0
_AT_EXIT_S: Final = 5.0
_LOOK_S: Final = 0.05
_WORK: Final = fail_open("do work in the background")
_START: Final = fail_open("start a thread")
_SUPPRESS: Final = fail_open("suppress instrumentation in a background thread")
_SHORTEST_S: Final = 0.05
_LONGEST_S: Final = 30.0
_K = TypeVar("_K")
_V = TypeVar("_V")


class _Thread(threading.Thread):
    # A `run` of its own: instrumentations that wrap `threading.Thread.run` attach the context of the starting thread.
    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._run_target = target

    def run(self) -> None:
        target, self._run_target = self._run_target, bool
        _here.is_ours = True
        run_apart(target)


def thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Return a daemon thread, not started, that runs `target` in an empty context with instrumentation suppressed."""
    return _Thread(target, name)


def run_apart(target: Callable[[], object]) -> None:
    """Run `target` in an empty context, with instrumentation suppressed where OpenTelemetry's context allows it."""
    Context().run(_run_suppressed, target)


class _ThreadState(threading.local):
    is_ours = False


_here: Final = _ThreadState()


def on_own_thread() -> bool:
    """Return whether the running thread was started by `thread`: it may wait, also for a store."""
    return _here.is_ours


_APART: Final[ContextVar[bool]] = ContextVar("callspan_apart", default=False)
is_apart: Final = _APART.get
"""Return whether work of callspan's own runs here, in a thread or by `run_apart`: its calls are not recorded."""


def _run_suppressed(target: Callable[[], object]) -> None:
    _APART.set(True)
    stack = ExitStack()
    with _SUPPRESS:
        # No import: lower layers do not depend on OpenTelemetry; where it is not imported yet, nothing is traced.
        utils = sys.modules.get("opentelemetry.instrumentation.utils")
        if utils is not None:
            stack.enter_context(utils.suppress_instrumentation())
    try:
        target()
    finally:
        with _SUPPRESS:
            stack.close()


def _say(say: Callable[..., object], *values: object) -> None:
    """Log in a thread of callspan's own that ends: a log handler that raises reaches no caller here."""
    try:
        say(*values)
    except BaseException:  # noqa: BLE001 - no caller waits for it
        return


class LastingThread:
    """A background thread that is started again if an exception ends it, after a pause that grows to 30 s."""

    def __init__(
        self,
        target: Callable[[], object],
        name: str,
        died: Callable[[str, str], object],
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """`died` is called with the thread's name and the exception's type; `pause` waits before the next start."""
        self._target = target
        self._name = name
        self._died = died
        self._pause = pause
        self.deaths = 0
        self._thread = thread(self._run, name)

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether it runs."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> bool:
        """Return whether it has ended within the time, or was never started."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _run(self) -> None:
        if self.deaths:
            self._pause(min(_LONGEST_S, _SHORTEST_S * 2.0 ** min(self.deaths, 16)))
        try:
            self._target()
        except BaseException as error:  # noqa: BLE001 - a callback of the application may raise `SystemExit`
            if not sys.is_finalizing():
                self._start_again(type(error).__name__)

    def _start_again(self, kind: str) -> None:
        self.deaths += 1
        with _START:
            self._thread = thread(self._run, self._name)
            self._thread.start()
        _say(log, logging.WARNING, "The thread %s was ended by %s and is started again", self._name, kind)
        with _START:
            self._died(self._name, kind)


class AtomicFlag(dict[str, bool]):
    """A flag of which exactly one, of several threads and signal handlers, sees that it was set. Takes no lock.

    True while it is set, as from the start with `AtomicFlag(is_set=True)`. It is a dictionary: setting and popping an
    item are one step each, under the interpreter's lock, and asking for its truth calls no function.
    """

    __slots__ = ()

    def set(self) -> None:
        """Set the flag; safe in a finalizer."""
        self["is_set"] = True

    def test_and_clear(self) -> bool:
        """Clear the flag; return True to the one caller who has cleared it."""
        return self.pop("is_set", False)


class LRUCache(Generic[_K, _V]):
    """A bounded mapping; the entries that were not used for longest are evicted first.

    Lock-free, because a signal handler could wait for a lock of the thread it interrupted: each step is atomic in C.
    """

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        """Return the value, or None. The entry becomes the newest."""
        value = self._known.get(key)
        if value is not None:
            self._renew(key)
        return value

    def put(self, key: _K, value: _V) -> None:
        """Keep a value as the newest."""
        known = self._known
        known.pop(key, None)
        known[key] = value
        if len(known) > self._limit:
            known.popitem(last=False)

    def claim(self, key: _K, value: _V) -> bool:
        """Keep a value unless there is another one; return whether it is the one that is kept."""
        known = self._known
        mine = known.setdefault(key, value) is value
        self._renew(key)
        if len(known) > self._limit:
            known.popitem(last=False)
        return mine

    def _renew(self, key: _K) -> None:
        try:
            self._known.move_to_end(key)
        except KeyError:
            return  # evicted meanwhile

    def items(self) -> list[tuple[_K, _V]]:
        """Return all entries, oldest first."""
        # Keys are listed in one step; pairs are made one by one, and another thread may come in between.
        return [(key, value) for key in list(self._known) if (value := self._known.get(key)) is not None]

    def pop(self, key: _K) -> _V | None:
        """Remove and return the value, or None."""
        return self._known.pop(key, None)

    @contextmanager
    def forgotten(self) -> Iterator[None]:
        """Context manager: start empty and discard the block's entries afterwards. For tests."""
        before, self._known = self._known, OrderedDict()
        try:
            yield
        finally:
            self._known = before


class Worker:
    """Work that is done soon, or at a given time, by a thread that exists while there is some.

    No method takes a lock, so `put` and `put_later` may be called from signal handlers and finalizers. In a forked
    child there is nothing to do: the work is the parent's.
    """

    def __init__(self, name: str, at_exit_s: float = _AT_EXIT_S) -> None:
        """What waits when the process ends is given `at_exit_s` seconds."""
        self._name = name
        self._at_exit_s = at_exit_s
        self._exit_unregistered = AtomicFlag(is_set=True)
        self._begin()
        in_child(self, Worker._begin)

    def _begin(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        self._later: dict[object, tuple[float, Callable[[], object]]] = {}
        self._wake: SimpleQueue[None] = SimpleQueue()
        # Who clears it starts the thread, which sets it again as it ends.
        self._unstarted = AtomicFlag(is_set=True)
        self._working = 0
        """Id of the thread that does what waits; 0: none."""

    def put(self, work: Callable[[], object]) -> None:
        """Have `work` done soon, once."""
        if self._exit_unregistered.test_and_clear():
            atexit.register(self.drain, self._at_exit_s)
        self._waiting.append(work)
        self._ensure_thread()

    def put_later(self, delay_s: float, work: Callable[[], object]) -> None:
        """Have `work` done after a delay, or by `drain(later=True)`."""
        self._later[object()] = (time.monotonic() + delay_s, work)
        self._ensure_thread()

    def drain(self, timeout_s: float, *, later: bool = False) -> bool:
        """Wait until the thread has done what waits; False if that took longer. `later`: also what is not due yet.

        Where no thread can be started, at the end of the interpreter, the work is done here.
        """
        deadline = time.monotonic() + timeout_s
        if later:
            self._take_due(float("inf"))
        if not (self._waiting or self._working) or self._working == threading.get_ident():
            return True
        done = threading.Event()
        self._waiting.append(done.set)
        self._ensure_thread()
        while not done.wait(max(0.0, min(_LOOK_S, deadline - time.monotonic()))):
            if self._unstarted:
                self._work_off()
            elif time.monotonic() >= deadline:
                return False
        return True

    def _work_off(self) -> None:
        self._working = threading.get_ident()
        while self._waiting:
            with _WORK:
                self._waiting.popleft()()
        self._working = 0

    def _take_due(self, now: float) -> float | None:
        """Move what is due to what waits; return when the next is due, None where nothing is left."""
        following: float | None = None
        for key, (due, work) in list(self._later.items()):
            if due > now:
                following = due if following is None else min(following, due)
            elif self._later.pop(key, None) is not None:
                self._waiting.append(work)
        return following

    def _ensure_thread(self) -> None:
        self._wake.put(None)
        if not self._unstarted.test_and_clear():
            return
        # Not `Thread.start`: that waits for the new thread, which may wait for a lock that the code a finalizer
        # or a signal handler has interrupted holds.
        with _START:
            try:
                _thread.start_new_thread(self._start, ())
            except RuntimeError:
                self._unstarted.set()  # the interpreter is ending: `drain` does the work

    def _start(self) -> None:
        with _START:
            thread(self._run_on, self._name).start()
            return
        self._unstarted.set()

    def _run_on(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - a callback of the application may raise `SystemExit`
            self._working = 0
            self._unstarted.set()
            if self._waiting or self._later:
                self._ensure_thread()  # the next thread continues
            _say(report, _WORK.what, error)

    def _run(self) -> None:
        while True:
            following = self._take_due(time.monotonic())
            self._work_off()
            is_woken = self._sleep(_IDLE_S if following is None else following - time.monotonic())
            if not is_woken and following is None:
                self._unstarted.set()
                # What was put here meanwhile has found a thread that was still there.
                if not ((self._waiting or self._later) and self._unstarted.test_and_clear()):
                    return

    def _sleep(self, seconds: float) -> bool:
        """Return whether it was woken."""
        try:
            self._wake.get(timeout=max(0.0, seconds))
        except Empty:
            return False
        return True
