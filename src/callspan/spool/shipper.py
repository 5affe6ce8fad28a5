"""Shipper: a thread for each store, which delivers independently of all others.

After a failure it closes the sink, waits (50 ms, doubling to 30 s, with jitter), reopens it and delivers the batch
again.
"""

from __future__ import annotations

import logging
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from callspan.runtime.background import thread
from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import fail_open, log, report
from callspan.spool.delivering import Delivery, Destination, NoFreeConnectionError, reason
from callspan.spool.directory import Target
from callspan.spool.segment import Segment, lines_of

if TYPE_CHECKING:
    from callspan.spool.spool import Spool

_MIN_WAIT_S: Final = 0.05
_MAX_WAIT_S: Final = 30.0
_LINGER_S: Final = 0.5
"""Time to collect a batch, because a batch costs far more than each of its records."""
_SHARED_LINGER_S: Final = 2.0
"""The same for a server, which hundreds of processes may share."""
_KEEP_OPEN_S: Final = 0.2
"""Time without records after which the connection to a server is closed, so that others can have it."""
_UNTIL_FREE_S: Final = 0.25
_MAX_UNTIL_FREE_S: Final = 8.0
"""Time between two tries to get a connection of a server that has none to spare: it doubles from the first to this."""
_PATIENCE_S: Final = 60.0
"""Time without a free connection after which that is logged as a failure."""
_IDLE_S: Final = 5.0
_SEARCH_S: Final = 5.0
"""Interval between searches for segments of ended processes."""
_WARN_S: Final = 300.0
"""A reason is logged once in this time, even if the store recovers and fails again."""
_MAX_REASONS: Final = 4
"""Maximum number of reasons logged in that time."""
_VARYING: Final = re.compile(r"\S*\d\S*")
"""Words of a reason that differ from one failure to the next, such as an address with its port, or an id."""
_CHANCE: Final = random.SystemRandom()


def _kind_of(error: BaseException, why: str) -> tuple[type[BaseException], str]:
    """Return what failures for one reason have in common: the system's error without the file, or the usual words."""
    if isinstance(error, OSError) and error.strerror:
        return type(error), error.strerror
    return type(error), _VARYING.sub("", why)


@contextmanager
def _surviving(what: str) -> Iterator[None]:
    """Report any exception of a store's code on its thread, which receives no interrupts."""
    try:
        yield
    except BaseException as error:  # a store may raise `SystemExit`
        report(what, error)


class SinkState(NamedTuple):
    """The state of one store, for reports."""

    name: str
    delivered: int
    """Number of records that this process has delivered to it."""
    retried: int
    """Number of failures followed by a retry."""
    rejected: int
    given_up: int
    """Number of records that this process gave up for it at the cap."""
    oldest_s: float | None
    """Seconds that the oldest record waits; None if none waits."""


class Shipper:
    """Delivers the segments of a spool to one store, on its own daemon thread."""

    def __init__(self, target: Target, make: Callable[[], Destination], spool: Spool) -> None:
        """`make` returns the unopened sink. It runs on the thread, because it imports the store's driver."""
        self.target = target
        self.delivered = self.retried = self.failures = 0
        self.woken = False
        """Whether it was woken since its last round; set by callers of `wake`."""
        self._orphaned: Iterator[Path] = iter(())
        self._search_at = 0.0
        self._make, self._spool = make, spool
        self._delivery: Delivery | None = None
        self._using = threading.Lock()
        """Held while the sink is in use, and during a fork."""
        self._is_forking = False
        self._is_stopping = self._is_urgent = False
        # Unlike an Event, it may be used in a signal handler that interrupts another `put`.
        self._signals: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.wake: Final = partial(self._signals.put, None)
        self._crowded_since, self._refusals = 0.0, 0
        """Monotonic time since when the server has had no free connection, 0 if it has; the number of tries since."""
        self._failing_since = self._warn_at = 0.0
        """Monotonic time of the first logged failure; 0 if it works or no failure was logged."""
        self._reasons = set[tuple[type[BaseException], str]]()
        """The reasons logged before `_warn_at`, without their numbers."""
        self._thread = thread(self._run, f"callspan-{target.name}", stop=self.stop)

    def start(self) -> None:
        """Start the thread, once. Raises RuntimeError if that is impossible now."""
        if not self.is_started:
            self._thread.start()

    @property
    def is_started(self) -> bool:
        """Whether the thread was started."""
        return self._thread.ident is not None

    def deliver_now(self, *, searches: bool = False) -> None:
        """Deliver now, even while waiting after a failure; `searches`: also segments of closed spools."""
        self._search_at = 0.0 if searches else self._search_at
        self.woken = self._is_urgent = True
        self.wake()

    def stop(self) -> None:
        """End the thread after the current batch."""
        self._is_stopping = True
        self.wake()

    def join(self, timeout_s: float) -> bool:
        """Return whether the thread ended within the timeout or was never started."""
        if self.is_started:
            self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def key(self, segment: Path) -> str:
        """Return the short name of the store's cursor for a segment."""
        return self.target.key(segment.parent.parent)

    def count_pending(self, segment: Segment) -> int:
        """Return the number of records of a segment that the store lacks."""
        key = self.key(segment.path)
        lines = lines_of(segment.path, segment.cursor(key)) if segment.has_pending(key) else ()
        return sum(bool(line.payload) for line in lines)

    def state(self) -> SinkState:
        """Return the state of the store."""
        since_ns = self._spool.waits_since_ns(self.target)
        age_s = None if since_ns is None else max(0.0, time.time() - since_ns / 1e9)
        name, totals = self.target.name, self._spool.losses.totals
        rejected, given_up = totals("rejected").get(name, 0), totals("given_up").get(name, 0)
        return SinkState(name, self.delivered, self.retried, rejected, given_up, age_s)

    @property
    def is_left_open_at_fork(self) -> bool:
        """Whether the sink may be open during a fork; False for one that is still being created."""
        delivery = self._delivery
        return delivery is not None and not delivery.sink.closes_before_fork

    def close_before_fork(self, deadline: float) -> bool:
        """Close a sink that may not be open during a fork; False if it stays in use until the deadline."""
        if self.is_left_open_at_fork:
            return True
        if not self._using.acquire(timeout=max(0.0, deadline - monotonic_s())):
            return False
        self._is_forking = True
        self._close()
        return True

    def release_after_fork(self) -> None:
        """Let the parent's thread continue."""
        if self._is_forking:
            self._is_forking = False
            self._using.release()

    def _run(self) -> None:
        while not self._is_stopping:
            self.woken = self._is_urgent = False
            try:
                if not self._round():
                    self._idle()
            except BaseException as error:  # a store may raise `SystemExit`, and records wait
                report(f"deliver records to {self.target.name}", error, level=logging.DEBUG)
                self._recover(error)
        self._close_alone()

    def _round(self) -> bool:
        """Deliver the segments of this process, oldest first, and one of an ended process if there is any."""
        self._spool.tidy()
        for segment in self._spool.segments():
            self._ship_all(segment)
        has_delivered = self._ship_orphaned()
        self.failures = 0
        self._crowded_since, self._refusals = 0.0, 0
        if self._failing_since:
            since, self._failing_since = self._failing_since, 0.0
            log(logging.WARNING, "%s accepts records again, after %.1f s", self.target.name, monotonic_s() - since)
        return has_delivered

    def _ship_all(self, segment: Segment) -> None:
        key = self.key(segment.path)
        has_more = key in segment.keys
        while has_more and not self._is_stopping:
            has_more = self._ship(segment, key)

    def _ship_orphaned(self) -> bool:
        """Deliver the next segment of an ended process or closed spool; return whether there was one.

        Only one is open at a time.
        """
        now_s = monotonic_s()
        if now_s >= self._search_at:
            self._search_at, self._orphaned = now_s + _SEARCH_S, self._spool.orphaned_segments()
        for path in self._orphaned:
            segment = self._spool.adopt(path)
            if segment is not None:
                try:
                    if segment.has_pending(self.key(path)):
                        self._ship_all(segment)
                        return True
                finally:
                    segment.release()
        return False

    def _ship(self, segment: Segment, key: str) -> bool:
        """Deliver a batch; return whether the segment has more."""
        delivery = self._get_delivery()
        with self._using:
            result = delivery.deliver(segment, key)
        self.delivered += result.records
        for kind, number in result.lost.items():
            self._spool.losses.add(kind, self.target.name, number, directory=segment.path.parent)
        if not result.has_more:
            self._spool.remove_if_delivered(segment)
        return result.has_more

    def _get_delivery(self) -> Delivery:
        """Return the delivery. Creating it takes no lock, because a fork must not wait for the import of a driver."""
        if self._delivery is None:
            self._delivery = Delivery(self.target.name, self._make())
        return self._delivery

    def _recover(self, error: BaseException) -> None:
        if isinstance(error, NoFreeConnectionError) and self._has_patience():
            self._wait_for_connection()
            return
        longest_s = min(_MAX_WAIT_S, _MIN_WAIT_S * 2.0 ** min(self.failures, 16))
        self.failures += 1
        self.retried += 1
        self._search_at = 0.0  # the segment that failed may be an ended process's, which only a search finds
        self._close_alone()
        with _surviving(f"warn of {self.target.name}"):  # its error may have no text
            self._warn(error)
        self._spool.notify()
        self._sleep(longest_s * _CHANCE.uniform(0.5, 1.0))

    def _has_patience(self) -> bool:
        """Return whether to keep waiting for a free connection; waiting is no failure."""
        now_s = monotonic_s()
        self._crowded_since = self._crowded_since or now_s
        return now_s - self._crowded_since < _PATIENCE_S

    def _wait_for_connection(self) -> None:
        """Wait also while a flush waits: a server has to refuse each try of each of its many clients."""
        longest_s = min(_MAX_UNTIL_FREE_S, _UNTIL_FREE_S * 2.0 ** min(self._refusals, 16))
        self._refusals += 1
        self.retried += 1
        self._search_at = 0.0
        self._close_alone()
        self._sleep(longest_s * _CHANCE.uniform(0.5, 1.0), also_urgent=True)

    def _warn(self, error: BaseException) -> None:
        now_s, why = monotonic_s(), reason(error)
        if now_s >= self._warn_at:
            self._reasons.clear()
        kind = _kind_of(error, why)
        if kind in self._reasons or len(self._reasons) >= _MAX_REASONS:
            return
        # A server that is back, but refuses the password, takes another action than one that is down.
        self._reasons.add(kind)
        self._failing_since, self._warn_at = self._failing_since or now_s, now_s + _WARN_S
        text = "%s is unavailable (%s): records wait in %s; retrying"
        log(logging.WARNING, text, self.target.name, why, " and ".join(map(str, self._spool.waiting_directories())))

    def _close_alone(self) -> None:
        with _surviving(f"close {self.target.name}"), self._using:
            self._close()

    def _close(self) -> None:
        if self._delivery is not None:
            with fail_open(f"close {self.target.name}"):
                self._delivery.close()

    def _idle(self) -> None:
        self._spool.notify()
        if self._is_urgent or self._is_stopping:
            return
        if self._wait_for_records():
            self._sleep(_SHARED_LINGER_S if self._is_shared else _LINGER_S)

    def _wait_for_records(self) -> bool:
        """Wait for an append, for the idle time at most; return whether there was one."""
        if self._maintain():
            return self._wait(0.0)
        if self._is_shared:
            if self._wait(_KEEP_OPEN_S):
                return True
            self._close_alone()
        return self._wait(_IDLE_S)

    @property
    def _is_shared(self) -> bool:
        return self._delivery is not None and self._delivery.sink.is_shared

    def _maintain(self) -> bool:
        """Let the sink do maintenance; return whether it has more to do now."""
        if self._delivery is not None:
            with fail_open(f"maintain {self.target.name}"), self._using:
                return self._delivery.sink.maintain(self._spool.waiting(self.target))
        return False

    def _sleep(self, seconds: float, *, also_urgent: bool = False) -> None:
        """Wait regardless of appends. A stop ends the wait; so does a flush unless `also_urgent`."""
        self.woken = True
        deadline = monotonic_s() + seconds
        while (remaining_s := deadline - monotonic_s()) > 0 and not (
            self._is_stopping or (self._is_urgent and not also_urgent)
        ):
            self._wait(remaining_s)

    def _wait(self, seconds: float) -> bool:
        try:
            self._signals.get(timeout=seconds)
        except queue.Empty:
            return False
        return True
