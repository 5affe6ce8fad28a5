"""Delivering: delivers one batch of a segment to its destination, usually a store.

A record that can never be stored is rejected.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from callspan.process.sent_keys import without_secrets
from callspan.runtime.fail_open import fail_open, value_of
from callspan.runtime.safe_urls import first_line
from callspan.spool.directory import REJECTED_FILE
from callspan.spool.losses import Kind
from callspan.spool.segment import Line, Segment, lines_in, opened

DATA_ERRORS: Final = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""Exceptions caused by a record rather than by a file, a network or a database."""
MAX_FAILURES: Final = 5
_CURSOR: Final = fail_open("write a cursor; after a crash some records are delivered again")
_MAX_REASON: Final = 400
_NONE: Final = Counter[Kind]()


class BatchResult(NamedTuple):
    """The result of delivering a batch."""

    records: int = 0
    lost: Counter[Kind] = _NONE
    """The number of records that the store will never have, by kind."""
    has_more: bool = False
    """Whether the segment had more lines when the batch was read."""


class Delivery:
    """Delivers batches of segments to one store, which it opens. For one thread."""

    def __init__(self, store: str, sink: Destination, max_failures: int = MAX_FAILURES) -> None:
        """`max_failures` is the number of consecutive `DATA_ERRORS` after which a batch is bisected."""
        self.store, self.sink = store, sink
        self.max_failures = max_failures
        self.is_open = False
        self.data_errors = 0
        """Number of consecutive batches that failed with `DATA_ERRORS`."""
        self._batch_limit = sink.batch_records
        """Number of records in the next batch: bisected to find a record that the store rejects, then doubled again."""

    def deliver(self, segment: Segment, key: str) -> BatchResult:
        """Deliver the next batch and move the store's cursor past it. Raises the store's exceptions.

        If the store rejects a record, nothing moves, and the next batch has only the records before it.
        """
        if not self.is_open:
            self.sink.open()
            self.is_open = True
        start, size = segment.cursor(key), segment.size
        lines = self._next_lines(segment, start)
        if not lines:
            return BatchResult()
        payloads, rejected = [line.payload for line in lines if line.payload], 0
        try:
            if payloads:
                self.sink.deliver(payloads)
        except (Rejected, *DATA_ERRORS) as error:
            if records_before := self._records_before(error, payloads):
                self._batch_limit = records_before
                return BatchResult(has_more=True)
            reject(segment.path.parent, self.store, payloads[0], reason(error))
            lines, rejected = lines[: [line.payload for line in lines].index(payloads[0]) + 1], 1
        if rejected or self._batch_limit >= self.sink.batch_records:
            self.data_errors = 0
        self._batch_limit = min(2 * self._batch_limit, self.sink.batch_records)
        with _CURSOR:
            segment.move(key, lines[-1].end)
        damaged = sum(line.payload is None for line in lines)
        records = sum(bool(line.payload) for line in lines) - rejected
        lost = +Counter[Kind]({"rejected": rejected, "damaged": damaged})
        return BatchResult(records, lost, lines[-1].end < size)

    def _next_lines(self, segment: Segment, start: int) -> list[Line]:
        lines = list(islice(lines_in(segment.read(start), start), self._batch_limit))
        if any(line.payload is None for line in lines):
            # A line that another process is erasing looks damaged.
            lines = list(islice(lines_in(segment.read(start), start), len(lines)))
        return lines

    def _records_before(self, error: Exception, payloads: Sequence[bytes]) -> int:
        """Return the number of records to deliver before the one that caused an error; 0 if the first did.

        Half of them, if it is unknown. Raises the error if the same batch is to be delivered again.
        """
        if not isinstance(error, Rejected) and self.data_errors < self.max_failures:
            self.data_errors += 1
            raise error
        rejected = error.record if isinstance(error, Rejected) else None
        return payloads.index(rejected) if rejected in payloads else len(payloads) // 2

    def close(self) -> None:
        """Close the store; the next batch reopens it."""
        self.is_open = False
        self.sink.close()


def reject(directory: Path, store: str, payload: bytes, why: str) -> None:
    """Append a record that can never be stored, with the reason, to `rejected.jsonl`. Raises OSError."""
    try:
        record = msgspec.json.format(payload, indent=0)
    except (msgspec.DecodeError, RecursionError):
        record = msgspec.json.encode(payload.decode("utf-8", "replace"))
    line = msgspec.json.encode({"store": store, "reason": why, "record": msgspec.Raw(record)})
    with opened(directory / REJECTED_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
        os.write(descriptor, line + b"\n")


class Rejected(Exception):  # noqa: N818 - part of the public interface of stores
    """A record of the batch can never be stored."""

    def __init__(self, reason: str, record: object = None) -> None:
        """`record` is the rejected record as it was delivered; None if unknown: then the batch is bisected."""
        super().__init__(reason)
        self.record = record


class SuspectError(ValueError):
    """The store failed for want of memory or time, which a record of the batch may take, or another client.

    As with other `DATA_ERRORS`, the batch is delivered again first, and bisected only if that goes on.
    """


class NoFreeConnectionError(Exception):
    """A server that works has no connection to spare: other processes have them, for a moment each."""


class Waiting(NamedTuple):
    """The records of any process that wait for a store, read when they are asked for."""

    since_ns: Callable[[], int | None]
    """Returns since when the oldest one waits, Unix time; None if none waits."""
    payloads: Callable[[], Iterator[bytes]]
    """Returns all of them."""


class Destination:
    """The destination of records. Used by one thread at a time, never by the application's threads.

    Delivery is at least once: after a failure any process may deliver a record again.
    """

    closes_before_fork: bool = False
    """True for SQLite, which would assume in a child that it holds the locks of the parent."""
    batch_records: int = 100
    is_shared: bool = False
    """True for a server: batches are collected for longer, and the connection is closed when there are no records."""

    def open(self) -> None:
        """Connect, and create missing tables or files. Called before the first delivery and after each `close`."""

    def deliver(self, payloads: Sequence[bytes]) -> None:
        """Store all records durably, or raise and store none.

        Raises Rejected for a record that can never be stored; after any other exception a retry may succeed.
        """
        raise NotImplementedError

    def maintain(self, waiting: Waiting) -> bool:
        """Do a short piece of maintenance while nothing is to be delivered; return whether there is more to do now.

        It must not delete anything newer than the waiting records, nor anything that waits in a newer version.
        """
        del waiting
        return False

    def close(self) -> None:
        """Close files and connections. Called after each failure; `open` may follow."""


def reason(error: BaseException) -> str:
    """Return the reason for a store's failure, as a short text without secrets."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = value_of(partial(str, error)) or ""
    return first_line(without_secrets(text), _MAX_REASON) or type(error).__name__
