"""Segment set: the sources one process reads from, the cursor of each sink, and the adoption of orphaned segments.

A source leaves the set, and its file is deleted, once it is sealed and every sink has passed its end.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

from callspan.fail_open import fail_open, ours
from callspan.spool.frames import Gap
from callspan.spool.segment import CURSOR_SUFFIX, SUFFIX, Segment, Source, remove_cursors, store_key_of

_ADOPTED_AT_ONCE: Final = 64
_SCAN_S: Final = 5.0
_CHANCE: Final = random.SystemRandom()
_ADOPT: Final = fail_open("look for records that other processes left behind")
_REMOVE: Final = fail_open("delete a delivered spool segment")
_KEEP: Final = fail_open("keep the damaged part of a spool segment")


class SegmentSet:
    """Sources of one process and one spool directory. Safe from any thread; its lock is never held over a sink."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store_key: str | None = None
        """Which stores this process delivers to; None while that is unknown. Segments for others are left alone."""
        self.foreign = 0
        """Number of segments for other stores, at the last scan."""
        self.lock = threading.RLock()
        self.progress = threading.Condition(self.lock)
        """Notified whenever a cursor moves or a source leaves."""
        self.sinks: int | None = None
        """How many sinks there are; None until they are known. Without sinks nothing is ever deleted."""
        self.adopted = 0
        self.corrupt_bytes = 0
        self.removed: list[deque[str]] = []
        """For each sink, names of removed sources whose cursors it may delete."""
        self._sources: list[Source] = []
        self._seen: set[tuple[str, int]] = set()
        self._next_scan = 0.0
        self._shippers = 0
        self._finishing = False

    def expect(self, sinks: int) -> None:
        """Set the number of sinks."""
        with self.lock:
            self.removed = [deque() for _ in range(sinks)]
            self.sinks = sinks
            self.progress.notify_all()

    def wait_for_sinks(self, deadline: float) -> None:
        """Wait until it is known how many sinks there are, or until the deadline (monotonic seconds)."""
        with self.lock:
            while self.sinks is None and (left := deadline - time.monotonic()) > 0:
                self.progress.wait(left)

    def sources(self) -> list[Source]:
        """Return the sources in the set, oldest first."""
        with self.lock:
            return list(self._sources)

    def holds(self, source: Source) -> bool:
        """Return whether the source is still in the set."""
        with self.lock:
            return source in self._sources

    def add(self, source: Source) -> None:
        """Add a new source."""
        with self.lock:
            self._sources.append(source)

    def create(self) -> Segment:
        """Return a new segment for this process to write. Raises OSError."""
        with self.lock:
            segment = Segment.create(self.directory, self.store_key)
            self._sources.append(segment)
            return segment

    def adopt(self, *, now: bool = False) -> bool:
        """Adopt segments whose processes have ended; True if there were any. Scans every few seconds unless `now`."""
        with self.lock, _ADOPT:
            if not now and time.monotonic() < self._next_scan:
                return False
            self._next_scan = time.monotonic() + _SCAN_S * _CHANCE.uniform(0.8, 1.2)
            return self._adopt()
        return False

    def _adopt(self) -> bool:
        mine = {source.name for source in self._sources}
        names = sorted(path.name for path in self.directory.iterdir()) if self.directory.is_dir() else []
        segments = {name for name in names if name.endswith(SUFFIX)}
        for source in self._sources:
            if isinstance(source, Segment) and source.name not in segments:
                source.missing = True
        for name in names:
            if name.endswith(CURSOR_SUFFIX) and name.partition(SUFFIX)[0] + SUFFIX not in segments:
                self.directory.joinpath(name).unlink(missing_ok=True)
        before = self.adopted
        ours = {name for name in segments if store_key_of(name) in {None, self.store_key}}
        self.foreign = len(segments - ours)
        for name in sorted(ours - mine):
            if self.adopted - before >= _ADOPTED_AT_ONCE:
                break
            segment = Segment.adopt(self.directory / name)
            if segment is not None:
                self._sources.append(segment)
                self.adopted += 1
        return self.adopted > before

    def cursor(self, source: Source, sink: int) -> int | None:
        """Return the cursor of the sink; None if only the sink knows it."""
        with self.lock:
            return source.cursors.get(sink)

    def advance(self, source: Source, sink: int, offset: int) -> None:
        """Set the cursor of a sink; the source is removed if this was the last sink to pass its end."""
        with self.lock:
            source.cursors[sink] = offset
            if offset >= source.end:
                source.caught_up_ns[sink] = time.time_ns()
            if self.sinks and len(source.cursors) == self.sinks:
                source.discard_before(min(source.cursors.values()))
            self.remove_delivered(source)
            self.progress.notify_all()

    def invalidate_cursors(self, sink: int) -> None:
        """Drop the cursors of a sink, after a failure that may have come before or after its commit."""
        with self.lock:
            for source in self._sources:
                source.cursors.pop(sink, None)

    def remove_delivered(self, source: Source) -> None:
        """Remove the source if it is sealed and every sink has passed its end."""
        with self.lock, _REMOVE:
            if source not in self._sources or not source.sealed or not self._delivered(source, source.end):
                return
            self._sources.remove(source)
            source.remove()
            remove_cursors(self.directory, source.name)
            for names in self.removed:
                names.append(source.name)

    def _delivered(self, source: Source, offset: int) -> bool:
        if source not in self._sources:
            return True
        cursors = source.cursors
        return bool(self.sinks) and len(cursors) == self.sinks and min(cursors.values()) >= offset

    def wait(self, goals: list[tuple[Source, int]], deadline: float) -> bool:
        """Return True once every sink has passed each offset, False at the deadline (monotonic seconds)."""
        with self.lock:
            while not (self.sinks == 0 or all(self._delivered(source, offset) for source, offset in goals)):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self.progress.wait(left)
            return True

    def lag(self, sink: int) -> int:
        """Return how many bytes at hand the sink has not passed."""
        with self.lock:
            return sum(max(0, source.end - source.cursors.get(sink, 0)) for source in self._sources)

    def caught_up(self, source: Source, sink: int) -> None:
        """Note that the sink has all there is now."""
        with self.lock:
            source.caught_up_ns[sink] = time.time_ns()

    def oldest_ns(self, sink: int) -> int | None:
        """Return since when, at the earliest, a record at hand waits for the sink (Unix time); None where none does."""
        with self.lock:
            waiting = [source for source in self._sources if source.end > source.cursors.get(sink, 0)]
            return min((source.caught_up_ns.get(sink, source.created_ns) for source in waiting), default=None)

    def damaged(self, source: Source, gap: Gap, skipped: bytes) -> None:
        """Count a gap once, whichever sink meets it first, and keep bytes from the middle of a segment as a file."""
        with self.lock, _KEEP:
            if (source.name, gap.start) in self._seen:
                return
            self._seen.add((source.name, gap.start))
            self.corrupt_bytes += gap.end - gap.start
            if gap.end == source.end:
                return  # a torn tail: its append never returned
            path = self.directory / f"{source.name}.{gap.start}.bad"
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(skipped)

    def measure(self) -> int:
        """Return the bytes of all segments in the directory, whoever writes them."""
        total = 0
        with self.lock, fail_open("measure the spool directory"):
            if self.directory.is_dir():
                with os.scandir(self.directory) as entries:
                    for entry in entries:
                        if entry.name.endswith(SUFFIX):
                            total += _size(entry)
        return total

    def release(self, source: Source) -> None:
        """Unlock one source for other processes to adopt; an empty one is deleted."""
        with self.lock, _REMOVE:
            if source in self._sources:
                self._sources.remove(source)
                if source.end:
                    source.release()
                else:
                    source.remove()

    def enter(self) -> None:
        """Count one more running shipper."""
        with self.lock:
            self._shippers += 1

    def leave(self) -> None:
        """Count one less; after `finish` the last one releases the sealed sources."""
        with self.lock:
            self._shippers -= 1
        self._release_sealed()

    def finish(self) -> None:
        """Release the sealed sources once no shipper is running: one that hangs may still deliver them."""
        with self.lock:
            self._finishing = True
        self._release_sealed()

    def _release_sealed(self) -> None:
        with self.lock:
            if self._finishing and self._shippers == 0:
                for source in [source for source in self._sources if source.sealed]:
                    self._sources.remove(source)
                    source.release()
                self.progress.notify_all()

    def release_all(self) -> None:
        """Release every source at once: for a forked child, where no shipper runs."""
        with self.lock:
            for source in self._sources:
                source.release()
            self._sources.clear()
            self.progress.notify_all()


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except ours(FileNotFoundError):
        return 0
