"""Delivering: one batch of a segment to one store; a record that the store can never take is rejected."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from callspan.fail_open import fail_open
from callspan.spool.destination import Destination, Rejected, reason
from callspan.spool.directory import REJECTED_FILE
from callspan.spool.segment import Line, Segment, lines_in, open_private

DATA_ERRORS: Final = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""Exceptions that a record causes, not a file, a network or a database."""
MAX_FAILURES: Final = 5
"""After so many of them in a row the batch is bisected."""
_CURSOR: Final = fail_open("write a cursor; after a crash some records are delivered again")


class Delivered(NamedTuple):
    """What a batch came to."""

    records: int = 0
    rejected: int = 0
    damaged: int = 0
    is_last: bool = True
    """Whether the segment had no other whole line."""


class Delivery:
    """Delivers the batches of segments to one store. For one thread."""

    def __init__(self, store: str, sink: Destination) -> None:
        self.store, self.sink = store, sink
        self.data_errors = 0
        """How many batches in a row have failed by a `DATA_ERRORS`."""
        self._rejected: set[int] = set()
        """Hashes of the records of this batch that were rejected already, before the rest of it failed."""

    def deliver(self, segment: Segment, key: str) -> Delivered:
        """Deliver the next batch, and move the store's cursor behind it. Raises what the store raises."""
        start = segment.cursor(key)
        size = segment.size
        data = segment.read(start)
        if not data:
            segment.note_end(key, size)
            return Delivered()
        lines = list(islice(lines_in(data, start), self.sink.batch_records))
        if any(line.payload is None for line in lines):
            # What another process erases at this moment looks damaged.
            lines = list(islice(lines_in(segment.read(start), start), len(lines)))
        rejected = self._deliver([line for line in lines if line.payload], segment.path.parent)
        self.data_errors = 0
        self._rejected.clear()
        with _CURSOR:
            segment.move(key, lines[-1].end)
        damaged = sum(line.payload is None for line in lines)
        records = sum(bool(line.payload) for line in lines) - rejected
        return Delivered(records, rejected, damaged, lines[-1].end >= start + len(data))

    def _deliver(self, lines: Sequence[Line], directory: Path) -> int:
        """Deliver some lines; return how many of them the store rejects."""
        payloads = [line.payload for line in lines if line.payload]
        if not payloads:
            return 0
        try:
            self.sink.deliver(payloads)
        except (Rejected, *DATA_ERRORS) as error:
            if not isinstance(error, Rejected) and self.data_errors < MAX_FAILURES:
                self.data_errors += 1
                raise
            return self._divide(lines, error, directory)
        return 0

    def _divide(self, lines: Sequence[Line], error: Exception, directory: Path) -> int:
        """Reject the record that an error is about, and deliver the others; it is searched for if need be."""
        rejected = error.record if isinstance(error, Rejected) else None
        if rejected is None and len(lines) > 1:
            middle = len(lines) // 2
            return self._deliver(lines[:middle], directory) + self._deliver(lines[middle:], directory)
        payload = rejected if isinstance(rejected, bytes) else lines[0].payload or b""
        self._reject(directory, payload, reason(error))
        return 1 + self._deliver([line for line in lines if line.payload != payload], directory)

    def _reject(self, directory: Path, payload: bytes, why: str) -> None:
        if hash(payload) not in self._rejected:
            reject(directory, self.store, payload, why)
            self._rejected.add(hash(payload))


def reject(directory: Path, store: str, payload: bytes, why: str) -> None:
    """Keep a record that a store can never take, with the reason. Raises OSError."""
    try:
        record = msgspec.json.format(payload, indent=0)
    except (msgspec.DecodeError, RecursionError):
        record = msgspec.json.encode(payload.decode("utf-8", "replace"))
    line = msgspec.json.encode({"store": store, "reason": why, "record": msgspec.Raw(record)})
    descriptor = open_private(directory / REJECTED_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, line + b"\n")
    finally:
        os.close(descriptor)
