"""Store sink: decodes and prices the records of a spool for a store, off the caller's thread.

Between deliveries it deletes expired records and contents in batches.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from callspan.process.processors import delivery_processors
from callspan.record.call import CallRecord
from callspan.record.codec import NO_RECORD, decode
from callspan.record.events import Record, TimestepRecord, record_key
from callspan.runtime.clock import monotonic_s
from callspan.runtime.fail_open import fail_open, log
from callspan.settings import Settings, absolute
from callspan.spool.delivering import Destination, Rejected, Waiting
from callspan.stores.base import session_of, start_of
from callspan.stores.protocol import ServerStore, SqlStore, Store
from callspan.stores.removal import RetentionTimes
from callspan.stores.urls import find_store

_AT_A_STRETCH_NS: Final = 250_000
_PAUSE_S: Final = 0.000_05
"""Pause between records, longer than it takes to wake a thread."""

_MIN_PAUSE_S: Final = 60.0
_MAX_PAUSE_S: Final = 3600.0
_DAY_S: Final = 86_400
_DAY_NS: Final = _DAY_S * 10**9
_QUIET_NS: Final = 2 * _DAY_NS
"""Minimum time without activity after which a session without an end expires: a background response may take a day."""


def store_of(url: str, settings: Settings) -> Store:
    """Return the store of a URL, with the settings that it applies itself. Raises SettingError."""
    store = find_store(url)
    store.retain_days, store.syncs = settings.retain_days, settings.fsync == "always"
    store.joins = settings.runs
    if store.path is not None:
        path = absolute(store.path)
        # The target of a link: the lock, the log and rotated files are next to the file itself.
        store.path = Path(os.path.realpath(path)) if store.is_file else path
    return store


class StoreSink(Destination):
    """The sink of a store as the destination of a spool."""

    def __init__(
        self,
        store: Store,
        prices: Path | None = None,
        *,
        on_priced: Callable[[Record], object] | None = None,
        retention: Retention | None = None,
        pauses: bool = False,
    ) -> None:
        """`on_priced` is called with each record that processing changed, once it is stored.

        `pauses`: pause between records, so that the application's threads can run. Raises SettingError if a package
        that the store requires is missing.
        """
        self._sink = store.sink()
        self._process = delivery_processors(prices).run
        self._sink.price_with(self._priced_call)
        self._priced, self._retention, self._pauses = on_priced, retention, pauses
        self._paused_ns = 0
        self.closes_before_fork = store.closes_before_fork
        self.batch_records = self._sink.batch_records
        self.is_shared = isinstance(store, ServerStore)

    def open(self) -> None:
        """Connect, and create missing tables or files."""
        self._sink.open()

    def deliver(self, payloads: Sequence[bytes]) -> None:
        """Price and store all records."""
        # A full batch means that the store is behind: do not pause.
        pauses = self._pauses and len(payloads) < self.batch_records
        decoded_records = [self._decoded(payload, pauses=pauses) for payload in payloads]
        records = [self._process(record) for record in decoded_records]
        try:
            self._sink.deliver(records)
        except Rejected as error:
            # If the store names no record of the batch, it is bisected.
            rejected_payloads = (
                payload for payload, record in zip(payloads, records, strict=True) if record is error.record
            )
            raise Rejected(str(error), next(rejected_payloads, None)) from error
        if self._priced is not None:
            for decoded, record in zip(decoded_records, records, strict=True):
                if record is not decoded:
                    self._priced(record)

    def _priced_call(self, call: CallRecord) -> CallRecord:
        record = self._process(call)
        return record if isinstance(record, CallRecord) else call

    def _decoded(self, payload: bytes, *, pauses: bool) -> Record:
        if pauses and time.perf_counter_ns() - self._paused_ns > _AT_A_STRETCH_NS:
            # A store releases the GIL only for microseconds, too short to wake a caller's thread,
            # which would wait for the whole batch or for the switch interval of 5 ms.
            time.sleep(_PAUSE_S)
            self._paused_ns = time.perf_counter_ns()
        try:
            return decode(payload)
        except NO_RECORD as error:
            raise Rejected(f"not a record: {error}", payload) from error

    def maintain(self, waiting: Waiting) -> bool:
        """Delete a batch of expired records; return whether there may be more."""
        return self._retention is not None and self._retention.maintain(waiting)

    def close(self) -> None:
        """Close files and connections."""
        if self._retention is not None:
            self._retention.close()
        self._sink.close()


def retains(settings: Settings) -> bool:
    """Return whether records or contents expire."""
    return {settings.retain_days, settings.retain_content_days} != {None}


class Retention:
    """The retention of one store in one process. Used by the thread that delivers to the store."""

    def __init__(self, store: SqlStore, settings: Settings) -> None:
        """`maintain` does the work."""
        self._store = store
        self._days = settings.retain_days, settings.retain_content_days
        shortest_s = min(days for days in self._days if days is not None) * _DAY_S
        self._pause_s = min(_MAX_PAUSE_S, max(_MIN_PAUSE_S, shortest_s / 100))
        """Pause between two passes; a pass scans all contents."""
        self._pass: Iterator[int] | None = None
        self._next = 0.0
        self._has_deleted = False
        self._failing = fail_open(f"delete old records from {store.name}")

    def maintain(self, waiting: Waiting) -> bool:
        """Delete a batch if due; return whether there may be more. Deliveries come first."""
        if monotonic_s() < self._next:
            return False
        self._next, count = monotonic_s() + self._pause_s, None
        with self._failing:
            self._pass = self._pass or self._store.retain(self._times(waiting))
            count = next(self._pass, None)
        if count is None:
            self.close()
            return False
        self._next = 0.0
        self._log_start(count)
        return True

    def _log_start(self, count: int) -> None:
        if count and not self._has_deleted:
            self._has_deleted = True
            text = "%s: retention has begun to delete (retain_days=%s, retain_content_days=%s)"
            log(logging.WARNING, text, self._store.name, *self._days)

    def close(self) -> None:
        """Abandon the current pass."""
        steps, self._pass = self._pass, None
        if isinstance(steps, Generator):
            steps.close()

    def _times(self, waiting: Waiting) -> RetentionTimes:
        """Return until when records and contents have expired, except those that may still wait in the spool."""
        now_ns, since_ns = time.time_ns(), waiting.since_ns()
        until = now_ns if since_ns is None else min(now_ns, since_ns)
        before_ns, content_before_ns = (
            None if days is None else min(until, now_ns - int(days * _DAY_NS)) for days in self._days
        )
        return RetentionTimes(now_ns - _QUIET_NS, before_ns, content_before_ns, _old_ids(waiting.payloads(), until))


def _old_ids(payloads: Iterable[bytes], until_ns: int) -> set[str]:
    """Return the ids of the sessions of records, and of the calls and timesteps that began before a time."""
    ids = set[str]()
    for payload in payloads:
        with suppress(*NO_RECORD):
            record = decode(payload)
            if (session_id := session_of(record)) is not None:
                ids.add(session_id)
            if isinstance(record, CallRecord | TimestepRecord) and start_of(record) < until_ns:
                ids.add(record_key(record)[1])
    return ids
