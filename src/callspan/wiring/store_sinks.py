"""Store sinks: creates the sinks of the configured stores, which share decoding and pricing of calls."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from callspan.cost.price_table import PriceFileError, pricer_for
from callspan.process.processors import delivery_processors
from callspan.settings import SettingError
from callspan.spool.processed_sink import Delivered, ProcessedSink, SharedDecoder
from callspan.spool.sink import Sink
from callspan.stores.urls import sinks_for


def store_sinks(
    urls: str | Iterable[str], prices: Path | None = None, delivered: Delivered | None = None, *, pauses: bool = False
) -> list[Sink]:
    """Return one unopened sink per URL, in order; the first one calls `delivered` for each call it has priced.

    `pauses`: sleep between records, so that threads of the application can make calls.
    Raises SettingError for an invalid URL, or one whose optional dependency is not installed.
    """
    sinks = sinks_for(urls)
    decoder = SharedDecoder(delivery_processors(prices), len(sinks))
    return [
        ProcessedSink(sink, decoder, number, delivered if number == 0 else None, pauses=pauses)
        for number, sink in enumerate(sinks)
    ]


def check_prices(prices: object) -> None:
    """Raise SettingError for an invalid or unreadable price file."""
    try:
        pricer_for(prices if isinstance(prices, Path) else None)
    except PriceFileError as error:
        raise SettingError(str(error)) from error
