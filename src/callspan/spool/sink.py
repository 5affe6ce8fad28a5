"""Sink: the protocol between the spool and a store.

At least once, idempotent by record key: a sink may be given an entry again after any failure, by any
process, and an older version of a record must change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from callspan.record.events import Record


def as_it_is(record: Record) -> Record:
    """Return the record."""
    return record


class Entry(NamedTuple):
    """One frame of a segment."""

    segment: str
    """File name of the segment; unique for ever."""
    start: int
    end: int
    """Offset behind the frame: the cursor once this entry is delivered."""
    payload: bytes
    """JSON of one record, see `callspan.record.codec`."""
    process: Callable[[Record], Record] = as_it_is
    """What is to be stored of the record; never raises. A store calls it for one record after the other."""


class PoisonError(Exception):
    """The batch holds something this sink can never store; it is bisected and the culprit set aside."""


class Sink(Protocol):
    """Where a shipper delivers. Used by one thread at a time; never by the application's threads."""

    name: str
    """Says which store it is, without any password."""
    batch_entries: int
    """How many entries it likes at once."""

    def open(self) -> None:
        """Connect, create or migrate. Called before the first delivery and again after each failure."""

    def position(self, segment: str) -> int | None:
        """Return the offset up to which this sink itself knows it has the segment; None if it keeps no cursors."""

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Store all entries durably, with the cursor if it keeps one, or raise and store none.

        Raises PoisonError for content it can never store; anything else means "try again later".
        """

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Keep an entry that cannot be stored where a person can find it (dead letters)."""

    def forget(self, segment: str) -> None:
        """Drop the cursor of a segment that is gone."""

    def close(self) -> None:
        """Close files and connections; `open` may follow."""
