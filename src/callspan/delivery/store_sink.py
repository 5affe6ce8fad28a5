"""Store sink: decodes and prices the records of a spool for a store, off the caller's thread; deletes old ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from callspan.delivery.retaining import Retention
from callspan.process.processors import delivery_processors
from callspan.record.codec import NO_RECORD, decode
from callspan.record.events import Record
from callspan.settings import Settings
from callspan.spool.destination import Destination, Rejected
from callspan.stores.protocol import Store
from callspan.stores.urls import find_store

_AT_A_STRETCH_NS: Final = 250_000
_PAUSE_S: Final = 0.000_05
"""Sleep between records, longer than waking a thread takes."""


def store_of(url: str, settings: Settings) -> Store:
    """Return the store of a URL, with the settings that it follows by itself. Raises SettingError."""
    store = find_store(url)
    store.retain_days, store.syncs = settings.retain_days, settings.fsync == "always"
    return store


class StoreSink(Destination):
    """The sink of a store, as a spool uses it."""

    def __init__(
        self,
        store: Store,
        prices: Path | None = None,
        *,
        priced: Callable[[Record], object] | None = None,
        retention: Retention | None = None,
        pauses: bool = False,
    ) -> None:
        """`priced` is called with each record that was changed on the way, once it is stored.

        `pauses`: sleep between records, so that threads of the application can make calls. Raises SettingError where
        something that the store needs is not installed.
        """
        self._sink = store.sink()
        self._process = delivery_processors(prices).run
        self._priced, self._retention, self._pauses = priced, retention, pauses
        self._paused_ns = 0
        self.closes_before_fork = store.closes_before_fork
        self.batch_records = self._sink.batch_records

    def open(self) -> None:
        """Connect, and create missing tables or files."""
        self._sink.open()

    def deliver(self, payloads: Sequence[bytes]) -> None:
        """Store all records, priced."""
        # A full batch means that the store is behind: do not sleep.
        pauses = self._pauses and len(payloads) < self.batch_records
        written = [self._decoded(payload, pauses=pauses) for payload in payloads]
        records = [self._process(record) for record in written]
        try:
            self._sink.deliver(records)
        except Rejected as error:
            # Of a store that names anything else, it is searched for.
            named = (payload for payload, record in zip(payloads, records, strict=True) if record is error.record)
            raise Rejected(str(error), next(named, None)) from error
        if self._priced is not None:
            for before, record in zip(written, records, strict=True):
                if record is not before:
                    self._priced(record)

    def _decoded(self, payload: bytes, *, pauses: bool) -> Record:
        if pauses and time.perf_counter_ns() - self._paused_ns > _AT_A_STRETCH_NS:
            # A store releases the GIL for microseconds only, too short for a caller's thread to wake up:
            # it would wait until the batch is stored, or for the switch interval of 5 ms.
            time.sleep(_PAUSE_S)
            self._paused_ns = time.perf_counter_ns()
        try:
            return decode(payload)
        except NO_RECORD as error:
            raise Rejected(f"not a record: {error}", payload) from error

    def tend(self, waits_since_ns: int | None) -> float | None:
        """Delete a batch of old records."""
        return None if self._retention is None else self._retention.tend(waits_since_ns)

    def close(self) -> None:
        """Close files and connections."""
        if self._retention is not None:
            self._retention.close()
        self._sink.close()
