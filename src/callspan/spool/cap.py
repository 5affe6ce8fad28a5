"""Cap: limits a spool directory. Records that only failing stores lack are dropped first, then bodies, then records.

The segment dropped first is the oldest that at least one store has and only failing stores lack; if there is none,
the oldest that at least one store has. Only then are new records stored without their bodies, or dropped. So a
working store gets every complete record, however long another one is unavailable.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from callspan.background import PutOff
from callspan.fail_open import fail_open, log, ours
from callspan.formatting import plural
from callspan.spool.directory import add_losses, count_records, read_cursor, remove_cursors
from callspan.spool.segment import HEAD_BYTES, MAX_PAYLOAD, Segment
from callspan.spool.segment_set import SegmentSet

Slim: TypeAlias = Callable[[], bytes]
"""Returns the record without its bodies."""

_SEGMENT_BYTES: Final = 64 << 20
_MEASURE_S: Final = 0.1
_SOON_S: Final = 0.2
_NOTE_S: Final = 1.0
_WARN_S: Final = 60.0
_HOUSEKEEPING: Final = PutOff("callspan-housekeeping")
_BURY: Final = fail_open("delete a segment that was given up")
_NOTE: Final = fail_open("note lost records beside the spool")


class Delivering(Protocol):
    """The part of a shipper that reports the state of its sink."""

    number: int
    failures: int

    @property
    def name(self) -> str:
        """The sink's name."""


class Cap:
    """The size limit of one spool directory, as seen by one process. Call `admit` under the spool's lock."""

    def __init__(
        self,
        max_bytes: int,
        segments: SegmentSet,
        shippers: Callable[[], Sequence[Delivering]],
        counts: Counter[str],
        drops: Callable[[], Mapping[str, int]],
    ) -> None:
        """`counts` counts slimmed and dropped records; `drops` returns the number dropped so far, by reason."""
        self.full_bytes = max_bytes - max_bytes // 8
        """Above this size records are stored without bodies: the last eighth is reserved for them."""
        self.segment_bytes = max(1, min(_SEGMENT_BYTES, max_bytes // 8))
        self.given_up: Counter[str] = Counter()
        """Number of records that each sink will not get, by its name."""
        self._max_bytes = max_bytes
        self._segments = segments
        self._shippers = shippers
        self._counts = counts
        self._drops = drops
        self._measure_at = self._warn_at = self._tell_at = 0.0
        self._untold: Counter[str] = Counter()
        self._condemned: deque[Segment] = deque()
        self._noted: Counter[str] = Counter()
        self._note_is_due = False

    def admit(self, used: int, payload: bytes, slim: Slim | None) -> tuple[bytes | None, int]:
        """Return (record to write, bytes in the directory): the record complete or without bodies, None to drop it."""
        now = time.monotonic()
        if now >= self._measure_at:
            used = self.measure()
            self._measure_at = now + _MEASURE_S
        limit = self.full_bytes if slim is not None else self._max_bytes
        size = len(payload) + HEAD_BYTES
        if len(payload) <= MAX_PAYLOAD:
            if used + size > limit:
                used -= self.make_room(used + size - self.full_bytes)
            if used + size <= limit or self._keeps_up(size):
                return payload, used
        if slim is not None:
            payload = slim()
            if len(payload) <= MAX_PAYLOAD and used + len(payload) + HEAD_BYTES <= self._max_bytes:
                self._counts["slimmed"] += 1
                return payload, used
        self._counts["dropped.cap" if len(payload) <= MAX_PAYLOAD else "dropped.size"] += 1
        self.note_drops()
        return None, used

    def measure(self) -> int:
        """Return the bytes of the directory's segments, without those about to be deleted."""
        return max(0, self._segments.measure() - sum(segment.end for segment in list(self._condemned)))

    def tidy(self) -> None:
        """Drop segments above the cap, even if this process appends nothing, to make room for other processes."""
        excess = self.measure() - self.full_bytes
        if excess > 0:
            self.make_room(excess)

    def make_room(self, excess: int) -> int:
        """Remove segments until this many bytes are free or none is left; return how many bytes are free."""
        failing = frozenset(shipper.number for shipper in self._shippers() if shipper.failures)
        found = self._segments.condemn(excess, failing)
        if not found:
            return 0
        self._condemned.extend(found)
        _HOUSEKEEPING.put(self._bury)
        return sum(segment.end for segment in found)

    def note_drops(self) -> None:
        """Schedule that dropped records are counted on disk and a warning is logged."""
        if not self._note_is_due:
            self._note_is_due = True
            _HOUSEKEEPING.put_later(_NOTE_S, self._write_drops)

    def run_deferred(self) -> None:
        """Run the deferred work."""
        self._bury()
        self._warn(at_once=True)
        if self._note_is_due:
            self._write_drops()

    def _keeps_up(self, size: int) -> bool:
        """Return whether a sink keeps up, so that a record will not wait for it."""
        keeping = [shipper.number for shipper in self._shippers() if not shipper.failures]
        return any(self._segments.lag(number) + size <= self.segment_bytes for number in keeping)

    def _bury(self) -> None:
        while (segment := self._next()) is not None:
            if segment.readers:
                self._condemned.append(segment)
                _HOUSEKEEPING.put_later(_SOON_S, self._bury)
                return
            with _BURY:
                self._count_loss(segment)
                segment.remove()
                remove_cursors(self._segments.directory, segment.name)
        self._warn()

    def _warn(self, *, at_once: bool = False) -> None:
        """Warn of the records lost since the last warning, at most once a minute."""
        now = time.monotonic()
        if not self._untold or (now < self._tell_at and not at_once):
            return
        self._tell_at = now + _WARN_S
        untold, self._untold = self._untold, Counter()
        for name, records in untold.items():
            log(
                logging.WARNING,
                "%s for %s given up: %s is at its cap of %d bytes, and that store fails or cannot keep up",
                plural(records, "record"),
                name,
                self._segments.directory,
                self._max_bytes,
            )

    def _next(self) -> Segment | None:
        try:
            return self._condemned.popleft()
        except ours(IndexError):
            return None

    def _count_loss(self, segment: Segment) -> None:
        """Count the records that each store lacking a part of the segment will not get."""
        directory, names = self._segments.directory, {shipper.number: shipper.name for shipper in self._shippers()}
        passed = {key: segment.passed.get(number, 0) for number, key in enumerate(self._segments.keys)}
        named = {key: names.get(number, key) for number, key in enumerate(self._segments.keys)}
        lost: dict[str, tuple[str, int]] = {}
        for key in segment.keys or self._segments.keys:
            offset = passed[key] if key in passed else read_cursor(directory, segment.name, key)
            records = count_records(segment.path, offset)
            if records:
                lost[key] = named.get(key, key), records
        for number in range(len(self._segments.removed)):
            self._segments.removed[number].append(segment.name)
        for name, records in lost.values():
            self.given_up[name] += records
            self._untold[name] += records
        with _NOTE:
            add_losses(directory, lost, {})

    def _write_drops(self) -> None:
        self._note_is_due = False
        fresh = +Counter({reason: count - self._noted[reason] for reason, count in self._drops().items()})
        if not fresh:
            return
        self._noted += fresh
        if time.monotonic() >= self._warn_at:
            self._warn_at = time.monotonic() + _WARN_S
            reasons = ", ".join(f"{count:,} ({reason})" for reason, count in sorted(fresh.items()))
            log(logging.WARNING, "Records for every store were dropped at %s: %s", self._segments.directory, reasons)
        with _NOTE:
            add_losses(self._segments.directory, {}, fresh)
