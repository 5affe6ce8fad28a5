"""Destination: receives the records of a spool; usually a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from callspan.safe_urls import whole_words, without_passwords

_MAX_REASON: Final = 400


class Rejected(Exception):  # noqa: N818 - what a store says of a record
    """The store can never take a record of the batch."""

    def __init__(self, reason: str, record: object = None) -> None:
        """`record` is the one, as it was delivered; None: the store does not know which, and is given parts."""
        super().__init__(reason)
        self.record = record


class Destination:
    """The destination of the records in a spool. Used by one thread at a time, never by the application's.

    Delivery is at least once: after a failure a sink gets a record again, from any process.
    """

    closes_before_fork: bool = False
    """True for SQLite: it would believe to hold in a child the locks that it has in the parent."""
    batch_records: int = 100

    def open(self) -> None:
        """Connect, and create missing tables or files. Called before the first delivery and after each failure."""

    def deliver(self, payloads: Sequence[bytes]) -> None:
        """Store all records durably, or raise and store none.

        Raises Rejected for a record that it can never take; after any other exception a retry may succeed.
        """
        raise NotImplementedError

    def tend(self, waits_since_ns: int | None) -> float | None:
        """Do other work on the store for a moment, where nothing is to be delivered.

        Nothing that is newer than `waits_since_ns` (Unix time) may be deleted: parts of it may still wait. Returns in
        how many seconds more is due; None: nothing is.
        """
        del waits_since_ns
        return None

    def close(self) -> None:
        """Close files and connections; `open` may follow."""


def reason(error: BaseException) -> str:
    """Return why a store failed, as a short text without passwords."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    text = without_passwords(text)
    return text if len(text) <= _MAX_REASON else whole_words(text, _MAX_REASON).rstrip() + "…"
