"""Waiting: counts the records of a spool directory that a store does not have yet, and the records that were lost.

Records that a spool had to drop are counted in a file next to its segments.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from callspan.fail_open import ours
from callspan.file_lock import locked, try_lock
from callspan.spool.directory import Listing, others_of, read_cursor
from callspan.spool.frames import HEAD_BYTES, MAGIC

_LENGTH: Final = struct.Struct("<I")
_OPEN: Final = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Waiting(NamedTuple):
    """The records of one segment that a store does not have."""

    path: Path
    records: int
    held: bool
    """A running process holds the segment and delivers it."""

    @property
    def since_ns(self) -> int:
        """Creation time of the segment, Unix time."""
        stamp = self.path.name.partition("-")[0]
        return int(stamp) if stamp.isdecimal() else 0


def waiting(
    directory: Path, key: str, position: Callable[[str], int | None] | None = None, *, unnamed: bool = True
) -> list[Waiting]:
    """Return the segments with records that wait for the store of this key, the oldest first. Raises OSError.

    `position` returns the offset up to which the store itself has a segment; None if unknown or unreachable.
    """
    found = []
    for name in Listing(directory).for_stores((key,), unnamed=unnamed):
        path = directory / name
        known = read_cursor(directory, name, key), (position(name) if position is not None else None) or 0
        records = count_records(path, max(known))
        if records:
            found.append(Waiting(path, records, is_held(path)))
    return found


def waiting_for_others(directory: Path, keys: Collection[str]) -> int:
    """Return how many records wait for other stores than these and are held by no process. Raises OSError."""
    return sum(
        count_records(
            directory / name, min(read_cursor(directory, name, key) for key in others_of(directory / name, keys))
        )
        for name in Listing(directory).for_others(keys)
        if not is_held(directory / name)
    )


def can_be_adopted(directory: Path, key: str, *, unnamed: bool = True) -> bool:
    """Return whether there are segments that the store of this key may need and no process holds. Raises OSError."""
    names = Listing(directory).for_stores((key,), unnamed=unnamed)
    return any(not is_held(directory / name) for name in names)


def is_held(path: Path) -> bool:
    """Return whether another process holds the segment, or this one lacks the permission to lock it."""
    try:
        descriptor = os.open(path, _OPEN)
    except ours(FileNotFoundError):
        return False
    except ours(OSError):
        return True
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def count_records(path: Path, offset: int = 0) -> int:
    """Return how many frames begin at or after `offset`, by their lengths; 0 if the file cannot be read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= offset:
                return 0
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
                return _count(data, offset)
    except ours(OSError, ValueError):
        return 0


def _count(data: mmap.mmap, at: int) -> int:
    count = 0
    while 0 <= at <= len(data) - HEAD_BYTES:
        end = at + HEAD_BYTES + int(_LENGTH.unpack_from(data, at + len(MAGIC))[0])
        if data[at : at + len(MAGIC)] == MAGIC and end <= len(data):
            count += 1
            at = end
        else:
            at = data.find(MAGIC, at + 1)
    return count


FILE: Final = "losses.json"
_LOCK: Final = "losses.lock"


class Loss(msgspec.Struct):
    """Records that were lost for one reason, or to one store."""

    name: str
    """Name of the store or of the reason."""
    records: int = 0
    first_ns: int = 0
    """Time of the first loss, Unix time."""
    last_ns: int = 0

    def add(self, records: int) -> None:
        """Add records that are lost now."""
        self.last_ns = time.time_ns()
        self.first_ns = self.first_ns or self.last_ns
        self.records += records


class Losses(msgspec.Struct):
    """The losses of a spool directory since its creation."""

    given_up: dict[str, Loss] = {}
    """Losses of one store each, by its key, because the spool was at its cap."""
    dropped: dict[str, Loss] = {}
    """Losses of all stores, by reason."""


def read_losses(directory: Path) -> Losses:
    """Return the losses of a directory; empty if the file is missing or damaged."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Losses)
    except ours(OSError, msgspec.MsgspecError):
        return Losses()


def add_losses(directory: Path, given_up: Mapping[str, tuple[str, int]], dropped: Mapping[str, int]) -> None:
    """Add losses of single stores, (name, records) by key, and of all stores, by reason. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(directory / _LOCK):
        losses = read_losses(directory)
        for key, (name, records) in given_up.items():
            losses.given_up.setdefault(key, Loss(name)).add(records)
        for reason, records in dropped.items():
            losses.dropped.setdefault(reason, Loss(reason)).add(records)
        fresh = directory / f"{FILE}.new"
        fresh.write_bytes(msgspec.json.encode(losses))
        fresh.chmod(0o600)
        fresh.replace(directory / FILE)
