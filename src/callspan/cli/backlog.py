"""Backlog: where records wait for a store, and how much waits there."""

from __future__ import annotations

from pathlib import Path

from callspan.config import load
from callspan.spool.segment import SUFFIX
from callspan.stores.opening import split_urls


def spool_of(stores: str) -> Path:
    """Return the directory in which records wait for these stores."""
    from callspan.wiring.recorder import spool_directory

    urls = tuple(split_urls(stores))
    return spool_directory(load({"stores": urls}), urls)


def waiting_bytes(directory: Path) -> int:
    """Return the bytes of all segments in a spool directory; 0 where there is none.

    Segments of living processes count, of which much may be delivered.
    """
    if not directory.is_dir():
        return 0
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file() and path.suffix == SUFFIX)
