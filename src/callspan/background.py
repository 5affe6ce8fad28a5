"""Background: starts callspan's threads, and defers work to one of them.

A background thread runs in an empty context with OpenTelemetry's instrumentation suppressed: what it does (SQL, HTTP,
files) belongs to no request of the application and makes no span.

OpenTelemetry's spans, instruments and span processors have plain locks. A signal handler that has interrupted their
holder and comes to the same lock waits for ever. So a thread is in one such section at a time; work that a handler adds
meanwhile is done by a background thread, or by the next thread that enters a section.
"""

from __future__ import annotations

import _thread
import atexit
import logging
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import Context
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final, Generic, TypeAlias, TypeVar

from callspan.fail_open import fail_open, log, ours, report, unwaited
from callspan.forks import in_child

_IDLE_S: Final = 1.0
_POLL_S: Final = 0.002
_AT_EXIT_S: Final = 5.0
_MOST_STARTS: Final = 5
"""How often a thread is started in vain until the work is done without it."""
_WORK: Final = fail_open("do what was put off to a thread")
_START: Final = fail_open("start a thread")
_SUPPRESS: Final = fail_open("suppress instrumentation in a background thread")
_SHORTEST_S: Final = 0.05
_LONGEST_S: Final = 30.0
_K = TypeVar("_K")
_V = TypeVar("_V")

_A = TypeVar("_A")
_B = TypeVar("_B")

_IN_ORDER_S: Final = 1.0
"""Seconds for which a section waits for what was deferred before it and is being done."""

SPAN, RECORD, MEASUREMENT, TOTALS = "span", "record", "measurement", "totals"
Tokens: TypeAlias = dict[str, bool]
TOKENS: Final[Tokens] = dict.fromkeys((SPAN, RECORD, MEASUREMENT, TOTALS), True)
"""What an end may do once: before each it takes the token. After an interrupt it runs again from its start.

So what can be repeated, as everything that is only computed, comes before the token is taken.
"""
RunAgain: TypeAlias = Callable[[Callable[[], object], Mapping[str, bool]], object]
"""Takes an end that was interrupted, and the tokens it has left: has it run again soon, on another thread."""

_MOST_RUNS: Final = 4
"""How often a worker begins a piece of work that is interrupted each time."""
_pending: Final[list[None]] = []
"""Not empty where something may have been deferred since `drain_deferred`."""


class _Thread(threading.Thread):
    # A `run` of its own: instrumentations that wrap `threading.Thread.run` attach the context of the starting thread.
    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._run_target = target

    def run(self) -> None:
        target, self._run_target = self._run_target, bool
        _here.is_ours = True
        run_apart(target)


def not_again(end: Callable[[], object], tokens: Mapping[str, bool]) -> None:
    """Leave an interrupted end as it is."""
    del end, tokens


def thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Return a daemon thread, not started, that runs `target` in an empty context with instrumentation suppressed."""
    return _Thread(target, name)


def run_apart(target: Callable[[], object]) -> None:
    """Run `target` in an empty context, with instrumentation suppressed where OpenTelemetry's context allows it."""
    Context().run(_run_suppressed, target)


class _ThreadState(threading.local):
    """State of each thread. Its attributes are read without a call of a function."""

    busy = False
    is_ours = False


_here: Final = _ThreadState()


def on_own_thread() -> bool:
    """Return whether the running thread was started by `thread`: it may wait, also for a store."""
    return _here.is_ours


def _run_suppressed(target: Callable[[], object]) -> None:
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
    except unwaited():
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

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in it."""
        return threading.current_thread() is self._thread

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
        except unwaited() as error:
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
        except ours(KeyError):
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


def frames_of(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frame and its callers. What runs is certain from them only: an interrupt may leave any mark behind."""
    while frame is not None:
        yield frame
        frame = frame.f_back


class _Claim:
    """Says which running frame does a piece of work. It holds as long as that frame runs."""

    __slots__ = ("_frame", "done", "thread", "work")

    def __init__(self, work: Callable[[], object], frame: FrameType) -> None:
        self.work = work
        self.thread = threading.get_ident()
        self._frame = id(frame)
        self.done = False

    @property
    def is_held(self) -> bool:
        """Whether the frame still runs. An interrupt may have ended it before it could give the claim back."""
        return any(id(frame) == self._frame for frame in frames_of(sys._current_frames().get(self.thread)))


class Worker:
    """Work that is done soon, or at a given time, by a thread that exists while there is some.

    No method takes a lock, so all may be called from signal handlers; `put` also from finalizers. In a forked child
    there is nothing to do: the work is the parent's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin()
        in_child(self, Worker._begin)

    def _begin(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        self._later: dict[object, tuple[float, Callable[[], object]]] = {}
        self._wake: SimpleQueue[None] = SimpleQueue()
        # The thread that clears it starts the worker, which sets it again as it ends.
        self._unstarted = AtomicFlag(is_set=True)
        # An interrupt may set that one beside a thread that runs. Of two threads the one that clears this one works.
        self._vacant = AtomicFlag(is_set=True)
        self._working: dict[int, _Claim] = {}
        """By the id of the work, which the claim keeps alive."""
        self._runs: dict[int, int] = {}
        """How often what waits was interrupted, by its id."""

    def put(self, work: Callable[[], object]) -> None:
        """Have `work` done soon: once, and again where an interrupt came in its middle, four times at most."""
        self._waiting.append(work)
        self._ensure_thread()

    def put_later(self, delay_s: float, work: Callable[[], object]) -> None:
        """Have `work` done after a delay, or by `drain(later=True)`."""
        self._later[object()] = (time.monotonic() + delay_s, work)
        self._ensure_thread()

    def drain(self, timeout_s: float, *, later: bool = False) -> bool:
        """Do what waits, here, and wait for what other threads are doing; False if that took longer than the time.

        `later` True: also what is not due yet.
        """
        deadline = time.monotonic() + timeout_s
        if later:
            self._take_due(float("inf"))
        me = threading.get_ident()
        while True:
            self._work_off()
            if all(claim.thread == me for claim in list(self._working.values())):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)

    def _work_off(self) -> None:
        self._release_abandoned()
        while self._waiting:
            try:
                work = self._waiting[0]
            except ours(IndexError):
                return
            if not self._do(work):
                return

    def _do(self, work: Callable[[], object]) -> bool:
        """Do one piece of work unless another thread has it; False where the thread itself was interrupted in it."""
        claim = _Claim(work, sys._getframe())
        # Whatever interrupts, and wherever: the claim ends with this frame, and what was not done waits again.
        try:
            holder = self._working.setdefault(id(work), claim)
            if holder is not claim:
                time.sleep(0)
                self._release_abandoned()
                return holder.thread != claim.thread
            if work in self._waiting:
                self._waiting.remove(work)
                with _WORK:
                    work()
            claim.done = True
            return True
        finally:
            self._release(claim)

    def _release_abandoned(self) -> None:
        """Give back what threads had claimed that were interrupted just before they gave it back."""
        for claim in list(self._working.values()):
            if not claim.is_held:
                self._release(claim)

    def _release(self, claim: _Claim) -> None:
        # The claim goes last: another interrupt leaves it to be found.
        key = id(claim.work)
        if self._working.get(key) is claim:
            runs = 0 if claim.done else self._runs.get(key, 0) + 1
            if 0 < runs < _MOST_RUNS:
                self._runs[key] = runs
                if claim.work not in self._waiting:
                    self._waiting.appendleft(claim.work)
            else:
                self._runs.pop(key, None)
            self._working.pop(key, None)

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
        try:
            if not self._unstarted.test_and_clear():
                return
            # Not `Thread.start`: that waits for the new thread, which may wait for a lock that the code a finalizer
            # or a signal handler has interrupted holds.
            _thread.start_new_thread(self._start, ())
        except ours(RuntimeError):
            self._unstarted.set()  # the interpreter is ending: `drain` does the work
        except BaseException:
            self._unstarted.set()
            raise

    def _start(self) -> None:
        with _START:
            thread(self._run_on, self._name).start()
            return
        self._unstarted.set()

    def _run_on(self) -> None:
        if not self._vacant.test_and_clear():
            return
        try:
            self._run()
        except unwaited() as error:
            # The next thread continues.
            self._leave()
            if self._waiting or self._later:
                self._ensure_thread()
            _say(report, _WORK.what, error)

    def _leave(self) -> None:
        self._vacant.set()
        self._unstarted.set()

    def _run(self) -> None:
        idle_at = time.monotonic() + _IDLE_S
        while True:
            following = self._take_due(time.monotonic())
            if self._working:
                self._release_abandoned()
            if self._waiting:
                self._work_off()
                idle_at = time.monotonic() + _IDLE_S
                continue
            now = time.monotonic()
            if following is None and now >= idle_at:
                self._leave()
                # What was put here meanwhile has found a thread that was still there.
                if not ((self._waiting or self._later) and self._unstarted.test_and_clear()):
                    return
                if not self._vacant.test_and_clear():
                    return
                idle_at = now + _IDLE_S
                continue
            self._sleep(max(0.0, (idle_at if following is None else following) - now))

    def _sleep(self, seconds: float) -> None:
        try:
            self._wake.get(timeout=seconds)
        except Empty:
            return


class OwnThread(Worker):
    """Work that only its own thread does, because it may wait for a store: `drain` waits for that thread.

    A thread that cannot be started, at the end of the interpreter, leaves the work to `drain`.
    """

    def __init__(self, name: str, at_exit_s: float = _AT_EXIT_S) -> None:
        super().__init__(name)
        self._at_exit_s = at_exit_s
        self._exit_unregistered = AtomicFlag(is_set=True)

    def put(self, work: Callable[[], object]) -> None:
        """Have `work` done soon: once, and again where an interrupt came in its middle."""
        if self._exit_unregistered.test_and_clear():
            atexit.register(self.drain, self._at_exit_s)
        super().put(work)

    def drain(self, timeout_s: float, *, later: bool = False) -> bool:
        """Wait until the thread has done what waits; False if that took longer."""
        deadline = time.monotonic() + timeout_s
        unstarted = 0
        while self._waiting or self._working:
            if self._unstarted and not self._working:
                self._ensure_thread()
                unstarted += 1
                if self._unstarted and unstarted > _MOST_STARTS:
                    return super().drain(timeout_s, later=later)
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True


LOOK_UPS: Final = OwnThread("callspan-look-ups")
"""Asks stores what this process does not know."""


_deferred: Final = Worker("callspan-deferred-telemetry")
_exit_unregistered: Final = AtomicFlag(is_set=True)


def run_reentrant(work: Callable[[_A, _B], object], first: _A, second: _B) -> None:
    """Do `work(first, second)`, which may wait for locks of OpenTelemetry, now or after what it has interrupted.

    What was deferred before is done first. Raises what `work` raises.
    """
    if _here.busy and _is_interrupted():
        if _exit_unregistered:
            atexit.register(drain_deferred, _AT_EXIT_S)
            _exit_unregistered.test_and_clear()
        _deferred.put(partial(work, first, second))
        _pending.append(None)
        return
    try:
        _here.busy = True
        if _pending:
            _drain_deferred(_IN_ORDER_S)
        work(first, second)
    finally:
        _here.busy = False


def drain_deferred(timeout_s: float) -> bool:
    """Do what was deferred, and wait for what is being done; False if the time ran out.

    In a signal handler that has interrupted a section nothing can be done before the handler returns: False at once.
    """
    if _here.busy and _is_interrupted():
        return not _pending
    return _drain_deferred(timeout_s)


def _drain_deferred(timeout_s: float) -> bool:
    # Cleared first: what is deferred from now on is pending again.
    _pending.clear()
    done = _deferred.drain(timeout_s)
    if not done:
        _pending.append(None)
    return done


def _is_interrupted() -> bool:
    """Whether a section of this thread is really below: an interrupt may have left its mark behind."""
    # The first two are this function and our caller, which is about to enter a section itself.
    return any(frame.f_code is run_reentrant.__code__ for frame in islice(frames_of(sys._getframe()), 2, None))
