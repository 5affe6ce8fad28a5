"""Destination: receives the records of a spool; usually a store. `Health` warns of its failures and its recovery."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from callspan.fail_open import log
from callspan.formatting import plural
from callspan.safe_urls import whole_words, without_passwords

_AGAIN_S: Final = 300.0
"""Minimum time between two warnings."""
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


class Health:
    """Warns of the failures of one store. Used by the thread that delivers to it."""

    def __init__(self, name: str, waits: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        """`waits` returns what waits for the store, and where; it is called for a warning only."""
        self._name, self._waits, self._clock = name, waits, clock
        self._failing_since: float | None = None
        self._has_warned = False
        self._warn_at = -inf

    def failed(self, error: Exception) -> None:
        """Warn of a failure, but not again within some minutes, also if the store recovers and fails again."""
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        if now >= self._warn_at:
            self._has_warned, self._warn_at = True, now + _AGAIN_S
            log(logging.WARNING, "%s is unavailable (%s): %s; retrying", self._name, reason(error), self._waits())

    def recovered(self) -> None:
        """Log once that the store accepts records again, if its failure was logged."""
        since, has_warned = self._failing_since, self._has_warned
        self._failing_since, self._has_warned = None, False
        if since is not None and has_warned:
            log(logging.WARNING, "%s takes records again, after %.1f s", self._name, self._clock() - since)


def reason(error: Exception) -> str:
    """Return why a store failed, as a short text without passwords."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    text = without_passwords(text)
    return text if len(text) <= _MAX_REASON else whole_words(text, _MAX_REASON).rstrip() + "…"


def waiting_text(records: int, place: object) -> str:
    """Return what waits for a store, and where."""
    return f"{plural(records, 'record', 'wait')}, kept in {place}"
