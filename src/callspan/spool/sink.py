"""Sink: the protocol between the spool and a store.

Delivery is at least once and idempotent by record key: after a failure a sink may get an entry again, from any
process, and an older version of a record must change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from callspan.record.codec import UnknownSchemaError, decode
from callspan.record.events import Record


class Decoded(NamedTuple):
    """One record decoded from its payload."""

    record: Record
    """The record to store."""
    original: Record
    """The record as in the payload, with the fields this version knows; the same object if nothing was changed."""


def decode_payload(payload: bytes) -> Decoded:
    """Return the record unprocessed. Raises PoisonError if it is not a record of a known schema."""
    try:
        # The decoder skips bodies, even those with bytes that are not text.
        if not payload.isascii():
            payload.decode("utf-8")
        record = decode(payload)
    except (msgspec.DecodeError, UnknownSchemaError, UnicodeDecodeError, RecursionError) as error:
        raise PoisonError(f"not a record: {error}") from error
    return Decoded(record, record)


def decode_entry(entry: Entry) -> Decoded:
    """Return the record of an entry unprocessed. Raises PoisonError if it is not a record of a known schema."""
    return decode_payload(entry.payload)


class Entry(NamedTuple):
    """One frame of a segment."""

    segment: str
    """File name of the segment; unique for ever."""
    start: int
    end: int
    """Offset after the frame: the cursor once this entry is delivered."""
    payload: bytes
    """JSON of one record, see `callspan.record.codec`."""
    decode: Callable[[Entry], Decoded] = decode_entry
    """Returns the record of an entry; stores call it for one entry at a time. Raises only PoisonError."""


class PoisonError(Exception):
    """The batch has an entry this sink can never store; the shipper bisects the batch and sets the entry aside."""


class Sink(Protocol):
    """The destination of a shipper. Used by one thread at a time, never by the application's threads."""

    name: str
    """Name of the store, without a password."""
    batch_entries: int
    """Preferred number of entries per batch."""

    def open(self) -> None:
        """Connect, create or migrate. Called before the first delivery and again after each failure."""

    def position(self, segment: str) -> int | None:
        """Return the offset up to which this sink itself knows it has the segment; None if it keeps no cursors."""

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Store all entries durably, with the cursor if it keeps one, or raise and store none.

        Raises PoisonError for content it can never store; any other exception means that a retry may succeed.
        """

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Save an entry that cannot be stored where a person can find it (dead letters)."""

    def forget(self, segment: str) -> None:
        """Drop the cursor of a segment that is gone."""

    def close(self) -> None:
        """Close files and connections; `open` may follow."""
