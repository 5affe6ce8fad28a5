"""Recorder: appends records to the spool, opened at the first record; creates the sinks of the configured stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from callspan.background import Worker
from callspan.cost.price_table import PriceFileError, pricer_for
from callspan.delivery.retaining import Retention, retains
from callspan.fail_open import fail_open, report
from callspan.process import callbacks
from callspan.process.content import without_bodies
from callspan.process.processed import Processed
from callspan.process.processors import delivery_processors
from callspan.record import codec
from callspan.record.events import Record
from callspan.settings import SettingError, Settings
from callspan.spool.directory import Listing
from callspan.spool.processed_sink import ProcessedSink
from callspan.spool.shipper import SinkState
from callspan.spool.sink import Sink
from callspan.spool.spool import Spool
from callspan.spool.unrecorded import UnrecordedCalls
from callspan.stores.protocol import SqlStore
from callspan.stores.spools import spool_directory
from callspan.stores.urls import find_store, split_urls

_CLOSE_TIMEOUT_S: Final = 5.0
_OPEN: Final = "open"
_FOR_RECORDS: Final = ("before_record", "after_record")
_LATE_S: Final = 1.0
_CLOSING: Final = Worker("callspan-closing")
_KEEP: Final = fail_open("keep a record")
_SHOW: Final = fail_open("show a record to a listener")

Listener: TypeAlias = Callable[[Processed[Record]], None]
_destination: Final[list[Destination]] = []


class Destination(NamedTuple):
    """The destination of this process's records."""

    stores: tuple[str, ...]
    spool: Spool


def last_destination() -> Destination | None:
    """Return the last destination of this process's records; None if it recorded nothing."""
    return _destination[0] if _destination else None


class Recorder:
    """Writes processed records to the spool of the configured stores. Safe from any thread; never raises."""

    def __init__(
        self, settings: Settings, listeners: tuple[Listener, ...] = (), priced: Listener | None = None
    ) -> None:
        """`priced` is called with each call whose cost was computed during delivery, once the first store has it."""
        self._settings = settings
        self._priced = priced
        self._stores = settings.stores
        self._listeners = listeners
        # At most one item, added and removed atomically: with a lock, a signal handler could wait for the thread
        # it interrupted.
        self._open_spool: dict[str, Spool] = {}
        self.unrecorded = UnrecordedCalls(self.directory)
        """Counts the calls that leave no record."""
        self.refused = 0
        """Number of records that were not written because no processor had returned them."""
        self.in_use = True
        """False once replaced by another recorder: running calls are still recorded, but nothing stays open."""

    @property
    def stores(self) -> tuple[str, ...]:
        """URLs of the stores."""
        return self._stores

    def writes_starts(self) -> bool:
        """Return whether a store, a listener or a callback receives the record of a stream that was sent."""
        return bool(self._stores or self._listeners) or not callbacks.REGISTERED.keys().isdisjoint(_FOR_RECORDS)

    @property
    def spool(self) -> Spool | None:
        """The spool; None before the first record."""
        return self._open_spool.get(_OPEN)

    def add_stores(self, urls: tuple[str, ...]) -> Spool | None:
        """Add stores, from the next record on; return the spool to close, if any."""
        added = tuple(url for url in urls if url not in self._stores)
        if not added:
            return None
        self._stores += added
        return self._open_spool.pop(_OPEN, None)

    def write(self, processed: Processed[Record]) -> None:
        """Append a record: when this returns, the operating system has it. Anything but a processed one is refused."""
        if type(processed) is not Processed:
            self._refuse(processed)
            return
        record = processed.record
        if self._stores:
            with _KEEP:
                payload, without_bodies = codec.encode(record), partial(_encoded_without_bodies, record)
                spool = self._open_spool.get(_OPEN) or self._open()
                if not spool.append(payload, without_bodies) and self.spool is not spool:
                    # Another thread closed it in between.
                    self._open().append(payload, without_bodies)
        for listener in self._listeners:
            with _SHOW:
                listener(processed)

    def _refuse(self, value: object) -> None:
        self.refused += 1
        raised = TypeError(f"{type(value).__name__} did not pass the processors")
        report(_KEEP.what, raised)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every store has every record so far; False if that took too long.

        If nothing was recorded yet, deliver the records that ended processes left for these stores.
        """
        self.unrecorded.flush(timeout_s)
        spool = self.spool
        if spool is not None:
            return spool.flush(timeout_s)
        if not self._stores or not self.in_use or not Listing(spool_directory(self._settings, self._stores)).segments:
            return True
        return self._open().ship(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Deliver as much as possible within the time; the rest waits on disk for the next process."""
        self.unrecorded.flush(timeout_s)
        spool = self._open_spool.pop(_OPEN, None)
        if spool is not None:
            spool.close(timeout_s)

    def retire(self, timeout_s: float) -> None:
        """Close now, and again shortly after each record that still arrives, on a background thread."""
        self.in_use = False
        self.close(timeout_s)

    def say_lost_memory(self) -> None:
        """Count records that only memory has, in a process that ends now, and say so on standard error."""
        if (spool := self.spool) is not None:
            spool.say_lost_memory()

    def counters(self) -> Mapping[str, int]:
        """Return the spool's counters; empty before the first record."""
        counted = {} if (spool := self.spool) is None else spool.counters()
        return {**counted, "dropped.unprocessed": self.refused} if self.refused else counted

    def states(self) -> Sequence[SinkState]:
        """Return the state of each store; empty before the first record."""
        return () if (spool := self.spool) is None else spool.states()

    def drops(self) -> Mapping[str, int]:
        """Return how many records were dropped before any store could have them, by reason."""
        drops = {} if (spool := self.spool) is None else spool.drops()
        return {**drops, "unprocessed": self.refused} if self.refused else drops

    def directory(self) -> Path | None:
        """Return the directory of the spool; None without stores."""
        return spool_directory(self._settings, self._stores) if self._stores else None

    def _tended(self, sinks: Sequence[Sink]) -> Sequence[Sink]:
        """Return the sinks; where something is to be deleted by itself, those of SQLite and Postgres do it."""
        for store, sink in zip(map(find_store, self._stores), sinks, strict=True):
            if retains(self._settings) and isinstance(store, SqlStore) and isinstance(sink, ProcessedSink):
                sink.tending = Retention(store, self._settings)
        return sinks

    def _close_late(self, spool: Spool) -> None:
        if not self.in_use and self._open_spool.get(_OPEN) is spool:
            self.close(_CLOSE_TIMEOUT_S)

    def _open(self) -> Spool:
        settings = self._settings
        # A spool creates no file or thread before its first record, so a second one created concurrently is discarded.
        spool = Spool(
            spool_directory(settings, self._stores),
            self._tended(
                store_sinks(self._stores, settings.prices, self._priced, pauses=True, retain_days=settings.retain_days)
            ),
            fsync=settings.fsync,
            max_bytes=settings.spool_max_bytes,
        )
        spool = self._open_spool.setdefault(_OPEN, spool)
        if not self.in_use:
            _CLOSING.put_later(_LATE_S, partial(self._close_late, spool))
        _destination[:] = [Destination(self._stores, spool)]
        return spool


def _encoded_without_bodies(record: Record) -> bytes:
    return codec.encode(without_bodies(record))


def store_sinks(
    urls: str | Iterable[str],
    prices: Path | None = None,
    priced: Listener | None = None,
    *,
    pauses: bool = False,
    retain_days: float | None = None,
) -> list[Sink]:
    """Return one unopened sink per URL, in order; the first of records calls `priced` with each call that it priced.

    `pauses`: sleep between records, so that threads of the application can make calls. `retain_days` is the setting.
    Raises SettingError for an invalid URL, or one whose optional dependency is not installed.
    """
    stores = list(map(find_store, split_urls(urls)))
    for store in stores:
        store.retain_days = retain_days
    delivery = delivery_processors(prices)
    delivered = None if priced is None else lambda record: priced(delivery.without_callbacks(record))
    return [
        ProcessedSink(
            store.sink(), delivery.run, delivered if number == 0 else None,
            pauses=pauses, path=store.path, identity=store.identity,
        )
        for number, store in enumerate(stores)
    ]  # fmt: skip


def check_prices(prices: object) -> None:
    """Raise SettingError for an invalid or unreadable price file."""
    try:
        pricer_for(prices if isinstance(prices, Path) else None)
    except PriceFileError as error:
        raise SettingError(str(error)) from error
