"""Recorder: appends records to the spool of the configured stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from callspan.cost.price_table import PriceFileError, pricer_for
from callspan.delivery.store_sink import Retention, StoreSink, retains, store_of
from callspan.process import callbacks
from callspan.process.processed import ProcessedRecord
from callspan.process.processors import delivery_processors
from callspan.record import codec
from callspan.record.call import CallRecord
from callspan.record.events import Record
from callspan.runtime.background import Worker
from callspan.runtime.fail_open import fail_open, report
from callspan.runtime.file_lock import is_on_network
from callspan.settings import SettingError, Settings, absolute, with_absolute_paths
from callspan.settings_loader import warn_once
from callspan.spool.delivering import Destination
from callspan.spool.directory import Target
from callspan.spool.shipper import SinkState
from callspan.spool.spool import Spool
from callspan.stores.protocol import SqlStore, Store
from callspan.stores.spools import roots_of, target_of

_FOR_RECORDS: Final = ("before_record", "after_record")
_CLOSE_TIMEOUT_S: Final = 5.0
_LATE_S: Final = 1.0
_CLOSING: Final = Worker("callspan-closing")
_KEEP: Final = fail_open("keep a record")
_SHOW: Final = fail_open("show a record to a listener")
_COUNT: Final = fail_open("count a call that leaves no record")
_UNRECORDED: Final = (
    "not recorded: %s (logged once). `callspan doctor` counts them; see 'What is not recorded' in the documentation"
)
_ON_NETWORK: Final = (
    "records wait in %s, on a network file system, where locks are unreliable: "
    "set CALLSPAN_SPOOL_DIR to a directory on a local disk"
)

Listener: TypeAlias = Callable[[ProcessedRecord[Record]], None]


class Recorder:
    """Writes processed records to the spool of the configured stores. Safe from any thread; never raises."""

    def __init__(
        self, settings: Settings, listeners: tuple[Listener, ...] = (), on_priced: Listener | None = None
    ) -> None:
        """`on_priced` is called with each call that was priced during delivery, once the first store has it."""
        self._settings, self._listeners, self._priced = with_absolute_paths(settings), listeners, on_priced
        self._stores: dict[str, Store] = {}
        """The stores by URL. Each is made once, because a relative path depends on the current directory."""
        self._roots: list[Path] = []
        """Where records of these stores wait: the roots before stores were added may still have some."""
        self.spool: Spool | None = None
        """None without stores."""
        self.add_stores(settings.stores)
        self.calls = 0
        """Number of calls that ended and were written; calls from different threads at once may be missing."""
        self.refused = 0
        """Number of records that were not written because they had not passed the processors."""
        self.in_use = True
        """False once replaced by another recorder, which still records running calls but keeps nothing open."""

    def writes_starts(self) -> bool:
        """Return whether a store, a listener or a callback receives the first version of a call."""
        return bool(self._stores or self._listeners) or not callbacks.REGISTERED.keys().isdisjoint(_FOR_RECORDS)

    @property
    def stores(self) -> tuple[str, ...]:
        """URLs of the stores."""
        return tuple(self._stores)

    def add_stores(self, urls: tuple[str, ...]) -> Spool | None:
        """Add stores for all further records; return the spool to close, if any."""
        new_stores = {url: store_of(url, self._settings) for url in urls if url not in self._stores}
        if not new_stores:
            return None
        self._stores = {**self._stores, **new_stores}
        self._roots = [*dict.fromkeys([*roots_of(self._settings, self._stores.values()), *self._roots])]
        previous_spool, self.spool = self.spool, self._new_spool()
        return previous_spool

    def write(self, processed: ProcessedRecord[Record], *, replaces: bool = False) -> bool:
        """Append a processed record; return whether the operating system has it. Anything else is refused.

        Then call the listeners and the `after_record` callbacks. `replaces`: its call has been counted. Without stores
        there is nothing to append to.
        """
        if type(processed) is not ProcessedRecord:
            self._refuse(processed)
            return False
        is_kept = True
        if (spool := self.spool) is not None:
            is_kept = False
            with _KEEP:
                record = processed.record
                is_kept = spool.append(codec.encode(record))
                if is_kept and type(record) is CallRecord and record.part != "started" and record.is_own:
                    self.calls += not replaces
                if not self.in_use or spool is not self.spool:
                    _CLOSING.put_later(_LATE_S, partial(self._deliver_late, spool))
        for listener in self._listeners:
            with _SHOW:
                listener(processed)
        if callbacks.REGISTERED:
            callbacks.call("after_record", processed.record)
        return is_kept

    def _refuse(self, value: object) -> None:
        self.refused += 1
        report(_KEEP.what, TypeError(f"{type(value).__name__} did not pass the processors"))

    def note_unrecorded(self, path: str) -> None:
        """Count a request that may cost money but leaves no record, by method and path without ids."""
        with _COUNT:
            warn_once(_UNRECORDED % path)
            if self.spool is not None:
                self.spool.count("unrecorded", path)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every store has every record, see `Spool.flush`."""
        if self.spool is None:
            return True
        delivered = self.spool.flush(timeout_s)
        if not self.in_use:
            self.spool.close(0.0)  # the flush has started threads, if another spool left records
        return delivered

    def retire(self, timeout_s: float) -> None:
        """Deliver records until the timeout, and later records soon after they are written; the rest waits on disk."""
        self.in_use = False
        if self.spool is not None:
            self.spool.close(timeout_s)

    def _deliver_late(self, spool: Spool) -> None:
        """Deliver records of calls that ended during or after `retire` or `add_stores`, and close their spool."""
        # A record appended while the spool closed waits on disk, and its threads may have ended.
        spool.flush(_CLOSE_TIMEOUT_S, own_only=True)
        spool.close(_CLOSE_TIMEOUT_S)

    def counters(self) -> Mapping[str, int]:
        """Return the spool's counters; empty without stores."""
        counts = {} if self.spool is None else self.spool.counters()
        return {**counts, "dropped.unprocessed": self.refused} if self.refused else counts

    def states(self) -> Sequence[SinkState]:
        """Return the state of each store; empty before the first record."""
        return () if self.spool is None else self.spool.states()

    def drops(self) -> Mapping[str, int]:
        """Return the number of records dropped before any store had them, by reason."""
        drops = {} if self.spool is None else self.spool.losses.totals("dropped")
        return {**drops, "unprocessed": self.refused} if self.refused else drops

    def _new_spool(self) -> Spool:
        settings, roots, sinks = self._settings, self._roots, dict[Target, Callable[[], Destination]]()
        for store in self._stores.values():
            sinks.setdefault(target_of(store), partial(self._sink, store, None if sinks else self._priced))
        if is_on_network(roots[0]):
            warn_once(_ON_NETWORK % roots[0])
        return Spool(roots, sinks, sync=settings.fsync == "always", max_bytes=settings.spool_max_bytes)

    def _sink(self, store: Store, on_priced: Listener | None) -> StoreSink:
        settings = self._settings
        retention = Retention(store, settings) if retains(settings) and isinstance(store, SqlStore) else None
        without_callbacks = delivery_processors(settings.prices).without_callbacks
        callback = None if on_priced is None else lambda record: on_priced(without_callbacks(record))
        return StoreSink(store, settings.prices, on_priced=callback, retention=retention, pauses=True)


def check_prices(prices: object) -> None:
    """Raise SettingError for an invalid or unreadable price file."""
    try:
        pricer_for(absolute(prices) if isinstance(prices, Path) else None)
    except PriceFileError as error:
        raise SettingError(str(error)) from error
