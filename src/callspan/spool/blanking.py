"""Blanking: takes records out of the segments of a spool directory, also of those that running processes write.

The frame of a record is overwritten in place by one of the same length, whose payload is blank: offsets stay what they
are, and readers pass over it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from callspan.spool.directory import Listing, others_of
from callspan.spool.segment import ERASED, Segment, encode_frame

_OPEN: Final = os.O_RDWR


class Erased(NamedTuple):
    """What was taken out of a spool directory."""

    records: int
    for_others: int
    """Records that stay, because stores that were not meant still need them."""
    damaged: list[Path]
    """Files with damaged parts that stay."""


def payloads_in(directory: Path, keys: Collection[str], *, unnamed: bool) -> Iterator[bytes]:
    """Yield the records in the segments of these stores, delivered ones too. Raises OSError.

    `unnamed`: also in segments without store keys.
    """
    listing = Listing(directory)
    for name in listing.of_stores(keys, unnamed=unnamed):
        with suppress(FileNotFoundError), _opened(directory / name) as segment:
            yield from (entry.payload for entry in segment.entries())


def erase(directory: Path, keys: Collection[str], is_gone: Callable[[bytes], bool], *, unnamed: bool) -> Erased:
    """Take the records of which `is_gone` is true out of the segments, and out of what was damaged. Raises OSError."""
    listing = Listing(directory)
    records = for_others = 0
    for name in listing.of_stores(keys, unnamed=unnamed):
        others = others_of(directory / name, keys)
        with suppress(FileNotFoundError), _opened(directory / name) as segment:
            gone = [entry for entry in segment.entries() if is_gone(entry.payload)]
            if others and not listing.is_delivered(name, others):
                for_others += len(gone)
                continue
            for entry in gone:
                segment.overwrite(entry.start, encode_frame(ERASED * len(entry.payload)))
            records += len(gone)
    damaged = listing.damaged()
    gone_parts = [path for path in damaged if is_gone(path.read_bytes())]
    for path in gone_parts:
        path.unlink(missing_ok=True)
    stay = [path for path in damaged if path not in gone_parts]
    return Erased(records + len(gone_parts), for_others, stay)


@contextmanager
def _opened(path: Path) -> Iterator[Segment]:
    # Without its lock: the process that holds the segment goes on.
    segment = Segment(path, os.open(path, _OPEN), own=False)
    try:
        yield segment
        segment.sync()
    finally:
        segment.release()
