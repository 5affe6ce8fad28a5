"""Priced stores: a call gets its cost on its way into a store, off the caller's thread; on spans where asked to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from callspan.config import SettingError
from callspan.cost.pricing import Pricer, pricer_for, stated_cost
from callspan.cost.table import PriceFileError
from callspan.fail_open import fail_open
from callspan.record.call import CallRecord, Cost
from callspan.record.codec import UnknownSchemaError, decode
from callspan.record.events import Record
from callspan.spool.sink import Entry, Sink
from callspan.stores.urls import sinks_for

Priced: TypeAlias = Callable[[CallRecord, Cost], None]
"""Is told of a call that got its cost on its way into a store, once it is there. Never raises."""

_CALL: Final = b'{"kind":"call"'
_PRICE: Final = fail_open("price a call")
_READ: Final = fail_open("read the price file")
_NO_RECORD: Final = (msgspec.DecodeError, UnknownSchemaError, UnicodeDecodeError, RecursionError)


class PricedSink:
    """A sink that adds the cost to each call that has none, and passes everything else on as it is."""

    def __init__(self, sink: Sink, prices: Path | None = None, told: Priced | None = None) -> None:
        """`prices` is the user's own price file; it is read when the first call is priced."""
        self._sink = sink
        self._prices = prices
        self._told = told
        self.name = sink.name
        self.path = getattr(sink, "path", None)
        """Of a store that is a file: for whom records wait goes by the file, however a URL names it."""
        self.batch_entries = sink.batch_entries

    def open(self) -> None:
        """Connect, create or migrate."""
        self._sink.open()

    def position(self, segment: str) -> int | None:
        """Return the offset up to which the sink itself knows it has the segment."""
        return self._sink.position(segment)

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Store all entries, calls with their costs."""
        found: list[tuple[CallRecord, Cost]] = []
        self._sink.deliver([entry._replace(payload=self._priced(entry.payload, found)) for entry in entries])
        if self._told is not None:
            for record, cost in found:
                self._told(record, cost)

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Keep a bad entry where a person can find it, as it came."""
        self._sink.set_aside(entry, reason)

    def forget(self, segment: str) -> None:
        """Drop the cursor of a segment that is gone."""
        self._sink.forget(segment)

    def close(self) -> None:
        """Let go of files and connections."""
        self._sink.close()

    def _priced(self, payload: bytes, found: list[tuple[CallRecord, Cost]]) -> bytes:
        """The record with its cost appended, so that fields of other versions stay as they are."""
        if not payload.startswith(_CALL):
            return payload
        try:
            record = decode(payload)
        except _NO_RECORD:
            return payload
        if not isinstance(record, CallRecord) or record.cost is not None:
            return payload
        cost: Cost | None = None
        with _PRICE:
            cost = _pricer(self._prices).cost(record)
        if cost is None:
            return payload
        found.append((record, cost))
        return payload.rstrip()[:-1] + b',"cost":' + msgspec.json.encode(cost) + b"}"


def treated_with_cost(
    record: Record, *, treat: Callable[[Record], Record], prices: Path | None, computed: bool
) -> Record:
    """Return a treated record with the cost its span shows: what the provider states, and with `computed` any."""
    treated = treat(record)
    if not isinstance(treated, CallRecord) or treated.cost is not None or treated.usage is None:
        return treated
    if not computed and treated.usage.cost_usd is None:
        return treated
    with _PRICE:
        cost = _pricer(prices).cost(treated) if computed else stated_cost(treated)
        return treated if cost is None else msgspec.structs.replace(treated, cost=cost)
    return treated


def _pricer(prices: Path | None) -> Pricer:
    with _READ:
        return pricer_for(prices)
    # A file that cannot be used was told of; published prices are better than none.
    return pricer_for(None)


def priced_sinks(urls: str | Iterable[str], prices: Path | None = None, told: Priced | None = None) -> list[Sink]:
    """Return one sink per URL, in order, none opened yet, each of which prices calls; the first tells `told`.

    Raises SettingError for a URL that means nothing or whose optional dependency is not installed.
    """
    return [PricedSink(sink, prices, told if number == 0 else None) for number, sink in enumerate(sinks_for(urls))]


def check_prices(prices: object) -> None:
    """Raise SettingError for a price file that cannot be used."""
    try:
        pricer_for(prices if isinstance(prices, Path) else None)
    except PriceFileError as error:
        raise SettingError(str(error)) from error
