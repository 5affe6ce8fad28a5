"""Spool: appends every record on the caller's thread, and starts the threads that deliver them.

One append is one write to a file of this process. Shippers, one per sink, read that file; nothing waits for them.
Without a writable disk, records wait in a bounded memory buffer. Forks, threads, `kill -9` and exits without clean-up
lose nothing that was appended to disk: the next process adopts the segments of a dead one.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from callspan import forks
from callspan.background import AtomicFlag, LastingThread
from callspan.fail_open import fail_open, log, reported
from callspan.safe_urls import error_text
from callspan.spool.cap import Cap, WithoutBodies
from callspan.spool.directory import store_keys
from callspan.spool.losses import LossLog
from callspan.spool.memory_buffer import MemoryBuffer
from callspan.spool.segment import MAX_PAYLOAD, SegmentWriter, Source, encode_frame
from callspan.spool.segment_set import SegmentSet
from callspan.spool.shipper import Shipper, SinkState
from callspan.spool.sink import Sink

Fsync: TypeAlias = Literal["none", "always"]
Sinks: TypeAlias = Sequence[Sink] | Callable[[], Sequence[Sink]]

_MIB: Final = 1 << 20
_MEMORY_BYTES: Final = 32 * _MIB
_WARN_S: Final = 60.0
_GRACE_S: Final = 0.1
_DROPPED: Final = "dropped."
_SAVED_AT_ONCE: Final = 64
_PARK_S: Final = 1.0
_LOOK_S: Final = 0.1
_NEW_TRIES: Final = 2
"""Failures after which a sink that has failed before is given up by a flush; the first may have begun before it."""
_CLOSE_S: Final = 5.0
_APPEND: Final = fail_open("keep a record")
_SAY: Final = fail_open("say on standard error what was lost")
Progress: TypeAlias = Callable[[int], object]
Keep: TypeAlias = Callable[[bytes, WithoutBodies | None], bool]
"""Writes one record; False if it was dropped and counted."""


class Queued(msgspec.Struct, eq=False):
    """A record to be written."""

    payload: bytes
    without_bodies: WithoutBodies | None
    kept: bool = True
    """False once it was dropped."""


class AppendQueue:
    """Writes records one at a time, under `lock`, in the order they come. Safe from any thread and signal handler.

    A record is removed from the queue after it is written. If a signal handler raises in between, the next append
    writes it, perhaps a second time.
    """

    def __init__(self, lock: threading.RLock, keep: Keep, lost: Callable[[str, bytes], object]) -> None:
        """`lost` counts a record that could not be written, by the reason."""
        self._lock = lock
        self._writing = threading.Lock()
        self._keep = keep
        self._lost = lost
        self._waiting: deque[Queued] = deque()

    def add(self, payload: bytes, without_bodies: WithoutBodies | None) -> bool:
        """Write a record, or queue it if this interrupts another append; False if it was dropped."""
        queued = Queued(payload, without_bodies)
        self._waiting.append(queued)
        self.write()
        return queued.kept

    def write(self) -> None:
        """Write every queued record."""
        with self._lock:
            # A signal handler has interrupted an append of its own thread, which also writes what was added now.
            if not self._writing.locked():
                with self._writing:
                    self._write_all()

    def _write_all(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            try:
                first.kept = self._keep(first.payload, first.without_bodies)
            except reported(_APPEND):
                first.kept = False
                self._lost("error", first.payload)
            self._waiting.popleft()


class Limits(NamedTuple):
    """How long to continue a delivery, see `Spool.ship`."""

    idle_s: float | None
    tries: int | None

    def are_spent(self, failures: int) -> bool:
        """Return whether there are no tries left after failures in a row."""
        return self.tries is not None and failures >= self.tries


def no_progress(delivered: int) -> None:
    """Show no progress."""


class Spool:
    """The spool of a process; any number of processes may share its directory. Thread-safe.

    `sinks` may be a function that builds them: it is called on a background thread, and again in each forked child that
    appends. If it is a sequence, a child reopens the same objects; they are closed during the fork.
    Construction does nothing; the first append creates the directory (0700), the segment (0600) and the threads.
    """

    def __init__(
        self,
        directory: Path,
        sinks: Sinks,
        *,
        fsync: Fsync = "none",
        max_bytes: int = 1 << 30,
        memory_bytes: int = _MEMORY_BYTES,
        unnamed: bool = True,
    ) -> None:
        """`unnamed` False: do not adopt segments of other processes that have no store keys."""
        self.directory = directory
        self._sinks = sinks
        self._fsync = fsync
        self._max_bytes = max_bytes
        self._memory_bytes = memory_bytes
        self._unnamed = unnamed
        self._inherited: list[object] = []
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._segments = SegmentSet(self.directory, unnamed=self._unnamed)
        if not callable(self._sinks):
            self._segments.keys = store_keys(self.directory, self._sinks)
        self._shippers: tuple[Shipper, ...] = ()
        self._counts: Counter[str] = Counter()
        self._losses = LossLog(self.directory)
        self._cap = Cap(self._max_bytes, self._segments, lambda: self._shippers, self._counts, self._losses)
        self._full_bytes = self._cap.full_bytes
        self._writer = SegmentWriter(self.directory, self._segments, self._cap, sync=self._fsync == "always")
        self._segments.tidy = self._cap.tidy
        self._memory: MemoryBuffer | None = None
        self._started = self._stopping = self._watched = False
        # If several threads were started to build the stores, only one builds them.
        self._unlaunched = AtomicFlag(is_set=True)
        self._parking: tuple[Shipper, ...] = ()
        self._parked, self._adopting = True, False
        self._warn_at = 0.0
        self._unwritable = "closed"
        self._queue = AppendQueue(self._lock, self._keep, self._cap.drop)

    def append(self, payload: bytes, without_bodies: WithoutBodies | None = None) -> bool:
        """Append one record; True if it is on disk (or in memory, while the disk is not writable). Never raises.

        `without_bodies` gives the same record without bodies, kept instead when the spool is nearly full. Do not call
        it from a finalizer (`__del__`, `weakref` callbacks). If a signal handler raises during the append, the record
        may not be written yet; the next append, flush or close then writes it.
        """
        try:
            if not self._watched:
                self._watch()
            if self._closed:
                self._counts["dropped.closed"] += 1
                return False
            kept = self._queue.add(payload, without_bodies)
            if not self._started:
                with self._lock:
                    self._start()
            for shipper in self._shippers:
                if not shipper.woken:
                    shipper.woken = True
                    shipper.wake()
        except reported(_APPEND):
            self._cap.drop("error", payload)
            return False
        return kept

    def flush(self, timeout_s: float) -> bool:
        """Wait until every sink has all records that this process has appended so far; False on timeout.

        False at once if the sinks that lack records were failing before, or have another format, and fail now when they
        are tried again.
        """
        deadline = time.monotonic() + timeout_s
        self._queue.write()
        goals = [(source, source.end) for source in self._segments.sources() if source.own]
        before = {shipper: shipper.retried for shipper in self._shippers}
        failed_before = {shipper for shipper in before if shipper.failures}
        self._hurry()
        while not self._segments.wait(goals, min(deadline, time.monotonic() + _LOOK_S)):
            failing = failed_before.union(shipper for shipper in self._shippers if shipper.has_other_format)
            tried = {one for one in failing if one.retried - before.get(one, 0) >= _NEW_TRIES}
            behind = self._behind()
            if time.monotonic() >= deadline or (behind and tried.issuperset(behind)):
                return False
            for shipper in failing - tried:
                shipper.hurry()
        return True

    def ship(
        self,
        timeout_s: float,
        *,
        idle_s: float | None = None,
        tries: int | None = None,
        progress: Progress = no_progress,
    ) -> bool:
        """Adopt and deliver the segments of dead processes; False on timeout or without sinks.

        Ends earlier if nothing was delivered for `idle_s`, or if every sink that still lacks records has failed `tries`
        times in a row or has another format. `progress` is called periodically with the number of records delivered.
        """
        deadline = time.monotonic() + timeout_s
        self._watch()
        with self._lock:
            self._start()
        self._segments.wait_for_sinks(deadline)
        while self._segments.sinks != 0:
            found = self._segments.adopt(now=True)
            goals = [(source, source.end) for source in self._segments.sources() if not source.own]
            if not goals:
                if found:
                    continue  # delivered already: there may be more than are adopted at once
                return True
            self._hurry()
            if not self._deliver(goals, deadline, Limits(idle_s, tries), progress):
                return False
        return False

    def _deliver(self, goals: list[tuple[Source, int]], deadline: float, limits: Limits, progress: Progress) -> bool:
        """Wait until every sink has passed each offset; False on timeout."""
        delivered, moved_at = -1, time.monotonic()
        while True:
            now = time.monotonic()
            done = self._segments.wait(goals, min(deadline, now + _LOOK_S))
            before, delivered = delivered, sum(shipper.delivered for shipper in self._shippers)
            progress(delivered)
            if delivered > before:
                moved_at = now
            if done:
                return True
            behind = self._behind()
            failed = behind and all(one.has_other_format or limits.are_spent(one.failures) for one in behind)
            if now >= deadline or failed or (limits.idle_s is not None and now - moved_at >= limits.idle_s):
                return False

    def _behind(self) -> Sequence[Shipper]:
        """Return the shippers whose sinks lack records; all while nothing is known to be lacking."""
        return [shipper for shipper in self._shippers if self._segments.lag(shipper.number)] or self._shippers

    def close(self, timeout_s: float) -> bool:
        """Flush and end the threads; rejects later appends. False on timeout: the next process delivers the rest."""
        deadline = time.monotonic() + timeout_s
        self._closed = True
        delivered = self.flush(timeout_s)
        for line in self.halt(deadline):
            log(logging.WARNING, "%s", line)
        return delivered

    def halt(self, deadline: float) -> list[str]:
        """Stop shipping by `deadline` (monotonic seconds); return a line for each loss of what waits in memory.

        Later appends are written, for the next process.
        """
        self._queue.write()
        with self._lock:
            with self._segments.lock:
                self._stopping = True
                shippers = self._shippers
            self._writer.seal()
        if self._memory is not None:
            self._memory.sealed = True
            self._segments.remove_delivered(self._memory)
        for shipper in shippers:
            shipper.stop()
        self._segments.finish()
        self._cap.run_deferred()
        # Give waiting threads a moment to end even if no time is left.
        deadline = max(deadline, time.monotonic() + _GRACE_S)
        if all(shipper.join(deadline - time.monotonic()) for shipper in shippers) and self._closed:
            forks.unregister(self)
        return self._abandon_memory()

    def say_lost_memory(self) -> None:
        """Count what waits in memory as lost and say so on standard error, because the process ends now."""
        _say(self._abandon_memory())

    def _abandon_memory(self) -> list[str]:
        """Write what waits in memory to the disk; count on disk what that does not take, and return a line for each."""
        with self._lock:
            memory = self._memory
            if memory is None:
                return []
            while memory.waiting and self._save(memory):
                pass
            self._writer.seal()
            lost = self._cap.forsake(memory, memory.entries())
            memory.remove()
            self._memory = None
        self._segments.release(memory)
        self._segments.finish()
        reason = f"they waited in memory, because {self.directory} is not writable ({self._unwritable})"
        return [
            f"{loss.what()} were lost for {'every store' if fate == 'dropped' else loss.name}: {reason}"
            for fate, _, loss in lost.each()
        ]

    def counters(self) -> Mapping[str, int]:
        """Return counts since the start of this process.

        `appended` (on disk), `in_memory`, `slimmed`, `dropped.<cap|memory|size|closed|error>`, `shipped.<sink name>`,
        `given_up.<sink name>` (records another store has and this one will not get: the spool was at its cap),
        `retried`, `dead_letters`, `adopted` (segments), `corrupt_bytes` (damage),
        `torn_bytes` (of appends that never returned), `moved_to_disk` (from memory), `restarted` (threads that an
        exception had ended), and of now:
        `spool_bytes` (what the directory holds, of all processes), `for_other_stores` (segments left alone),
        `oldest_unshipped_ms` (how long a record has waited for a sink, at most; 0 where none waits).
        """
        states = self.states()
        counts = Counter(self._counts)
        counts.update({f"shipped.{state.name}": state.delivered for state in states})
        counts.update({f"given_up.{name}": records for name, records in self._cap.given_up.items()})
        counts["retried"] = sum(state.retried for state in states)
        counts["dead_letters"] = sum(state.dead_letters for state in states)
        counts["dropped.memory"] += 0
        counts["adopted"] = self._segments.adopted
        counts["corrupt_bytes"] = self._segments.corrupt_bytes
        counts["torn_bytes"] = self._segments.torn_bytes
        counts["spool_bytes"] = self._segments.measure()
        counts["for_other_stores"] = self._segments.foreign
        counts["oldest_unshipped_ms"] = max((int(1000 * (state.oldest_s or 0)) for state in states), default=0)
        return counts

    def drops(self) -> dict[str, int]:
        """Return the number of records dropped for all sinks, by reason as in `counters`."""
        reasons = {name.removeprefix(_DROPPED): count for name, count in dict(self._counts).items() if _DROPPED in name}
        return {"memory": 0} | reasons

    def states(self) -> list[SinkState]:
        """Return the state of each sink; empty until the first append."""
        return [shipper.state() for shipper in self._shippers]

    def _keep(self, payload: bytes, without_bodies: WithoutBodies | None) -> bool:
        writer = self._writer
        if writer.used + len(payload) > self._full_bytes or len(payload) > MAX_PAYLOAD:
            admitted, writer.used = self._cap.admit(writer.used, payload, without_bodies)
            if admitted is None:
                return False
            payload = admitted
        try:
            writer.write(encode_frame(payload))
        except OSError as error:
            self._warn(error)
            return self._keep_in_memory(payload)
        self._counts["appended"] += 1
        if self._memory is not None and self._memory.waiting:
            self._save(self._memory)
        return True

    def _save(self, memory: MemoryBuffer) -> bool:
        """Write records from the memory buffer to the disk, which is writable again; False if it is not."""
        for entry in memory.batch(0, _SAVED_AT_ONCE, _MIB).entries:
            try:
                self._writer.write(encode_frame(entry.payload))
            except OSError:
                return False
            memory.discard_before(entry.end)
            self._counts["moved_to_disk"] += 1
        return True

    def _keep_in_memory(self, payload: bytes) -> bool:
        if self._stopping or sys.is_finalizing():
            # No thread is left to deliver it.
            self._cap.drop("memory", payload)
            return False
        if self._memory is None:
            self._memory = MemoryBuffer(self._memory_bytes)
            self._segments.add(self._memory)
        dropped = self._memory.append(payload)
        kept = not dropped or dropped[0].payload is not payload
        self._counts["in_memory"] += kept
        if dropped:
            self._losses.warn(self._cap.forsake(self._memory, dropped))
        return kept

    def _warn(self, error: OSError) -> None:
        self._unwritable = error.strerror or error_text(error)
        if time.monotonic() < self._warn_at:
            return
        self._warn_at = time.monotonic() + _WARN_S
        log(
            logging.WARNING,
            "The spool directory %s is not writable (%s): up to %d MiB wait in memory, then the oldest are dropped",
            self.directory,
            error,
            self._memory_bytes // _MIB,
        )

    def _start(self) -> None:
        # During interpreter shutdown a new thread never starts, and waiting for it would block forever.
        if self._started or self._stopping or sys.is_finalizing():
            return
        try:
            launch = partial(self._launch, self._segments, self._unlaunched)
            LastingThread(launch, "callspan-launch", self._note_death).start()
        except RuntimeError:
            log(logging.DEBUG, "The interpreter is shutting down and starts no thread; the next process delivers")
        self._started = True

    def _watch(self) -> None:
        # Before the first lock is taken: a child forked while another thread holds it could never take it.
        if not self._closed:
            forks.register(self)
        self._watched = True

    def _launch(self, segments: SegmentSet, unlaunched: AtomicFlag) -> None:
        if not unlaunched.test_and_clear():
            return
        done = False
        try:
            with fail_open("build the stores"):
                self._build(segments)
            if any(source.own for source in segments.sources()):
                self._losses.create()
            done = True
        finally:
            if not done:
                unlaunched.set()

    def _build(self, segments: SegmentSet) -> None:
        sinks = list(self._sinks() if callable(self._sinks) else self._sinks)
        shippers = tuple(Shipper(number, sink, segments, died=self._note_death) for number, sink in enumerate(sinks))
        with segments.lock:
            segments.keys = store_keys(self.directory, sinks)
            segments.expect(len(sinks))
            if self._stopping:
                return
            self._shippers = shippers
            for shipper in shippers:
                shipper.start()

    def _note_death(self, name: str, error: str) -> None:
        self._counts["restarted"] += 1
        self._losses.note_death(name, error)

    def _hurry(self) -> None:
        for shipper in self._shippers:
            shipper.hurry()

    def at_exit(self, timeout_s: float) -> None:
        """Deliver for a limited time as the process ends. Appends still reach the disk."""
        if self._started and not self._closed and not self._stopping:
            deadline = time.monotonic() + timeout_s
            self.flush(timeout_s)
            _say(self.halt(deadline + 0.1))

    def before_fork(self) -> None:
        """Wait until no append, adoption or delivery runs, and block new ones; the wait for a sink is limited."""
        # SQLite tracks its locks per process, and would believe to hold them in the child, which does not.
        deadline = time.monotonic() + _PARK_S
        while not self._all_quiet(deadline):
            self._let_go()

    def _all_quiet(self, deadline: float) -> bool:
        """Park the shippers and take the locks; False if other shippers have started in the meantime."""
        self._parking = self._shippers
        for shipper in self._parking:
            shipper.park()
        self._parked = all(shipper.parked(deadline - time.monotonic()) for shipper in self._parking)
        self._adopting = not self._segments.adoption.acquire(timeout=max(0.0, deadline - time.monotonic()))
        self._lock.acquire()
        self._segments.lock.acquire()
        return self._parking is self._shippers

    def _let_go(self) -> None:
        self._segments.lock.release()
        self._lock.release()
        if not self._adopting:
            self._segments.adoption.release()

    def after_fork_in_parent(self) -> None:
        """Release the locks and resume the shippers."""
        self._let_go()
        for shipper in self._parking:
            shipper.unpark()

    def after_fork_in_child(self) -> None:
        """Leave the parent's files and sinks to the parent; the next append creates new ones."""
        # Never collected: closing the parent's connections would close them in the parent too.
        self._inherited.append((self._shippers, self._segments))
        self._segments.release_all()
        parked = self._parked
        self._begin()
        # If a connection was in use at the fork, the child leaves its records to other processes.
        self._stopping = not parked


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        with _SAY:
            # Not by `logging`, which may be configured to write elsewhere, or not at all.
            sys.stderr.write(f"callspan: {line}\n")


def ship_once(
    directory: Path, sinks: Sinks, timeout_s: float, *, idle_s: float | None = None, progress: Progress = no_progress
) -> Mapping[str, int]:
    """Deliver the segments of dead processes in `directory`, see `Spool.ship`; return the final counters."""
    spool = Spool(directory, sinks)
    deadline = time.monotonic() + timeout_s
    spool.ship(timeout_s, idle_s=idle_s, progress=progress)
    spool.close(min(_CLOSE_S, max(0.1, deadline - time.monotonic())))
    return spool.counters()
