"""Sink: the protocol between the spool and a store; health: warnings of a failing one, what waits, and its recovery.

Delivery is at least once and idempotent by record key: after a failure a sink may get an entry again, from any
process, and an older version of a record must change nothing.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from callspan.fail_open import log
from callspan.formatting import iso, plural
from callspan.record.codec import decode
from callspan.record.events import Record
from callspan.record.formats import OtherFormatError
from callspan.safe_urls import whole_words, without_passwords

_AGAIN_S: Final = 300.0
"""Minimum time between two warnings of one outage, and between two with the same reason."""
_VARYING: Final = re.compile(r"[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|[0-9]+")
"""Ids and numbers in messages, such as query ids, ports and sizes; they do not make a reason different."""
_LONGEST: Final = 400
_From = TypeVar("_From")
_Made = TypeVar("_Made")


def decode_payload(payload: bytes) -> Record:
    """Return the record unprocessed. Raises PoisonError if it is not a record of a known schema."""
    try:
        # The decoder skips bodies, even those with bytes that are not text.
        if not payload.isascii():
            payload.decode("utf-8")
        return decode(payload)
    except (msgspec.DecodeError, OtherFormatError, UnicodeDecodeError, RecursionError) as error:
        raise PoisonError(f"not a record: {error}") from error


def decode_entry(entry: Entry) -> Record:
    """Return the record of an entry unprocessed. Raises PoisonError if it is not a record of a known schema."""
    return decode_payload(entry.payload)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One frame of a segment."""

    segment: str
    """File name of the segment; unique for ever."""
    start: int
    end: int
    """Offset after the frame: the store's cursor once this entry is delivered."""
    payload: bytes
    """JSON of one record, see `callspan.record.codec`."""
    decode: Callable[[Entry], Record] = decode_entry
    """Returns the record to store; stores call it for one entry at a time. Raises only PoisonError."""
    shared: dict[object, Any] | None = None
    """What was made of it for one store and others may use too, see `once`; None: nothing is kept."""

    def once(self, make: Callable[[_From], _Made], of: _From) -> _Made:
        """Return `make(of)`, which is made once for all stores; `of` is what they all have alike of this entry."""
        shared = self.shared
        if shared is None:
            return make(of)
        if make not in shared:
            shared[make] = make(of)
        made: _Made = shared[make]
        return made


class PoisonError(Exception):
    """The batch has an entry this sink can never store; the shipper bisects the batch and sets the entry aside."""


class Sink(Protocol):
    """The destination of a shipper. Used by one thread at a time, never by the application's threads."""

    name: str
    """Name of the store, without a password."""
    batch_entries: int
    """Preferred number of entries per batch."""

    def open(self) -> None:
        """Connect, and create what is missing. Called before the first delivery and again after each failure."""

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Store all entries durably, or raise and store none.

        Raises PoisonError for content it can never store; any other exception means that a retry may succeed.
        """

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Save an entry that cannot be stored for inspection (dead letters)."""

    def close(self) -> None:
        """Close files and connections; `open` may follow."""


Since: TypeAlias = Callable[[], int | None]
"""Returns since when the oldest record waits for any store, Unix time; None if none waits. Raises OSError."""


class Tending(Protocol):
    """Work on a store that its thread does beside delivering. Used by that thread only; never raises."""

    def step(self, waits_since_ns: Since) -> None:
        """Work for a moment, if it is time."""

    def due_s(self) -> float:
        """Return in how many seconds it is time for the next step; 0: now."""

    def close(self) -> None:
        """Close files and connections; a step may follow."""


class BaseSink:
    """Base of sinks; opens and closes nothing by itself."""

    name: str
    batch_entries = 100

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Backlog(NamedTuple):
    """The records that wait for a store."""

    records: int
    since_ns: int | None
    """Earliest possible time at which the first of them was written, Unix time."""
    place: str


class Health:
    """Warns of the failures of one store. Used by the thread that delivers to it."""

    def __init__(self, name: str, backlog: Callable[[], Backlog], clock: Callable[[], float] = time.monotonic) -> None:
        """`backlog` is called only for a warning, because it reads what waits."""
        self._name = name
        self._backlog = backlog
        self._clock = clock
        self._warned: dict[str, float] = {}
        """Time of the last warning of each reason, with its numbers removed."""
        self._failing_since: float | None = None
        self._has_warned = False
        self._last_warning = 0.0

    def failed(self, error: Exception) -> None:
        """Warn of a failure, unless this outage, or another one with the same reason, was logged some minutes ago.

        A server that restarts closes the connection, refuses the next one, and then says that it is starting.
        """
        now, why = self._clock(), reason(error)
        kind = _VARYING.sub("", why)
        if self._failing_since is None:
            self._failing_since = now
        if now < self._warned.get(kind, -_AGAIN_S) + _AGAIN_S:
            return
        if self._has_warned and now < self._last_warning + _AGAIN_S:
            return
        self._warned = {known: then for known, then in self._warned.items() if now < then + _AGAIN_S} | {kind: now}
        self._has_warned, self._last_warning = True, now
        waits = self._backlog()
        since = "" if waits.since_ns is None else f" since {iso(waits.since_ns)}"
        log(
            logging.WARNING,
            "%s is unavailable (%s): %s%s, kept in %s; retrying",
            self._name,
            why,
            plural(waits.records, "record", "wait"),
            since,
            waits.place,
        )

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
    return text if len(text) <= _LONGEST else whole_words(text, _LONGEST).rstrip() + "…"
