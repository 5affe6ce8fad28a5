"""Backlog: where records wait for a store, and how much waits there."""

from __future__ import annotations

from pathlib import Path

from callspan.settings_loader import load
from callspan.spool.segment import SUFFIX, store_key_of
from callspan.stores.urls import split_urls


def spool_of(stores: str) -> Path:
    """Return the directory in which records wait for these stores."""
    from callspan.wiring.recorder import spool_directory

    urls = tuple(split_urls(stores))
    return spool_directory(load({"stores": urls}), urls)


def held_for_others(stores: str) -> list[Path]:
    """Return the segments that wait where those for these stores do, and are for another set of stores.

    Raises SettingError for a store that cannot be used here.
    """
    from callspan.spool.store_key import store_key
    from callspan.wiring.store_sinks import store_sinks

    directory = spool_of(stores)
    if not directory.is_dir():
        return []
    ours = {None, store_key(directory, store_sinks(split_urls(stores)))}
    return [path for path in directory.iterdir() if path.suffix == SUFFIX and store_key_of(path.name) not in ours]


def waiting_bytes(directory: Path) -> int:
    """Return the bytes of all segments in a spool directory; 0 where there is none.

    Segments of living processes count, of which much may be delivered.
    """
    if not directory.is_dir():
        return 0
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file() and path.suffix == SUFFIX)
