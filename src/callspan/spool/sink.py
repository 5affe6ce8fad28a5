"""Sink: the protocol between the spool and a store.

At least once, idempotent by record key: a sink may be given an entry again after any failure, by any
process, and an older version of a record must change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from callspan.record.codec import UnknownSchemaError, decode
from callspan.record.events import Record


class Decoded(NamedTuple):
    """One record out of its payload."""

    record: Record
    """What is to be stored."""
    original: Record
    """What the payload says, as far as this version knows its fields; the same object where nothing was changed."""


def decode_payload(payload: bytes) -> Decoded:
    """Return the record as it is. Raises PoisonError for what is no record of a known schema."""
    try:
        # Bodies are passed over by the decoder, bytes that are no text among them.
        if not payload.isascii():
            payload.decode("utf-8")
        record = decode(payload)
    except (msgspec.DecodeError, UnknownSchemaError, UnicodeDecodeError, RecursionError) as error:
        raise PoisonError(f"not a record: {error}") from error
    return Decoded(record, record)


def decode_entry(entry: Entry) -> Decoded:
    """Return the record of an entry as it is. Raises PoisonError for what is no record of a known schema."""
    return decode_payload(entry.payload)


class Entry(NamedTuple):
    """One frame of a segment."""

    segment: str
    """File name of the segment; unique for ever."""
    start: int
    end: int
    """Offset behind the frame: the cursor once this entry is delivered."""
    payload: bytes
    """JSON of one record, see `callspan.record.codec`."""
    decode: Callable[[Entry], Decoded] = decode_entry
    """What a store calls with the entry for its record, one entry after the other. Raises PoisonError only."""


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
