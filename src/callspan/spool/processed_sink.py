"""Processed sinks: decode and process records for the sink of a store, off the caller's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from callspan.record.events import Record
from callspan.spool.sink import Entry, Sink, Tending, decode_payload

Process: TypeAlias = Callable[[Record], Record]
"""From a record as it was written to the one to store; the same object if nothing changes. Must not raise."""
Delivered: TypeAlias = Callable[[Record], object]
"""Called with each record that was changed on the way, once it is stored. Must not raise."""
_AT_A_STRETCH_NS: Final = 250_000
_PAUSE_S: Final = 0.000_05
"""Sleep between records, longer than waking a thread takes."""


class ProcessedSink:
    """A sink that passes entries to another sink with a `decode` that also processes them."""

    def __init__(
        self,
        sink: Sink,
        process: Process,
        delivered: Delivered | None = None,
        *,
        pauses: bool = False,
        path: Path | None = None,
        identity: str | None = None,
    ) -> None:
        """`pauses`: sleep between records to let other threads run.

        `path` is that of a store that is a file, the same for every URL of it; `identity` distinguishes stores of the
        same name.
        """
        self._sink = sink
        self._process = process
        self._delivered = delivered
        self._pauses = pauses
        self._pausing = False
        self._paused_ns = 0
        self.name = sink.name
        self.path = path
        self.tending: Tending | None = None
        """Other work on the store; set before the first use."""
        self.identity = sink.name if identity is None else identity
        self.batch_entries = sink.batch_entries

    def open(self) -> None:
        """Connect, and create what is missing."""
        self._sink.open()

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Store all entries, processed."""
        delivered = self._delivered
        # A full batch means that the sink is behind: do not sleep.
        self._pausing = self._pauses and len(entries) < self.batch_entries
        changed: list[Record] = []

        def decode(entry: Entry) -> Record:
            if self._pausing:
                self._pause()
            written = entry.once(decode_payload, entry.payload)
            record = entry.once(self._process, written)
            if delivered is not None and record is not written:
                changed.append(record)
            return record

        self._sink.deliver([Entry(one.segment, one.start, one.end, one.payload, decode, one.shared) for one in entries])
        if delivered is not None:
            for record in changed:
                delivered(record)

    def _pause(self) -> None:
        if time.perf_counter_ns() - self._paused_ns > _AT_A_STRETCH_NS:
            # A store releases the GIL for microseconds only, too short for a caller's thread to wake up:
            # it would wait until the batch is stored, or for the switch interval of 5 ms.
            time.sleep(_PAUSE_S)
            self._paused_ns = time.perf_counter_ns()

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Save an entry that cannot be stored, as received, for inspection."""
        self._sink.set_aside(entry, reason)

    def close(self) -> None:
        """Close files and connections."""
        self._sink.close()
