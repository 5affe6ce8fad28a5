"""Spool: a record is appended as a line on the caller's thread; a thread for each store delivers it.

Nothing waits for a store. Forks, threads, `kill -9` and exits without clean-up lose nothing that was appended: another
process with the same stores, or a reading command, delivers the segments that an ended process has left.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from callspan import forks
from callspan.fail_open import fail_open, log, reported
from callspan.safe_urls import error_text
from callspan.spool import directory as places
from callspan.spool.delivering import Delivered
from callspan.spool.destination import Destination
from callspan.spool.directory import Target
from callspan.spool.losses import Kind, LossCounter, Losses, add_losses
from callspan.spool.segment import Segment, created_ns, line_of
from callspan.spool.shipper import Shipper, SinkState

SEGMENT_BYTES: Final = 16 << 20
_MIN_SEGMENTS: Final = 8
"""So many segments fit below the cap: what is given up is a part of it."""
_MAX_ADOPTED: Final = 8
_SCAN_S: Final = 5.0
_MAX_IN_MEMORY: Final = 64 << 20
"""The cap of a directory in shared memory."""
_MEASURE_S: Final = 0.1
_RETRY_S: Final = 30.0
"""A directory that could not be written is tried again after this time."""
_FORK_S: Final = 0.2
_LOOK_S: Final = 0.05
_NEW_FAILURES: Final = 2
"""Failures after which a flush gives up a store that failed before; the first may have begun before it."""
_GRACE_S: Final = 0.1
_APPEND: Final = fail_open("keep a record")
_GIVE_UP: Final = fail_open("make room in the spool")
_TIDY: Final = fail_open("tidy the spool")


class Spool:
    """The spool of a process; any number of processes may share its directory. Thread-safe.

    Construction does nothing; the first append creates the directory (0700), the segment (0600) and the threads. After
    `close`, an append begins anew. In a forked child everything begins anew: the parent's segments are the parent's.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        sinks: Mapping[Target, Callable[[], Destination]],
        *,
        sync: bool = False,
        max_bytes: int = 1 << 30,
    ) -> None:
        """`roots` has the usual root of directories, then others for when it cannot be written.

        `sinks` makes the sink of each store, not opened, on a thread of its own. `sync`: each append is on the disk
        when it returns.
        """
        self._directories = [places.directory_of(root, sinks.keys()) for root in roots]
        self._sinks = dict(sinks)
        self._sync, self._max_bytes = sync, max_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max(1, max_bytes // _MIN_SEGMENTS))
        self._is_watched = False
        self._in_use: list[Target] = []
        """The stores that could not be closed before a fork."""
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        """Held by appends, and by what adds and removes segments; reentrant for those of signal handlers."""
        self._changed = threading.Condition()
        self._segments: dict[Path, Segment] = {}
        self._active: Segment | None = None
        self._size = 0
        """That of the active segment, as of the last look."""
        self._shippers: tuple[Shipper, ...] = ()
        self.is_started = False
        """Whether its threads deliver."""
        self._limit, self._used, self._measure_at = self._max_bytes, 0, 0.0
        self._bad_until: dict[Path, float] = {}
        self._scan_at = 0.0
        self._counts: Counter[str] = Counter()
        self.losses = LossCounter()

    @property
    def directory(self) -> Path:
        """Where records usually wait."""
        return self._directories[0]

    def append(self, payload: bytes) -> bool:
        """Append one record; True: the operating system has it. Never raises. Not for finalizers."""
        try:
            if not self._is_watched:
                self._watch()
            with self._lock:
                kept = self._write(line_of(payload))
                if not self.is_started:
                    self._start()
        except reported(_APPEND):
            self.losses.add("dropped", "error")
            return False
        for shipper in self._shippers:
            if not shipper.woken:
                shipper.woken = True
                shipper.wake()
        return kept

    def _write(self, line: bytes) -> bool:
        if self._used + len(line) > self._limit and not self._make_room(len(line)):
            return self._drop("cap")
        for _ in self._directories[1:]:
            if self._written(line) is None:
                return True
        reason = self._written(line)
        return True if reason is None else self._drop(reason)

    def _written(self, line: bytes) -> str | None:
        """Append a line to the directory that is in use; return why that cannot be."""
        try:
            segment = self._segment_for(len(line))
            segment.append(line, self._size)
            if self._sync:
                segment.sync()
        except OSError as error:
            self._leave_directory(error)
            return error.strerror or type(error).__name__
        self._used += len(line)
        self._counts["appended"] += 1
        return None

    def _drop(self, reason: str) -> bool:
        self.losses.add("dropped", reason)
        return False

    def _segment_for(self, size: int) -> Segment:
        active = self._active
        if active is not None:
            self._size = active.end()
            if self._size + size <= self._segment_bytes and not self._can_return(active):
                return active
        self._size = 0
        return self._rotate()

    def _can_return(self, active: Segment) -> bool:
        """Return whether it is time to try the usual directory again."""
        return (
            bool(self._bad_until)
            and active.path.parent != self.directory
            and (self._bad_until.get(self.directory, 0.0) <= time.monotonic())
        )

    def _rotate(self) -> Segment:
        """Begin a segment in the first directory that can be written. Raises OSError."""
        now = time.monotonic()
        directory = next((one for one in self._directories if self._bad_until.get(one, 0.0) <= now), self.directory)
        try:
            places.create(directory, self._sinks.keys(), sync=self._sync)
            fresh = Segment.create(directory, places.keys_of(directory))
            if self._sync:
                places.sync_directory(directory)
        except OSError:
            self._bad_until[directory] = now + _RETRY_S
            raise
        self._seal()
        self._segments[fresh.path] = self._active = fresh
        self.losses.directory = directory
        # Other processes write here too, and their bytes count towards the cap.
        self._limit = min(self._max_bytes, _MAX_IN_MEMORY) if places.is_in_memory(directory) else self._max_bytes
        self._used = places.size_of(directory)
        return fresh

    def _leave_directory(self, error: OSError) -> None:
        """Write the next records to another directory, for a while."""
        if (active := self._active) is not None:
            self._bad_until[active.path.parent] = time.monotonic() + _RETRY_S
            self._seal()
        if not self._counts["unwritable"]:
            log(logging.WARNING, "The spool directory %s cannot be written (%s); records wait in %s", self.directory,
                error_text(error), " or ".join(map(str, self._directories[1:])) or "no other one")  # fmt: skip
        self._counts["unwritable"] += 1

    def _seal(self) -> None:
        if self._active is not None:
            self._active.sealed = True
            self._active = None

    def _make_room(self, size: int) -> bool:
        """Give up the oldest segments that only failing stores lack; False where that makes no room.

        Only other stores' copies justify that: what no store has taken stays, and the new record is dropped.
        """
        now = time.monotonic()
        if self._active is None or now < self._measure_at:
            return self._active is None
        with _GIVE_UP:
            self._used = places.size_of(self._active.path.parent)
            for segment in self.segments():
                if self._used + size <= self._limit:
                    break
                lacking = [shipper for shipper in self._shippers if shipper.lacks(segment)]
                is_taken = 0 < len(lacking) < len(segment.keys)
                if segment.sealed and is_taken and all(shipper.is_failing() for shipper in lacking):
                    self._give_up(segment, lacking)
        has_room = self._used + size <= self._limit
        self._measure_at = 0.0 if has_room else now + _MEASURE_S
        return has_room

    def _give_up(self, segment: Segment, lacking: Sequence[Shipper]) -> None:
        for shipper in lacking:
            records = sum(1 for line in segment.lines(segment.cursor(shipper.key(segment))) if line.payload)
            self.losses.add("given_up", shipper.target.name, records)
        self._remove(segment)

    def _remove(self, segment: Segment) -> None:
        self._used = max(0, self._used - segment.size)
        self._segments.pop(segment.path, None)
        segment.remove()

    def segments(self) -> list[Segment]:
        """Return the open segments, the oldest first."""
        return sorted(self._segments.copy().values(), key=lambda segment: segment.path.name)

    def remove_if_delivered(self, segment: Segment) -> None:
        """Delete a segment that every store has."""
        if segment.is_delivered():
            with self._lock:
                if segment.path in self._segments and segment.is_delivered():
                    self._remove(segment)

    def adopt(self) -> None:
        """Adopt some segments of ended processes whose stores are among these, every few seconds."""
        now = time.monotonic()
        if now < self._scan_at or self._active is None:
            return
        self._scan_at = now + _SCAN_S
        mine = {root.parent: {target.key(root.parent) for target in self._sinks} for root in self._directories}
        with _TIDY:
            self._seal_if_deleted()
            for directory in places.directories_in(list(mine)):
                if places.keys_of(directory) <= mine[directory.parent]:
                    self._adopt_in(directory)

    def _seal_if_deleted(self) -> None:
        """Begin a new segment after somebody has deleted this one; what it has is still delivered by this process."""
        active = self._active
        if active is not None and active.is_deleted():
            with self._lock:
                if self._active is active:
                    self._seal()

    def _adopt_in(self, directory: Path) -> None:
        places.remove_stray_cursors(directory)
        for path in places.segments_in(directory):
            adopted = sum(not one.own for one in self._segments.copy().values())
            if path in self._segments or adopted >= _MAX_ADOPTED:
                continue
            with self._lock:
                # After `close`, nobody would release it.
                found = places.adopt(directory, path) if self.is_started else None
                if found is not None:
                    self._segments[path] = found

    def flush(self, timeout_s: float) -> bool:
        """Wait until every store has what this process has appended so far; False on timeout.

        False at once if every store that lacks records failed before and has failed again since.
        """
        deadline = time.monotonic() + timeout_s
        goals = [(segment, segment.size) for segment in self.segments() if segment.own]
        before = {shipper: (shipper.failures > 0, shipper.retried) for shipper in self._shippers}
        for shipper in self._shippers:
            shipper.hurry()
        self.losses.write()
        while behind := [one for one in self._shippers if self._is_behind(one, goals)]:
            # One that the first append has started meanwhile has not failed.
            known = [(shipper, *before.get(shipper, (False, 0))) for shipper in behind]
            failed = all(had_failed and one.retried - retried >= _NEW_FAILURES for one, had_failed, retried in known)
            if failed or time.monotonic() >= deadline:
                return False
            for shipper in behind:
                shipper.hurry()
            with self._changed:
                self._changed.wait(min(_LOOK_S, max(0.0, deadline - time.monotonic())))
        return bool(self._shippers) or not goals

    @staticmethod
    def _is_behind(shipper: Shipper, goals: Sequence[tuple[Segment, int]]) -> bool:
        return any(
            shipper.key(segment) in segment.keys and not segment.has(shipper.key(segment), size)
            for segment, size in goals
        )

    def waits_since_ns(self) -> int | None:
        """Return since when the oldest record waits for any store, in whichever process; None: none waits."""
        found = [path for one in self._directories for path in places.segments_in(one)[:1]]
        return min(map(created_ns, found), default=None)

    def count(self, kind: Kind, name: str) -> None:
        """Count what leaves no record, in the file of the usual directory."""
        if self.losses.directory is None:
            places.create(self.directory, self._sinks.keys())
            self.losses.directory = self.directory
        if not self._is_watched:
            self._watch()
        self.losses.add(kind, name)

    def tell(self) -> None:
        """Wake whoever waits for a delivery."""
        with self._changed:
            self._changed.notify_all()

    def note(self, store: str, done: Delivered) -> None:
        """Count what a batch lost."""
        if done.rejected:
            self.losses.add("rejected", store, done.rejected)
        if done.damaged:
            self.losses.add("damaged", store, done.damaged)

    def note_death(self, name: str, error: str) -> None:
        """Count a thread that an exception has ended; it is started again."""
        del error
        self.losses.add("threads", name)

    def close(self, timeout_s: float) -> bool:
        """Deliver what it can in the time, and end the threads; the rest waits on disk for another process."""
        deadline = time.monotonic() + timeout_s
        delivered = self.flush(timeout_s)
        self._halt(deadline)
        return delivered

    def _halt(self, deadline: float) -> None:
        with self._lock:
            self._seal()
            shippers, self._shippers = self._shippers, ()
            ending, self._segments = _Ending(self._segments.values(), len(shippers)), {}
            self.is_started = False
        for shipper in shippers:
            shipper.stop(ending.thread_ended)
        # Give waiting threads a moment to end even if no time is left.
        deadline = max(deadline, time.monotonic() + _GRACE_S)
        joined = [shipper.join(deadline - time.monotonic()) for shipper in shippers]
        self.losses.write()
        with self._lock:
            if all(joined) and not self.is_started:
                forks.unregister(self)
                self._is_watched = False

    def counters(self) -> Mapping[str, int]:
        """Return counts since the start of this process.

        `appended`, `dropped.<reason>`, `shipped.<store>`, `given_up.<store>` (records that other stores have),
        `retried`, `rejected`, `damaged`, and of now `spool_bytes` (of all processes) and `oldest_unshipped_ms`.
        """
        states = self.states()
        counts = Counter({"appended": self._counts["appended"]})
        counts.update({f"shipped.{state.name}": state.delivered for state in states})
        counts.update({f"given_up.{name}": number for name, number in self.losses.totals("given_up").items()})
        counts.update({f"dropped.{reason}": number for reason, number in self.losses.totals("dropped").items()})
        counts["retried"] = sum(state.retried for state in states)
        counts["rejected"] = sum(state.rejected for state in states)
        counts["damaged"] = sum(self.losses.totals("damaged").values())
        counts["spool_bytes"] = sum(places.size_of(one) for one in self._directories)
        counts["oldest_unshipped_ms"] = max((int(1000 * (state.oldest_s or 0)) for state in states), default=0)
        return counts

    def drops(self) -> dict[str, int]:
        """Return how many records this process has dropped for all stores, by the reason."""
        return self.losses.totals("dropped")

    def states(self) -> list[SinkState]:
        """Return the state of each store; empty until the first append."""
        return [shipper.state() for shipper in self._shippers]

    def _start(self) -> None:
        # During interpreter shutdown a new thread never starts, and waiting for it would block forever.
        if sys.is_finalizing():
            return
        self.is_started = True
        shippers = tuple(Shipper(target, make, self) for target, make in self._sinks.items())
        try:
            for shipper in shippers:
                shipper.start()
        except RuntimeError:
            log(logging.DEBUG, "The interpreter is shutting down and starts no thread; the next process delivers")
        self._shippers = shippers
        if (directory := self.losses.directory) is not None:
            with _TIDY:
                add_losses(directory, Losses())

    def _watch(self) -> None:
        # Before the first lock is taken: a child forked while another thread holds it could never take it.
        forks.register(self)
        self._is_watched = True

    def at_exit(self, timeout_s: float) -> None:
        """Deliver for a limited time as the process ends. Appends still reach the disk."""
        if self.is_started:
            deadline = time.monotonic() + timeout_s
            self.flush(timeout_s)
            self._halt(deadline + _GRACE_S)
        self.losses.say_unwritten()

    def before_fork(self) -> None:
        """Close what may not be open across a fork, for at most 0.2 s, and let no append be in its middle."""
        deadline = time.monotonic() + _FORK_S
        # First: an append may be starting the threads.
        self._lock.acquire()
        self._in_use = [one.target for one in self._shippers if not one.close_before_fork(deadline)]

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()
        for shipper in self._shippers:
            shipper.release_after_fork()

    def after_fork_in_child(self) -> None:
        """Leave the parent's files and connections to the parent; the next append begins anew."""
        # Never collected: closing the parent's connections would close them in the parent too.
        _INHERITED.append(self._shippers)
        for segment in self._segments.values():
            segment.close_in_child()
        for target in self._in_use:
            # SQLite would count the parent's locks as the child's: others deliver what the child appends.
            self._sinks[target] = _not_here
        self._begin()


class _Ending:
    """Closes the segments of a spool that ends, once the last of its threads has ended."""

    def __init__(self, segments: Iterable[Segment], threads: int) -> None:
        self._segments, self._threads = list(segments), deque(range(threads))
        self._release_if_last()

    def thread_ended(self) -> None:
        """Close the segments if no other thread uses them."""
        self._threads.pop()
        self._release_if_last()

    def _release_if_last(self) -> None:
        if not self._threads:
            for segment in self._segments:
                if segment.is_delivered():
                    segment.remove()
                segment.close()


_INHERITED: Final[list[tuple[Shipper, ...]]] = []


def _not_here() -> Destination:
    raise OSError("it was in use when this process was forked; another process delivers")
