"""Cap: limits a spool directory. Records that only failing stores lack are dropped first, then bodies, then records.

The segment dropped first is the oldest that at least one store has and only failing stores lack. A store that takes
records loses nothing as long as its own backlog is below the limit. Above it, new records are stored without their
bodies; if that is not enough, the oldest segment that at least one store has is dropped, or else the new record.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from callspan.background import Worker
from callspan.fail_open import fail_open
from callspan.spool.directory import read_cursor, remove_cursors
from callspan.spool.losses import Losses, LossLog, loss_of, lost_record
from callspan.spool.segment import HEAD_BYTES, MAX_PAYLOAD, Segment, Source
from callspan.spool.segment_set import SegmentSet
from callspan.spool.sink import Entry

WithoutBodies: TypeAlias = Callable[[], bytes]
"""Returns the record without its bodies."""

_SEGMENT_BYTES: Final = 64 << 20
_MEASURE_S: Final = 0.1
_SOON_S: Final = 0.2
_SHARE: Final = 0.5
"""Part of the largest backlog from which on a failing store loses records."""
_READ_ENTRIES: Final = 256
_READ_BYTES: Final = 1 << 20
_MEMORY: Final = "memory"
_HOUSEKEEPING: Final = Worker("callspan-housekeeping")
_DELETE: Final = fail_open("delete a segment that was given up")


class Delivering(Protocol):
    """The part of a shipper that reports the state of its sink."""

    number: int
    has_opened: bool
    """Whether its store could be opened before."""

    @property
    def name(self) -> str:
        """The sink's name."""

    def is_failing(self) -> bool:
        """Return whether the sink takes no records now: it refuses them, or hangs."""


class Cap:
    """The size limit of one spool directory, as seen by one process. Call `admit` under the spool's lock."""

    def __init__(
        self,
        max_bytes: int,
        segments: SegmentSet,
        shippers: Callable[[], Sequence[Delivering]],
        counts: Counter[str],
        losses: LossLog,
    ) -> None:
        """`counts` counts slimmed and dropped records."""
        self.full_bytes = max_bytes - max_bytes // 8
        """Above this size records are stored without bodies: the last eighth is reserved for them."""
        self.segment_bytes = max(1, min(_SEGMENT_BYTES, max_bytes // 8))
        self.given_up: Counter[str] = Counter()
        """Number of records that each sink will not get, by its name."""
        self._max_bytes = max_bytes
        self._segments = segments
        self._shippers = shippers
        self._counts = counts
        self._losses = losses
        self._measure_at = 0.0

    def admit(self, used: int, payload: bytes, without_bodies: WithoutBodies | None) -> tuple[bytes | None, int]:
        """Return (record to write, bytes in the directory): the record complete or without bodies, None to drop it."""
        now = time.monotonic()
        if now >= self._measure_at:
            used = self.measure()
            self._measure_at = now + _MEASURE_S
        limit = self.full_bytes if without_bodies is not None else self._max_bytes
        size = len(payload) + HEAD_BYTES
        if small := len(payload) <= MAX_PAYLOAD:
            if used + size > limit:
                used -= self.make_room(used + size - self.full_bytes)
            if used + size <= limit or self._is_due_to_others(size):
                return payload, used
        if without_bodies is not None:
            payload = without_bodies()
        size = len(payload) + HEAD_BYTES
        if len(payload) <= MAX_PAYLOAD:
            if used + size > self._max_bytes:
                used -= self.make_room(used + size - self._max_bytes, of_all=True)
            if used + size <= self._max_bytes:
                if without_bodies is not None:
                    self._counts["slimmed"] += 1
                    self._losses.strip("cap" if small else "size", payload)
                return payload, used
        reason = "cap" if len(payload) <= MAX_PAYLOAD else "size"
        self.drop(reason, payload)
        return None, used

    def drop(self, reason: str, payload: bytes) -> None:
        """Count a record that no store will get."""
        self._counts[f"dropped.{reason}"] += 1
        self._losses.drop(reason, payload)

    def forsake(self, memory: Source, entries: Sequence[Entry]) -> Losses:
        """Count records that are lost with the memory they waited in, for the stores that lack them; no warning."""
        names = [shipper.name for shipper in self._shippers()]
        passed = [memory.cursors.get(number, 0) for number in range(len(names))]
        lost = Losses()
        for entry in entries:
            record = lost_record(entry.payload)
            lacking = [number for number, offset in enumerate(passed) if entry.start >= offset]
            if len(lacking) < len(passed):
                for number in lacking:
                    lost.note("given_up", self._segments.keys[number], loss_of(names[number], record))
                    self.given_up[names[number]] += 1
            else:
                lost.note("dropped", _MEMORY, loss_of(_MEMORY, record))
                self._counts[f"dropped.{_MEMORY}"] += 1
        if lost:
            self._losses.count(lost)
        return lost

    def measure(self) -> int:
        """Return the bytes of the directory's segments, without those about to be deleted."""
        return max(0, self._segments.measure() - sum(segment.end for segment in list(self._segments.dropped)))

    def tidy(self) -> None:
        """Drop segments above the cap, even if this process appends nothing, to make room for other processes."""
        excess = self.measure() - self.full_bytes
        if excess > 0:
            self.make_room(excess)

    def make_room(self, excess: int, *, of_all: bool = False) -> int:
        """Remove segments until this many bytes are free or none is left; return how many bytes are free.

        `of_all`: if necessary also segments that stores lack which take records.
        """
        losers = [self._losers()]
        if of_all:
            losers.append(frozenset(shipper.number for shipper in self._shippers()))
        found = self._segments.drop_oldest(excess, losers)
        if not found:
            return 0
        _HOUSEKEEPING.put(self._delete_dropped)
        return sum(segment.end for segment in found)

    def run_deferred(self) -> None:
        """Run the deferred work."""
        self._delete_dropped()
        self._losses.finish()

    def _losers(self) -> frozenset[int]:
        """Return the failing sinks that fill the directory; one that began to fail just now loses nothing for them."""
        lags = {
            shipper.number: self._segments.lag(shipper.number) for shipper in self._shippers() if shipper.is_failing()
        }
        largest = max(lags.values(), default=0)
        return frozenset(number for number, lag in lags.items() if lag >= largest * _SHARE)

    def _is_due_to_others(self, size: int) -> bool:
        """Return whether a sink takes records, and no such sink lacks so much that it would fill the directory alone.

        Then what fills it waits for failing stores, also of other processes, which drop it within seconds.
        """
        if self._segments.sinks is None:
            # They are being built.
            return sum(source.end for source in self._segments.sources()) + size <= self.segment_bytes
        # What ended processes left for a store that cannot be opened is no backlog of one that takes records.
        lags = [
            self._segments.lag(shipper.number, own=not shipper.has_opened)
            for shipper in self._shippers()
            if not shipper.is_failing()
        ]
        return bool(lags) and max(lags) + size <= self.full_bytes

    def _delete_dropped(self) -> None:
        dropped = self._segments.dropped
        for _ in range(len(dropped)):
            try:
                segment = dropped.popleft()
            except IndexError:
                return
            if segment.readers:
                dropped.append(segment)
                continue
            with _DELETE:
                self._count_loss(segment)
                segment.remove()
                remove_cursors(self._segments.directory, segment.name)
        if dropped:
            _HOUSEKEEPING.put_later(_SOON_S, self._delete_dropped)

    def _count_loss(self, segment: Segment) -> None:
        """Count the records that each store lacking a part of the segment will not get."""
        keys = self._segments.keys
        names = {shipper.number: shipper.name for shipper in self._shippers()}
        named = {key: names.get(number, key) for number, key in enumerate(keys)}
        offsets = {key: self._offset(segment, key) for key in segment.keys or keys}
        lost = lacking(segment, offsets, named)
        for loss in lost.given_up.values():
            self.given_up[loss.name] += loss.records
        self._losses.count(lost)
        self._losses.warn(lost)

    def _offset(self, segment: Segment, key: str) -> int:
        keys = self._segments.keys
        if key in keys:
            return self._segments.cursor(segment, keys.index(key))
        return read_cursor(self._segments.directory, segment.name, key)


def lacking(source: Source, offsets: Mapping[str, int], names: Mapping[str, str]) -> Losses:
    """Return what each store, by its key, lacks of a source. Raises OSError."""
    lost = Losses()
    at = min(offsets.values(), default=source.end)
    while (batch := source.batch(at, _READ_ENTRIES, _READ_BYTES)).end > at:
        for entry in batch.entries:
            record = lost_record(entry.payload)
            for key, offset in offsets.items():
                if entry.start >= offset:
                    lost.note("given_up", key, loss_of(names.get(key, key), record))
        at = batch.end
    return lost
