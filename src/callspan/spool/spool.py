"""Spool: appends each record as a line on the caller's thread; a thread for each store delivers it.

Callers never wait for a store. Forks, threads, `kill -9` and exits without clean-up lose no appended record: another
process with the same stores, or a reading command, delivers the segments of an ended process.

Why it is a file and not a queue: what is in memory dies with the process. One `writev` gives the record to the kernel,
which keeps it whatever becomes of the process; only a power failure takes more, see `sync`.

A lock on the file says who may deliver a segment, never a process id: the kernel releases the lock however a process
ends, and a process id may be reused, or belong to another container. Only who holds the lock removes the file or moves
it to another spool.

Order in `append`: the line, then the threads, then the wake. If a thread cannot be started, at the limit of threads or
during shutdown, the record is safe and only late. The lock is held for the line alone. A fork waits for it, so nothing
foreign may run under it: messages wait in `_to_log`, and losses are counted after it is released.

A fork is dangerous because SQLite's locks belong to a process: a child that closes the parent's file releases them, and
two writers damage it. So stores close their files before the fork, within the time that a fork may wait; if one cannot,
the child leaves its store to other processes. The child starts anew and never touches a segment of its parent.

Above the cap somebody must lose something. The oldest records that only failing stores lack are given up, for these
stores alone. If no store has taken any, the new record is dropped. Both are counted in the file of losses, for
`doctor`.

Given up: one directory for several sets of stores, which needed a mark for each record and store; bodies in files of
their own; syncing at intervals; lines that are deflated or refer to earlier ones, see docs/durability.md.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import Final

from callspan.runtime import forks
from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import fail_open, log
from callspan.runtime.safe_urls import error_text
from callspan.spool import directory as spool_files
from callspan.spool.delivering import Destination, Waiting
from callspan.spool.directory import Target
from callspan.spool.losses import Kind, LossCounter
from callspan.spool.segment import LINE_BYTES, Segment, created_ns, is_locked, is_own
from callspan.spool.shipper import Shipper, SinkState

SEGMENT_BYTES: Final = 16 << 20
_MIN_SEGMENTS: Final = 8
"""Minimum number of segments within the cap, so that only a part of them is given up at a time."""
_TIDY_S: Final = 5.0
_MAX_AGE_S: Final = 3600.0
"""Age after which a delivered segment is deleted, or its texts would outlive those in the stores."""
_MAX_IN_MEMORY: Final = 64 << 20
"""The cap in shared memory."""
_MEASURE_S: Final = 0.1
_RETRY_S: Final = 30.0
"""Time after which an unwritable directory is tried again."""
_SETTLE_S: Final = 1.0
"""Time for healthy stores to take the last batch before a segment is given up on a full disk."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_POLL_S: Final = 0.05
_UNWRITABLE: Final = "The spool directory %s cannot be written (%s); records wait in %s"
_NO_THREAD: Final = "No thread can be started; the next record tries again, or another process delivers"
_NEW_FAILURES: Final = 2
"""New failures after which a flush stops waiting for a failing store. The first may have started before the flush."""
_GRACE_S: Final = 0.1
_APPEND: Final = fail_open("keep a record")
_TIDY: Final = fail_open("tidy the spool")


class Spool:
    """The spool of a process. Any number of processes may share its directory. Thread-safe.

    The first append, also after `close` and in a forked child, creates the directory (0700), a segment (0600) and the
    threads. A child never uses the parent's segments.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        sinks: Mapping[Target, Callable[[], Destination]],
        *,
        sync: bool = False,
        max_bytes: int = 1 << 30,
    ) -> None:
        """`roots` are the usual root of directories and the fallbacks if it is not writable.

        `sinks` are called on the thread of each store to create its sink. `sync`: sync each append to disk.
        """
        self._directories = [spool_files.directory_of(root, sinks.keys()) for root in roots]
        self.directory = self._directories[0]
        """The usual directory."""
        self._sinks = dict(sinks)
        self._sync, self._max_bytes = sync, max_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max(1, max_bytes // _MIN_SEGMENTS))
        self._in_use: list[Target] = []
        """Stores that could not be closed before a fork."""
        self._begin()
        # Before the first use of a lock: a child forked while another thread holds it could never take it.
        forks.register(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        """Held while a record is appended, a segment opened, added or removed, and during a fork.

        Reentrant for signal handlers.
        """
        self._changed = threading.Condition()
        self._segments: dict[Path, Segment] = {}
        self._active: Segment | None = None
        self._has_threads = False
        """Whether each shipper has its thread."""
        self._shippers: tuple[Shipper, ...] = ()
        """Empty until the first append and after `close`."""
        self._running: tuple[Shipper, ...] = ()
        """`_shippers`, and earlier ones that still deliver after `close`."""
        self._active_directory = self.directory
        """The directory in use."""
        self._limit, self._used, self._measure_at = self._max_bytes, 0, 0.0
        self._bad_until: dict[Path, float] = {}
        self._full_at: dict[Path, int] = {}
        """The target size of directories on a full disk, which makes `tidy` delete a segment."""
        self._tidy_at = self._old_at = 0.0
        self._unsynced: deque[Path] = deque()
        """Directories with a list of stores that was just written."""
        self._to_log: deque[tuple[int, str]] = deque()
        self._appended = 0
        self.losses = LossCounter(self.directory)

    def append(self, payload: bytes) -> bool:
        """Append a record; return whether the operating system has it. Never raises. Not for finalizers."""
        try:
            with self._lock:
                lost_for = self._write(payload)
                if not self._has_threads:
                    self._start()
            if lost_for is not None:
                self.losses.add("dropped", lost_for, tried=() if lost_for == "cap" else self._directories)
            if self._to_log:
                self._log()
        except Exception as error:
            _APPEND.report(error)
            self.losses.add("dropped", "error")
            return False
        for shipper in self._shippers:
            if not shipper.woken:
                shipper.woken = True
                shipper.wake()
        return lost_for is None

    def _write(self, payload: bytes) -> str | None:
        """Append a line to a directory; return the reason if all fail, else None."""
        size, reason = len(payload) + LINE_BYTES, None
        if self._used + size > self._limit and not self._has_room(size):
            return "cap"
        for _ in self._directories:
            reason = self._try_write(payload, size)
            if reason is None:
                return None
        return reason or "error"

    def _try_write(self, payload: bytes, size: int) -> str | None:
        """Append a line to the directory in use; return the reason if that fails, else None."""
        try:
            segment = self._active
            if segment is None or not segment.append(payload, self._segment_bytes):
                segment = self._rotate()
                segment.append(payload)
            if self._sync:
                segment.sync()
        except OSError as error:
            self._leave_directory(error)
            return error.strerror or type(error).__name__
        self._used += size
        self._appended += 1
        return None

    def _rotate(self) -> Segment:
        """Start a segment in the first writable directory. Raises OSError."""
        now_s = monotonic_s()
        directory = next(
            (candidate for candidate in self._directories if self._bad_until.get(candidate, 0.0) <= now_s),
            self.directory,
        )
        self._active_directory = directory
        self._create(directory)
        segment = Segment.create(directory, frozenset(target.key(directory.parent) for target in self._sinks))
        if self._sync:
            spool_files.sync_directory(directory)
        self._seal()
        self._segments[segment.path] = self._active = segment
        self._old_at = now_s + _MAX_AGE_S
        self.losses.directory = directory
        # Bytes of other processes count towards the cap.
        self._limit, self._used, self._measure_at = self._limit_of(directory), spool_files.size_of(directory), 0.0
        return segment

    def _create(self, directory: Path) -> None:
        """Create a directory for these stores; `tidy` syncs it, because that takes milliseconds. Raises OSError."""
        if spool_files.create(directory, self._sinks.keys(), sync=self._sync):
            self._unsynced.append(directory)
            self._tidy_at = 0.0

    def _limit_of(self, directory: Path) -> int:
        return min(self._max_bytes, _MAX_IN_MEMORY) if spool_files.is_in_memory(directory) else self._max_bytes

    def _leave_directory(self, error: OSError) -> None:
        """Write the next records to another directory for a while."""
        if not self._bad_until:
            other_directories = " or ".join(map(str, self._directories[1:])) or "no other one"
            self._to_log.append((logging.WARNING, _UNWRITABLE % (self.directory, error_text(error), other_directories)))
        self._bad_until[self._active_directory] = monotonic_s() + _RETRY_S
        if error.errno in _FULL and self._active_directory not in self._full_at:
            self._full_at[self._active_directory] = spool_files.size_of(self._active_directory) - 1
            self._tidy_at = monotonic_s() + _SETTLE_S
        self._seal()

    def _seal(self) -> None:
        active, self._active = self._active, None
        if active is not None:
            active.seal()
            if not active.size:  # on a full disk each append would leave an empty one
                self._segments.pop(active.path, None)
                active.remove()

    def _has_room(self, size: int) -> bool:
        """Return whether a record may be appended above the cap: `tidy` will give up records that some store has.

        It makes no difference which process wrote those, or whether the other stores fail, hang or are slow.
        """
        now_s = monotonic_s()
        if now_s >= self._measure_at:
            self._measure_at, self._tidy_at = now_s + _MEASURE_S, 0.0
            self._used = spool_files.unstored_bytes(self._active_directory)
        return self._used + size <= self._limit

    def tidy(self) -> None:
        """Enforce the cap and the right directory, every few seconds and soon after the cap is reached."""
        now_s = monotonic_s()
        if now_s < self._tidy_at or not self._shippers:
            return
        self._tidy_at = now_s + _TIDY_S
        with _TIDY:
            with suppress(IndexError):  # another store's thread may take the last
                while self._unsynced:
                    spool_files.sync_stores(self._unsynced.popleft())
            self._seal_if_misplaced_or_old(now_s)
            # A fallback root may belong to another user.
            trusted = {*spool_files.directories_in([candidate.parent for candidate in self._directories])}
            for directory in trusted.intersection(self._directories):
                limit = self._limit_of(directory)
                for path, pending_stores in spool_files.excess_segments(
                    directory, min(limit, self._full_at.pop(directory, limit))
                ):
                    self._give_up(path, pending_stores)

    def _seal_if_misplaced_or_old(self, now_s: float) -> None:
        """Start a new segment if this one was deleted, is old, or it is time to try the usual directory again."""
        active = self._active
        can_return = self._active_directory != self.directory and self._bad_until.get(self.directory, 0.0) <= now_s
        is_old = active is not None and now_s >= self._old_at and not active.pending_stores()
        if active is not None and (can_return or is_old or active.is_deleted()):
            with self._lock:
                if self._active is active:
                    self._seal()

    def _give_up(self, path: Path, pending_stores: frozenset[str]) -> None:
        """Delete a segment that only these stores lack, unless another process holds it."""
        with self._lock:
            if self._active is not None and self._active.path == path:
                self._seal()
            if path not in self._segments and (orphan := spool_files.adopt(path)):
                self._segments[path] = orphan
            segment = self._segments.get(path)
            if segment is None or not segment.pending_stores() <= pending_stores:
                return
            del self._segments[path]
        for shipper in self._shippers:
            if count := shipper.count_pending(segment):
                self.losses.add("given_up", shipper.target.name, count, created_ns(path), directory=path.parent)
        segment.remove()

    def segments(self) -> list[Segment]:
        """Return the open segments of this process, oldest first."""
        return sorted(self._segments.copy().values(), key=lambda segment: segment.path.name)

    def waiting_directories(self) -> list[Path]:
        """Return the directories with waiting records of this process, else the directory in use."""
        return sorted({segment.path.parent for segment in self.segments()}) or [self.losses.directory]

    def remove_if_delivered(self, segment: Segment) -> None:
        """Delete a segment of this process that every store has."""
        if segment.is_delivered():
            with self._lock:
                if self._segments.pop(segment.path, None) is not None:
                    self._used = max(0, self._used - segment.size)
                    segment.remove()

    def orphaned_segments(self) -> Iterator[Path]:
        """Yield the segments of processes that have only stores of this spool, except the segments that it holds."""
        for root in {directory.parent for directory in self._directories}:
            own_keys = {target.key(root) for target in self._sinks}
            for directory, lines in spool_files.lists_in(root, [self._sinks.keys()]).items():
                if own_keys.issuperset(map(spool_files.key_of, lines)):
                    yield from (path for path in spool_files.segments_in(directory) if path not in self._segments)

    def adopt(self, path: Path) -> Segment | None:
        """Lock a segment of an ended process, see `spool_files.adopt`."""
        with self._lock:
            return spool_files.adopt(path)

    def flush(self, timeout_s: float, *, own_only: bool = False) -> bool:
        """Wait until every store has all records so far, except those that other running processes hold.

        Includes what closed spools and ended processes left for some of these stores; `own_only`: only what this
        process appended. Returns False on timeout, and early if all stores that lack records were failing before and
        have failed again.
        """
        deadline = monotonic_s() + timeout_s
        goals = [(segment, segment.size) for segment in self.segments()]
        closed_paths = [path for path in self.orphaned_segments() if is_own(path) or not (own_only or is_locked(path))]
        closed_segments = [(path, spool_files.file_size(path)) for path in closed_paths if os.access(path, os.W_OK)]
        is_complete = len(closed_segments) == len([path for path in closed_paths if path.exists()])
        if closed_segments or self._shippers:
            with self._lock:
                self._start()
        deliver_at, failing = 0.0, {shipper: shipper.failures for shipper in self._shippers if shipper.failures}
        self.losses.write()
        while lagging := [shipper for shipper in self._shippers if _is_behind(shipper, goals, closed_segments)]:
            failed = all(
                not shipper.is_started or shipper.failures >= failing.get(shipper, inf) + _NEW_FAILURES
                for shipper in lagging
            )
            now_s = monotonic_s()
            if failed or now_s >= deadline:
                return False
            if now_s >= deliver_at:  # a failure also ends the wait below
                deliver_at = now_s + _POLL_S
                for shipper in lagging:
                    shipper.deliver_now(searches=bool(closed_segments))
            with self._changed:
                self._changed.wait(min(_POLL_S, max(0.0, deadline - monotonic_s())))
        return is_complete and (bool(self._shippers) or not (goals or closed_segments))

    def waits_since_ns(self, target: Target) -> int | None:
        """Return since when the oldest record of any process waits for a store; None if none waits."""
        times = (spool_files.oldest(directory, target.key(directory.parent)) for directory in self._directories)
        return min((since_ns for since_ns in times if since_ns is not None), default=None)

    def waiting(self, target: Target) -> Waiting:
        """Return the records of any process that wait for a store."""
        return Waiting(partial(self.waits_since_ns, target), partial(self._waiting_payloads, target))

    def _waiting_payloads(self, target: Target) -> Iterator[bytes]:
        ends = spool_files.ends_in(self._directories)
        return spool_files.waiting_payloads(ends, lambda directory: target.key(directory.parent))

    def count(self, kind: Kind, name: str) -> None:
        """Count a call without a record in the file of losses."""
        if not self._appended:
            self._create(self.directory)
        forks.await_exit()
        self.losses.add(kind, name)

    def notify(self) -> None:
        """Wake the threads that wait for a delivery."""
        with self._changed:
            self._changed.notify_all()

    def close(self, timeout_s: float) -> bool:
        """Deliver records until the timeout and end the threads. The rest waits on disk for another process."""
        deadline = monotonic_s() + timeout_s
        delivered = not self._shippers or self.flush(timeout_s, own_only=True)
        self._halt(deadline)
        return delivered

    def _halt(self, deadline: float) -> None:
        with self._lock:
            self._seal()
            shippers, self._shippers, self._has_threads = self._shippers, (), False
            segments, self._segments = self._segments, {}
        for shipper in shippers:
            shipper.stop()
        # Give waiting threads a moment to end even if no time is left.
        deadline = max(deadline, monotonic_s() + _GRACE_S)
        for shipper in shippers:
            shipper.join(deadline - monotonic_s())
        for segment in segments.values():
            segment.release()
        self.losses.write()
        with self._lock:
            self._running = tuple(shipper for shipper in self._running if not shipper.join(0.0))

    def counters(self) -> Mapping[str, int]:
        """Return counts since the start of this process.

        `appended`, `dropped.<reason>`, `shipped.<store>`, `given_up.<store>` (records that other stores have),
        `retried`, `rejected`, `damaged`, and the current `spool_bytes` (of all processes) and `oldest_unshipped_ms`.
        """
        states = self.states()
        counts = Counter({"appended": self._appended})
        counts.update({f"shipped.{state.name}": state.delivered for state in states})
        counts.update({f"given_up.{name}": number for name, number in self.losses.totals("given_up").items()})
        counts.update({f"dropped.{reason}": number for reason, number in self.losses.totals("dropped").items()})
        counts["retried"] = sum(state.retried for state in states)
        counts["rejected"] = sum(self.losses.totals("rejected").values())
        counts["damaged"] = sum(self.losses.totals("damaged").values())
        counts["spool_bytes"] = sum(spool_files.size_of(directory) for directory in self._directories)
        counts["oldest_unshipped_ms"] = max((int(1000 * (state.oldest_s or 0)) for state in states), default=0)
        return counts

    def states(self) -> list[SinkState]:
        """Return the state of each store; empty until the first append."""
        return [shipper.state() for shipper in self._shippers]

    def _start(self) -> None:
        # During interpreter shutdown a new thread never starts, and waiting for it would block forever.
        if self._has_threads or sys.is_finalizing():
            return
        self._has_threads = True  # before the rest, which a signal handler that appends must not repeat
        if not self._shippers:
            forks.await_exit()
            self._shippers = tuple(Shipper(target, make, self) for target, make in self._sinks.items())
            self._running += self._shippers
        try:
            for shipper in self._shippers:
                shipper.start()
        except RuntimeError:
            # The process is at its limit of threads, or the interpreter is shutting down.
            self._has_threads = False
            self._to_log.append((logging.DEBUG, _NO_THREAD))

    def _log(self) -> None:
        # Not under the lock, because forks wait for it: logging runs handlers of the application.
        with suppress(IndexError):  # another thread may take the last
            while self._to_log:
                level, text = self._to_log.popleft()
                log(level, "%s", text)

    def at_exit(self, timeout_s: float) -> None:
        """Deliver for a limited time as the process ends. Later appends still reach the disk."""
        self.close(timeout_s)
        self.losses.report_unwritten()

    def before_fork(self, deadline: float) -> bool:
        """Between appends, close files and connections; return whether no append is under way."""
        # Taken first, because an append may be starting the threads.
        if not self._lock.acquire(timeout=max(0.0, deadline - monotonic_s())):
            self._in_use = [shipper.target for shipper in self._running if not shipper.is_left_open_at_fork]
            return False
        self._in_use = [shipper.target for shipper in self._running if not shipper.close_before_fork(deadline)]
        return True

    def after_fork_in_parent(self) -> None:
        """Resume."""
        for shipper in self._running:
            shipper.release_after_fork()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Leave the connections to the parent and start anew."""
        # Keeps them from being collected, which would close the parent's connections.
        _INHERITED.append(self._running)
        for target in self._in_use:
            # SQLite would take the parent's locks for the child's. Other processes deliver the child's records.
            self._sinks[target] = _refuse_in_child
        self._begin()


_INHERITED: Final[list[tuple[Shipper, ...]]] = []


def _refuse_in_child() -> Destination:
    raise OSError("it was in use when this process was forked; another process delivers")


def _is_behind(
    shipper: Shipper, goals: Sequence[tuple[Segment, int]], closed_segments: Sequence[tuple[Path, int]]
) -> bool:
    """Return whether a store lacks a part of these open segments, or of these segments of closed spools."""
    return any(segment.has_pending(shipper.key(segment.path), size) for segment, size in goals) or any(
        spool_files.has_pending(path, shipper.key(path), size) for path, size in closed_segments
    )
