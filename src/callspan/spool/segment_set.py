"""Segment set: the sources one process reads from, the cursor of each sink, and the adoption of orphaned segments.

A source is removed from the set once it is sealed and every sink of this process that needs it has passed its end.
Its file is then deleted, unless stores of other processes still need it.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from callspan.fail_open import Once, fail_open, log
from callspan.spool.directory import (
    BAD_SUFFIX,
    Listing,
    read_cursor,
    refusals,
    remove_cursors,
    size_of,
)
from callspan.spool.segment import Gap, Segment, Source

_ADOPTED_AT_ONCE: Final = 64
_SCAN_S: Final = 5.0
_CHANCE: Final = random.SystemRandom()
_ADOPT: Final = fail_open("look for records that other processes left behind")
_REFUSED: Final = Once()
_REMOVE: Final = fail_open("delete a delivered spool segment")
_KEEP: Final = fail_open("keep the damaged part of a spool segment")


class SegmentSet:
    """Sources of one process and one spool directory. Safe from any thread; `lock` is never held during I/O."""

    def __init__(self, directory: Path, *, unnamed: bool = True) -> None:
        """`unnamed` False: ignore segments without store keys."""
        self.directory = directory
        self.keys: tuple[str, ...] = ()
        """Keys of the stores this process delivers to, in the order of its sinks; empty until known."""
        self.foreign = 0
        """Number of segments at the last scan that only other stores need."""
        self.lock = threading.RLock()
        self.adoption = threading.RLock()
        """Held while searching for segments to adopt; never taken by a thread that appends."""
        self.progress = threading.Condition(self.lock)
        """Notified whenever a cursor moves or a source is removed."""
        self.sinks: int | None = None
        """Number of sinks; None until known. Without sinks nothing is ever deleted."""
        self.tidy: Callable[[], object] = bool
        """Called after each scan of the directory."""
        self.adopted = 0
        self.corrupt_bytes = self.torn_bytes = 0
        self.dropped: deque[Segment] = deque()
        """Segments that `drop_oldest` has removed, until what stores lack of them is counted and they are deleted."""
        self._unnamed = unnamed
        self._sources: list[Source] = []
        self._seen: set[tuple[str, int]] = set()
        self._next_scan = 0.0
        self._shippers = 0
        self._finishing = False

    def expect(self, sinks: int) -> None:
        """Set the number of sinks."""
        with self.lock:
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
        segment = Segment.create(self.directory, self.keys)
        self.add(segment)
        return segment

    def adopt(self, *, now: bool = False) -> bool:
        """Adopt segments whose processes have ended; True if there were any. Scans every few seconds unless `now`."""
        if not now and time.monotonic() < self._next_scan:
            return False
        with self.adoption, _ADOPT:
            if not now and time.monotonic() < self._next_scan:
                return False
            self._next_scan = time.monotonic() + _SCAN_S * _CHANCE.uniform(0.8, 1.2)
            found = self._adopt()
            self.tidy()
            self._say_refused()
            return found
        return False

    def _say_refused(self) -> None:
        """Warn once of each other format that segments here have."""
        for refusal in refusals(self.directory):
            if _REFUSED.first(str(refusal)):
                log(logging.WARNING, "%s", refusal)

    def _adopt(self) -> bool:
        before = self.sources()  # segments created after this are not considered
        listing = Listing(self.directory)
        there = frozenset(listing.segments)
        for source in before:
            if isinstance(source, Segment) and source.name not in there:
                source.missing = True
        listing.remove_strays()
        self.foreign = len(listing.for_others(self.keys))
        mine = {source.name for source in before}
        found = 0
        for name in listing.for_stores(self.keys, unnamed=self._unnamed):
            if found >= _ADOPTED_AT_ONCE:
                break
            segment = None if name in mine else Segment.adopt(self.directory / name)
            if segment is not None:
                offsets = [read_cursor(self.directory, name, key) for key in self.keys]
                # One past the end: the file lost its end in a machine failure or by hand.
                segment.cursors = {number: at for number, at in enumerate(offsets) if at <= segment.end}
                self.add(segment)
                self.remove_delivered(segment)
                found += 1
        self.adopted += found
        return found > 0

    def cursor(self, source: Source, sink: int) -> int:
        """Return the offset up to which the sink has the source."""
        with self.lock:
            return source.cursors.get(sink, 0)

    def advance(self, source: Source, sink: int, offset: int) -> None:
        """Set the cursor of a sink; the source is removed if this was the last sink to pass its end."""
        with self.lock:
            source.cursors[sink] = offset
            if offset >= source.end:
                source.caught_up_ns[sink] = time.time_ns()
            if wanted := self._wanted(source):
                source.discard_before(min(source.cursors.get(number, 0) for number in wanted))
            self.progress.notify_all()
        self.remove_delivered(source)

    def wants(self, source: Source, sink: int) -> bool:
        """Return whether the source is for this sink."""
        return source.keys is None or self.keys[sink] in source.keys

    def remove_delivered(self, source: Source) -> None:
        """Remove the source if it is sealed and every sink has passed its end; delete it unless others need it."""
        with self.lock:
            if source not in self._sources or not source.sealed or not self._delivered(source, source.end):
                return
            self._sources.remove(source)
        with _REMOVE:
            self._dispose(source)
        with self.lock:
            self.progress.notify_all()

    def _dispose(self, source: Source) -> None:
        """Delete the file if every store has it; else leave it to other processes."""
        others = (source.keys or frozenset()) - frozenset(self.keys)
        if others and not Listing(self.directory).is_delivered(source.name, others):
            source.release()
            return
        source.remove()
        remove_cursors(self.directory, source.name)

    def drop_oldest(self, size: int, losers: Sequence[frozenset[int]]) -> list[Segment]:
        """Move the oldest sealed segments that some store has to `dropped`, together at least `size` bytes.

        Only segments that no other sinks lack than the first of `losers`, then the next; they will not get them.
        """
        found: list[Segment] = []
        with self.lock:
            oldest = sorted(self._sources, key=lambda source: source.created_ns)
            sealed = [source for source in oldest if isinstance(source, Segment) and source.sealed]
            for losing in losers:
                for source in sealed:
                    if sum(one.end for one in found) >= size:
                        break
                    wanted = self._wanted(source)
                    lacking = {number for number in wanted if source.cursors.get(number, 0) < source.end}
                    if lacking <= losing and source not in found and len(lacking) < len(wanted):
                        found.append(source)
            for source in found:
                self._sources.remove(source)
            self.dropped.extend(found)
            self.progress.notify_all()
        return found

    @contextmanager
    def reading(self, source: Source) -> Iterator[bool]:
        """Keep a source open while it is read; False if it was removed from the set."""
        with self.lock:
            there = source in self._sources
            source.readers += there
        try:
            yield there
        finally:
            with self.lock:
                source.readers -= there

    def _wanted(self, source: Source) -> frozenset[int]:
        """Return the numbers of the sinks that need the source; empty until the sinks are known."""
        return frozenset(number for number in range(self.sinks or 0) if self.wants(source, number))

    def _delivered(self, source: Source, offset: int) -> bool:
        if source not in self._sources:
            return True
        wanted = self._wanted(source)
        return bool(wanted) and all(source.cursors.get(number, 0) >= offset for number in wanted)

    def wait(self, goals: list[tuple[Source, int]], deadline: float) -> bool:
        """Return True once every sink has passed each offset, False at the deadline (monotonic seconds)."""
        with self.lock:
            while not (self.sinks == 0 or all(self._delivered(source, offset) for source, offset in goals)):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self.progress.wait(left)
            return True

    def lag(self, sink: int, *, own: bool = False) -> int:
        """Return how many bytes the sink does not have; `own`: of what this process has written."""
        with self.lock:
            sources = [source for source in self._of(sink) if source.own or not own]
            return sum(max(0, source.end - source.cursors.get(sink, 0)) for source in sources)

    def behind(self, sink: int) -> list[tuple[str, int]]:
        """Return each source that the sink lacks a part of: its name, and up to where the sink has it."""
        with self.lock:
            known = [(source, source.cursors.get(sink, 0)) for source in self._of(sink)]
            return [(source.name, offset) for source, offset in known if offset < source.end]

    def _of(self, sink: int) -> list[Source]:
        return [source for source in self._sources if self.wants(source, sink)]

    def caught_up(self, source: Source, sink: int) -> None:
        """Record that the sink has everything at this time."""
        with self.lock:
            source.caught_up_ns[sink] = time.time_ns()

    def oldest_ns(self, sink: int) -> int | None:
        """Return the time (Unix) since which the oldest record waits for the sink; None if none waits."""
        with self.lock:
            waiting = [source for source in self._of(sink) if source.end > source.cursors.get(sink, 0)]
            return min((source.caught_up_ns.get(sink, source.created_ns) for source in waiting), default=None)

    def waits_since_ns(self) -> int | None:
        """Return since when the oldest record waits for any store, here or in a segment of another process.

        Unix time; None if none waits. Raises OSError.
        """
        listing = Listing(self.directory)
        mine = {source.name for source in self.sources()}
        own = [self.oldest_ns(number) for number in range(self.sinks or 0)]
        others = listing.waiting_since_ns(mine, self.keys)
        return min((since for since in (*own, *others) if since is not None), default=None)

    def damaged(self, source: Source, gap: Gap, skipped: bytes) -> None:
        """Count, report and save a damaged part once for all sinks; an incomplete last frame is only counted."""
        size = gap.end - gap.start
        with self.lock:
            if (source.name, gap.start) in self._seen:
                return
            self._seen.add((source.name, gap.start))
            if gap.torn:
                self.torn_bytes += size
                return
            self.corrupt_bytes += size
        path = self.directory / f"{source.name}.{gap.start}{BAD_SUFFIX}"
        log(
            logging.ERROR,
            "Damage in %s: %d bytes from offset %d on are no record any more; %s",
            self.directory / source.name,
            size,
            gap.start,
            f"they are kept in {path.name}" if _kept(path, skipped) else "they could not be kept",
        )

    def measure(self) -> int:
        """Return the bytes of all segments in the directory, of all writers."""
        with fail_open("measure the spool directory"):
            return size_of(self.directory)
        return 0

    def release(self, source: Source) -> None:
        """Unlock one source for other processes to adopt; an empty one is deleted."""
        with self.lock:
            if source not in self._sources:
                return
            self._sources.remove(source)
        with _REMOVE:
            if source.end:
                source.release()
            else:
                source.remove()

    def enter(self) -> None:
        """Count a shipper that starts."""
        with self.lock:
            self._shippers += 1

    def leave(self) -> None:
        """Count a shipper that ends; after `finish` the last one releases the sealed sources."""
        with self.lock:
            self._shippers -= 1
        self._release_sealed()

    def finish(self) -> None:
        """Release the sealed sources once no shipper is running, because a hanging one may still deliver them."""
        with self.lock:
            self._finishing = True
        self._release_sealed()

    def _release_sealed(self) -> None:
        with self.lock:
            if not self._finishing or self._shippers:
                return
            sealed = [source for source in self._sources if source.sealed]
            self._sources[:] = [source for source in self._sources if not source.sealed]
        for source in sealed:
            source.release()
        with self.lock:
            self.progress.notify_all()

    def release_all(self) -> None:
        """Release every source immediately, in a forked child, where no shipper runs."""
        with self.lock:
            for source in (*self._sources, *self.dropped):
                source.release()
            self._sources.clear()
            self.dropped.clear()
            self.progress.notify_all()


def _kept(path: Path, content: bytes) -> bool:
    """Write damaged bytes to a separate file; return whether that succeeded."""
    with _KEEP:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        return True
    return False
