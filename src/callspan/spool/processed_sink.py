"""Processed sink: a sink whose records go through processors before they are stored, off the caller's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from callspan.process.processors import Processors
from callspan.record.events import Record
from callspan.spool.sink import Entry, Sink

Delivered: TypeAlias = Callable[[Record], None]
"""Called with each record that the processors have changed, once it is stored. Must not raise."""


class ProcessedSink:
    """Passes everything on to another sink, entries with the processors for their records."""

    def __init__(self, sink: Sink, processors: Processors, delivered: Delivered | None = None) -> None:
        self._sink = sink
        self._process = processors.without_callbacks
        self._delivered = delivered
        self.name = sink.name
        self.path = getattr(sink, "path", None)
        """Of a store that is a file: its path, whichever URL names it."""
        self.batch_entries = sink.batch_entries

    def open(self) -> None:
        """Connect, create or migrate."""
        self._sink.open()

    def position(self, segment: str) -> int | None:
        """Return the offset up to which the sink itself knows it has the segment."""
        return self._sink.position(segment)

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Store all entries, processed."""
        delivered = self._delivered
        if delivered is None:
            self._sink.deliver([entry._replace(process=self._process) for entry in entries])
            return
        changed: list[Record] = []

        def process(record: Record) -> Record:
            processed = self._process(record)
            if processed is not record:
                changed.append(processed)
            return processed

        self._sink.deliver([entry._replace(process=process) for entry in entries])
        for record in changed:
            delivered(record)

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Keep an entry that cannot be stored where a person can find it, as it came."""
        self._sink.set_aside(entry, reason)

    def forget(self, segment: str) -> None:
        """Drop the cursor of a segment that is gone."""
        self._sink.forget(segment)

    def close(self) -> None:
        """Close files and connections."""
        self._sink.close()
