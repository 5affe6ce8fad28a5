"""Processed sinks: decode and process records once for all sinks of a process, off the caller's thread."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from callspan.forks import in_child
from callspan.record.codec import encode
from callspan.record.events import Record
from callspan.spool.sink import Entry, PoisonError, Sink, decode_payload

Process: TypeAlias = Callable[[Record], Record]
"""From a record as it was written to the one to store; the same object if nothing changes. Must not raise."""
Delivered: TypeAlias = Callable[[Record], object]
"""Called with each record that was changed on the way, once it is stored. Must not raise."""
_MAX_ENTRIES: Final = 256
_MAX_BYTES: Final = 4 * 1024 * 1024
_NOWHERE: Final = ("", -1)
_AT_A_STRETCH_NS: Final = 250_000
_PAUSE_S: Final = 0.0 if sys.platform == "win32" else 0.000_05
"""Sleep between records, longer than waking a thread takes. 0 on Windows, where it would be a millisecond or more."""


class Decoded(NamedTuple):
    """One record decoded from its payload."""

    record: Record
    """The record to store."""
    is_changed: bool
    """Whether it is another one than was written."""


class SharedDecoder:
    """Decodes and processes each entry once for all sinks at about the same position. Safe from any thread.

    Results that another sink still needs are cached, up to a number of entries and payload bytes; the oldest are
    evicted first. A sink that is further behind decodes again without delaying others: the lock is held while one
    entry is decoded, never while a store is written to.
    """

    def __init__(
        self, process: Process, sinks: int = 1, *, max_entries: int = _MAX_ENTRIES, max_bytes: int = _MAX_BYTES
    ) -> None:
        """`sinks` is the number of sinks; they are numbered from 0."""
        self._process = process
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._last_taken = [_NOWHERE] * sinks
        """Segment and offset of the last entry taken by each sink."""
        self._kept: dict[tuple[str, int], tuple[Decoded, int]] = {}
        self.kept_bytes = 0
        """Total bytes of the cached payloads."""
        self._lock = threading.Lock()
        in_child(self, SharedDecoder._start_afresh)

    def take(self, sink: int, entry: Entry) -> Decoded:
        """Return the entry's record, processed, for one sink. Raises PoisonError for what is no known record."""
        if len(self._last_taken) == 1:
            return self._decode(entry.payload)
        place = (entry.segment, entry.start)
        with self._lock:
            self._last_taken[sink] = place
            kept = self._kept.get(place)
            if kept is None:
                decoded = self._decode(entry.payload)
                if self._is_lacking(place):
                    self._keep(place, decoded, len(entry.payload))
                return decoded
            if not self._is_lacking(place):
                self._drop(place)
            return kept[0]

    def _decode(self, payload: bytes) -> Decoded:
        original = decode_payload(payload)
        record = self._process(original)
        return Decoded(record, record is not original)

    def _is_lacking(self, place: tuple[str, int]) -> bool:
        """Return whether a sink may still need this entry: it is at an earlier one, or in another segment."""
        segment, start = place
        return any(at < start or name != segment for name, at in self._last_taken)

    def _keep(self, place: tuple[str, int], decoded: Decoded, size: int) -> None:
        self._kept[place] = decoded, size
        self.kept_bytes += size
        while len(self._kept) > self._max_entries or self.kept_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, place: tuple[str, int]) -> None:
        self.kept_bytes -= self._kept.pop(place)[1]

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._kept.clear()
        self.kept_bytes = 0


class Reduction(NamedTuple):
    """What a store keeps of records, if not all of their content."""

    process: Process
    keeps: str
    """Distinguishes stores of one file that keep different content."""


class ProcessedSink:
    """A sink that passes entries to another sink with a `decode` that also processes them."""

    def __init__(
        self,
        sink: Sink,
        decoder: SharedDecoder,
        number: int = 0,
        delivered: Delivered | None = None,
        *,
        pauses: bool = False,
        path: Path | None = None,
        identity: str | None = None,
        reduction: Reduction | None = None,
    ) -> None:
        """`number` is its number in the decoder; `pauses`: sleep between records to let other threads run.

        `path` is that of a store that is a file, the same for every URL of it; `identity` distinguishes stores of the
        same name. `reduction` removes what this store does not keep; the sink is given the result alone, encoded.
        """
        self._sink = sink
        self._decoder = decoder
        self._number = number
        self._delivered = delivered
        self._reduce = None if reduction is None else reduction.process
        self.keeps = "" if reduction is None else reduction.keeps
        self._pauses = pauses
        self._pausing = False
        self._paused_ns = 0
        self.name = sink.name
        self.path = path
        self.identity = sink.name if identity is None else identity
        self.batch_entries = sink.batch_entries

    def open(self) -> None:
        """Connect, and create what is missing."""
        self._sink.open()

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Store all entries, processed."""
        take, delivered = self._take, self._delivered
        deliver = self._sink.deliver if self._reduce is None else partial(self._deliver_reduced, self._reduce)
        # A full batch means that the sink is behind: do not sleep.
        self._pausing = self._pauses and len(entries) < self.batch_entries
        changed: list[Record] = []

        def decode(entry: Entry) -> Record:
            decoded = take(entry)
            if decoded.is_changed:
                changed.append(decoded.record)
            return decoded.record

        # Cheaper than `_replace`.
        deliver([Entry(segment, start, end, payload, decode) for segment, start, end, payload, _ in entries])
        if delivered is not None:
            for record in changed:
                delivered(record)

    def _deliver_reduced(self, reduce: Process, entries: Sequence[Entry]) -> None:
        self._sink.deliver([_reduced(entry, entry.decode(entry), reduce) for entry in entries])

    def _take(self, entry: Entry) -> Decoded:
        if self._pausing and time.perf_counter_ns() - self._paused_ns > _AT_A_STRETCH_NS:
            # A store releases the GIL for microseconds only, too short for a caller's thread to wake up:
            # it would wait until the batch is stored, or for the switch interval of 5 ms.
            time.sleep(_PAUSE_S)
            self._paused_ns = time.perf_counter_ns()
        return self._decoder.take(self._number, entry)

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Save an entry that cannot be stored, as received, for inspection; without content that it does not keep."""
        if self._reduce is not None:
            try:
                entry = _reduced(entry, decode_payload(entry.payload), self._reduce)
            except PoisonError:
                entry, reason = entry._replace(payload=b""), "not a record; the store keeps less than all content"
        self._sink.set_aside(entry, reason)

    def close(self) -> None:
        """Close files and connections."""
        self._sink.close()


def _reduced(entry: Entry, record: Record, reduce: Process) -> Entry:
    """Return the entry as if only this had been written."""
    reduced = reduce(record)
    return entry._replace(payload=encode(reduced), decode=lambda _: reduced)
