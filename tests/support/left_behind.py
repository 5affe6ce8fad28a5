"""Left behind: records on disk, as a process leaves them that ends before any store has them."""

from __future__ import annotations

from pathlib import Path

from callspan import Settings
from callspan.records import Record, encode
from callspan.spool import directory as places
from callspan.spool.losses import read_losses
from callspan.spool.segment import Segment
from callspan.stores import find_store, split_urls
from callspan.stores.spools import spool_directory, target_of


def directory_of(stores: str, settings: Settings | None = None) -> Path:
    """Return the directory where records for a comma list of stores usually wait."""
    return spool_directory(settings or Settings(), split_urls(stores))


def unrecorded(stores: str) -> dict[str, int]:
    """Return what was counted as not recorded in that directory: number of requests by method and path."""
    return {path: loss.count for path, loss in read_losses(directory_of(stores)).unrecorded.items()}


def leave_behind(stores: str, *records: Record, settings: Settings | None = None) -> Path:
    """Leave records for a comma list of stores; return their directory."""
    directory = directory_of(stores, settings)
    places.create(directory, [target_of(find_store(url)) for url in split_urls(stores)])
    segment = Segment.create(directory, places.keys_of(directory))
    for record in records:
        segment.append(encode(record), segment.size)
    segment.close()
    return directory
