"""Shipper: one thread per sink that delivers records from the spool to the sink, at its own pace.

After any failure it closes the sink, waits (50 ms, doubling to 30 s, with jitter), opens it again, and delivers the
batch again. A record that a sink can never store is found by bisecting the batch and set aside.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from callspan.background import LastingThread
from callspan.fail_open import Attempt, fail_open
from callspan.record.formats import OtherFormatError
from callspan.safe_urls import without_passwords
from callspan.spool.directory import count_records, write_cursor
from callspan.spool.segment import Batch, Segment, Source
from callspan.spool.segment_set import SegmentSet
from callspan.spool.sink import Backlog, Entry, Health, PoisonError, Sink, Tending

BATCH_BYTES: Final = 8 * 1024 * 1024
_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 30.0
_LINGER_S: Final = 0.5
"""For so long a batch accumulates: each costs its store much more than the records in it."""
_IDLE_S: Final = 5.0
_PATIENCE: Final = 5
_STUCK_S: Final = 30.0
"""A store that takes nothing for this time hangs. The longest wait without work is shorter."""
_ODD: Final = (
    PoisonError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError,
)  # fmt: skip
"""Exceptions caused by the data: a record that repeatedly raises one counts as poison."""

_CHANCE: Final = random.SystemRandom()
_KEEP_CURSOR: Final = fail_open("write a cursor; after a crash some records are delivered again")


def _ignore_death(name: str, error: str) -> None:
    """Do nothing: the thread has logged it."""


class SinkState(NamedTuple):
    """The state of one sink, for reports."""

    name: str
    lag_bytes: int
    """Bytes of waiting segments it does not have yet."""
    delivered: int
    """Entries delivered to it by this process."""
    retried: int
    """Failures followed by a retry."""
    dead_letters: int
    error: str | None
    """Text of the last failure; None once it accepts records again."""
    oldest_s: float | None = None
    """Maximum time in seconds that the oldest record has waited; None if none waits."""


class Shipper:
    """Delivers to one sink from its own daemon thread."""

    def __init__(
        self,
        number: int,
        sink: Sink,
        segments: SegmentSet,
        clock: Callable[[], float] = time.monotonic,
        died: Callable[[str, str], object] = _ignore_death,
    ) -> None:
        """`died` is called with the thread's name and an exception's type if that ends it; it is started again."""
        self.sink = sink
        self._tending: Tending | None = getattr(sink, "tending", None)
        self._clock = clock
        self.number = number
        self.delivered = 0
        self.retried = 0
        self.dead_letters = 0
        self.error: str | None = None
        self._segments = segments
        self._open = False
        self.has_opened = False
        """Whether its store could be opened before."""
        self.failures = 0
        self._refuses = False
        """Whether its last attempt failed; unlike `failures` False again with the first batch that it takes."""
        self.has_other_format = False
        """Whether its store was refused: it is tried again, but not waited for."""
        self._moved_at = clock()
        """When it last began a round or delivered something."""
        self._health = Health(sink.name, self._backlog, clock)
        self._stopping = False
        self.woken = False
        """Whether it was notified since it last looked; set by those who do so."""
        self._hurried = False
        # `put` may be interrupted by a signal handler that calls it again; an Event's lock would deadlock.
        self._signals: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.wake: Final = partial(self._signals.put, None)
        """Notifies the thread that there is something to deliver; safe from anywhere."""
        self._parked, self._unparked = threading.Event(), threading.Event()
        self._unparked.set()
        self._thread = LastingThread(self._run, f"callspan-{sink.name}", died, self._sleep)

    @property
    def name(self) -> str:
        """The sink's name."""
        return self.sink.name

    def is_failing(self) -> bool:
        """Return whether the sink takes no records now: it refuses them, or hangs."""
        return self._refuses or self._clock() - self._moved_at > _STUCK_S

    def start(self) -> None:
        """Start the thread."""
        self._moved_at = self._clock()
        self._segments.enter()
        self._thread.start()

    def hurry(self) -> None:
        """Deliver immediately, even while waiting after a failure."""
        self.woken = self._hurried = True
        self._signals.put(None)

    def stop(self) -> None:
        """Ask the thread to end after the current delivery."""
        self._stopping = True
        self._signals.put(None)

    def park(self) -> None:
        """Ask the thread to close its sink and wait for `unpark`, because nothing may be open across a fork."""
        self._parked.clear()
        self._unparked.clear()
        self._signals.put(None)

    def parked(self, timeout_s: float) -> bool:
        """Return whether the thread was parked or has ended within the time."""
        if self._thread.is_current:
            return False
        return not self._thread.is_alive() or self._parked.wait(max(0.0, timeout_s))

    def unpark(self) -> None:
        """Resume; the sink is opened again."""
        self._unparked.set()

    def join(self, timeout_s: float) -> bool:
        """Return whether the thread has ended within the time."""
        return self._thread.join(timeout_s)

    def state(self) -> SinkState:
        """Return the state of this sink."""
        lag = self._segments.lag(self.number)
        since = self._segments.oldest_ns(self.number)
        age_s = None if since is None else max(0.0, (time.time_ns() - since) / 1e9)
        return SinkState(self.sink.name, lag, self.delivered, self.retried, self.dead_letters, self.error, age_s)

    def _run(self) -> None:
        if self._thread.deaths:
            self._close()
        while not self._stopping:
            if not self._unparked.is_set():
                self._close()
                self._parked.set()
                self._unparked.wait()
            moved = self.woken = self._hurried = False
            attempt = Attempt(f"deliver records to {self.sink.name}")
            with attempt:
                moved = self._round()
            if attempt.error is not None:
                self._recover(attempt.error)
            elif not moved:
                self._rest()
        self._close()
        self._segments.leave()

    def _round(self) -> bool:
        self._moved_at = self._clock()
        self._segments.adopt()
        if not self._open:
            self.sink.open()
            self._open = self.has_opened = True
        moved = False
        for source in self._segments.sources():
            if not self._segments.wants(source, self.number):
                continue
            while self._unparked.is_set() and not self._stopping and self._ship(source):
                moved = True
        failures, self.failures, self.error = self.failures, 0, None
        self._refuses = self.has_other_format = False
        if failures:
            self._health.recovered()
        self._tend()
        return moved

    def _tend(self) -> None:
        """Do other work on the store, unless a thread waits for a delivery."""
        if self._tending is not None and not self._is_urgent() and self._tending.due_s() <= 0:
            self._tending.step(self._segments.waits_since_ns)

    def _ship(self, source: Source) -> bool:
        """Deliver one batch; return whether to deliver another one immediately."""
        self._tend()
        # Until it is delivered, no one else counts the rest of a source that is given up meanwhile.
        with self._segments.reading(source) as there:
            return there and self._ship_batch(source)

    def _ship_batch(self, source: Source) -> bool:
        cursor = self._segments.cursor(source, self.number)
        batch = self._read(source, cursor)
        if batch.end <= cursor:
            self._segments.caught_up(source, self.number)
            self._segments.remove_delivered(source)
            return False
        if batch.entries:
            self._deliver(source, batch.entries)
        self._move(source, batch.end)
        # A growing source is read again only when a batch has accumulated: following it record by record
        # would keep this thread, and the interpreter, busy for as long as there are calls.
        return source.sealed or bool(batch.gaps) or self._is_full(batch.end - cursor, len(batch.entries))

    def _read(self, source: Source, cursor: int) -> Batch:
        most = max(1, self.sink.batch_entries)
        batch = source.batch(cursor, most, BATCH_BYTES)
        if batch.gaps:
            # What another process erases at this moment looks damaged.
            batch = source.batch(cursor, most, BATCH_BYTES)
        for gap in batch.gaps:
            kept = source.read(gap) if isinstance(source, Segment) else b""
            self._segments.damaged(source, gap, kept)
        return batch

    def _is_full(self, size: int, entries: int) -> bool:
        return entries >= self.sink.batch_entries or size >= BATCH_BYTES // 2

    def _deliver(self, source: Source, entries: Sequence[Entry]) -> None:
        try:
            self.sink.deliver(entries)
        except _ODD as poison:
            if not isinstance(poison, PoisonError) and self.failures < _PATIENCE:
                raise
            if len(entries) > 1:
                middle = len(entries) // 2
                self._deliver(source, entries[:middle])
                self._deliver(source, entries[middle:])
                return
            self.sink.set_aside(entries[0], str(poison) or type(poison).__name__)
            self.dead_letters += 1
        else:
            self.delivered += len(entries)
            self._refuses = False
        self._move(source, entries[-1].end)

    def _move(self, source: Source, offset: int) -> None:
        """Note that the sink has a source up to an offset."""
        self._moved_at = self._clock()
        if self._segments.cursor(source, self.number) == offset:
            return
        if isinstance(source, Segment):
            # On a full disk delivery must continue, because it frees space.
            with _KEEP_CURSOR:
                write_cursor(self._segments.directory, source.name, self._segments.keys[self.number], offset)
        self._segments.advance(source, self.number, offset)

    def _recover(self, error: Exception) -> None:
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(self.failures, 16))
        # Before `retried`: a flush that sees the attempt counted knows that the sink is failing.
        self.failures += 1
        self.retried += 1
        self._refuses = True
        self.has_other_format = isinstance(error, OtherFormatError)
        self.error = without_passwords(f"{type(error).__name__}: {error}")
        self._close()
        self._health.failed(error)
        self._sleep(longest * _CHANCE.uniform(0.5, 1.0))

    def _backlog(self) -> Backlog:
        """Return the records that wait for this sink in the segments of this process."""
        directory = self._segments.directory
        waiting = self._segments.behind(self.number)
        records = sum(count_records(directory / name, offset) for name, offset in waiting)
        return Backlog(records, self._segments.oldest_ns(self.number), str(directory))

    def _close(self) -> None:
        self._open = False
        with fail_open(f"close {self.sink.name}"):
            if self._tending is not None:
                self._tending.close()
            self.sink.close()

    def _rest(self) -> None:
        idle_s = _IDLE_S if self._tending is None else min(_IDLE_S, max(0.0, self._tending.due_s()))
        if self._wait(idle_s):
            self._sleep(_LINGER_S)  # let a batch accumulate

    def _sleep(self, seconds: float) -> None:
        """Wait for the given time regardless of appends; a flush, a stop or a fork ends the wait."""
        self.woken = True  # no further notification by appends is needed
        deadline = self._clock() + seconds
        while (left := deadline - self._clock()) > 0 and not self._is_urgent():
            # May return immediately: a notification of an earlier append may be left.
            self._wait(left)

    def _is_urgent(self) -> bool:
        return self._hurried or self._stopping or not self._unparked.is_set()

    def _wait(self, seconds: float) -> bool:
        try:
            self._signals.get(timeout=seconds)
        except queue.Empty:
            return False
        return True
