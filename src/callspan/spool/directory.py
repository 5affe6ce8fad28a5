"""Spool directory: its segments, their stores and cursors, and the records that wait for a store.

The name of a segment has a short key for each of its stores. A cursor file next to the segment has the offset up to
which a store has it; only the holder of the segment writes it, after each batch.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from callspan.file_lock import try_lock
from callspan.record.formats import OtherFormatError
from callspan.spool.segment import ERASED, HEAD_BYTES, MAGIC, SUFFIX, created_ns, keys_of, other_formats
from callspan.spool.sink import Sink

CURSOR_SUFFIX: Final = ".cursor"
BAD_SUFFIX: Final = ".bad"
"""Suffix of files that hold the damaged parts of segments."""

_DIGITS: Final = 12
_LENGTH: Final = struct.Struct("<I")
_OPEN: Final = os.O_RDWR


def cursor_path(directory: Path, segment: str, key: str) -> Path:
    """Return the path of the cursor file of a store, by its key, for a segment."""
    return directory / f"{segment}.{key}{CURSOR_SUFFIX}"


def read_cursor(directory: Path, segment: str, key: str) -> int:
    """Return the stored offset; 0 if missing or damaged, because delivering twice is harmless and skipping is not."""
    try:
        kept = cursor_path(directory, segment, key).read_bytes()
    except OSError:
        return 0
    digits, _, _ = kept.partition(b" ")
    return int(digits) if digits.isdigit() and kept == _with_checksum(digits) else 0


def write_cursor(directory: Path, segment: str, key: str, offset: int) -> None:
    """Store the offset by one write over the one before, which needs no room on a full disk. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT
    fd = os.open(cursor_path(directory, segment, key), flags, 0o600)
    try:
        os.write(fd, _with_checksum(b"%020d" % offset))
    finally:
        os.close(fd)


def remove_cursors(directory: Path, segment: str) -> None:
    """Delete the cursors of a deleted segment. Raises OSError."""
    # Not by `glob`: it leaves a compiled pattern for each segment in the cache of `re`, in place of the application's.
    for name in _names(directory):
        if name.startswith(f"{segment}.") and name.endswith(CURSOR_SUFFIX):
            directory.joinpath(name).unlink(missing_ok=True)


def _names(directory: Path) -> frozenset[str]:
    """Return the names of the files in a directory; none where it is missing. Raises OSError."""
    try:
        return frozenset(path.name for path in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def _with_checksum(digits: bytes) -> bytes:
    return b"%b %08x" % (digits, crc32(digits))


class Listing:
    """A snapshot of the file names in a spool directory, and what they mean."""

    def __init__(self, directory: Path) -> None:
        """Read the directory; a missing one is empty. Raises OSError."""
        self.directory = directory
        self._names = _names(directory)
        names = sorted(name for name in self._names if name.endswith(SUFFIX))
        self.others = other_formats(directory, names)
        """Segments of other formats, with their format; they are left as they are."""
        self.segments = [name for name in names if name not in self.others]
        """Those of today's format, the oldest first."""

    def damaged(self) -> list[Path]:
        """Return the files with damaged parts of segments."""
        return sorted(self.directory / name for name in self._names if _is_bad(name))

    def for_stores(self, keys: Collection[str], *, unnamed: bool = True) -> list[str]:
        """Return the segments that one of these stores may still need; `unnamed`: also those without store keys."""
        return [name for name in self.segments if self._needs(name, keys, unnamed=unnamed)]

    def of_stores(self, keys: Collection[str], *, unnamed: bool) -> list[str]:
        """Return all segments of these stores, those that they have too; `unnamed`: also those without store keys."""
        named = ((name, keys_of(self.directory / name)) for name in self.segments)
        return [name for name, its in named if (unnamed if its is None else not its.isdisjoint(keys))]

    def for_others(self, keys: Collection[str]) -> list[str]:
        """Return the segments that stores other than these still need, according to the cursor files."""
        named = ((name, others_of(self.directory / name, keys)) for name in self.segments)
        return [name for name, others in named if others and not self.is_delivered(name, others)]

    def is_delivered(self, name: str, keys: Collection[str]) -> bool:
        """Return whether each of these stores has the complete segment, according to the cursor files."""
        marked = [key for key in keys if cursor_path(self.directory, name, key).name in self._names]
        if len(marked) < len(keys):
            return False
        try:
            size = (self.directory / name).stat().st_size
        except OSError:
            return True  # deleted in between
        return all(read_cursor(self.directory, name, key) >= size for key in marked)

    def waiting_since_ns(self, held: Collection[str], keys: Collection[str]) -> list[int]:
        """Return when each segment was made that some store lacks a part of; of the `held` ones, a store not of `keys`.

        Those without store keys count until they are deleted.
        """
        found = []
        for name in self.segments:
            named = keys_of(self.directory / name)
            lacking = None if named is None else named.difference(keys if name in held else ())
            if name not in held if lacking is None else not self.is_delivered(name, lacking):
                found.append(created_ns(name))
        return found

    def remove_strays(self) -> None:
        """Delete the cursor files of deleted segments. Raises OSError."""
        segments = {*self.segments, *self.others}
        for name in self._names:
            if name.endswith(CURSOR_SUFFIX) and name.partition(SUFFIX)[0] + SUFFIX not in segments:
                self.directory.joinpath(name).unlink(missing_ok=True)

    def _needs(self, name: str, keys: Collection[str], *, unnamed: bool) -> bool:
        named = keys_of(self.directory / name)
        if named is None:
            return unnamed
        mine = sorted(named.intersection(keys))
        # A segment that every store has is deleted by whichever process finds it.
        return bool(mine) and (not self.is_delivered(name, mine) or self.is_delivered(name, sorted(named)))


def refusals(directory: Path, keys: Collection[str] | None = None) -> list[OtherFormatError]:
    """Return an error for each other format that segments of a directory have; it names the oldest of them.

    `keys`: only segments of these stores; None: all. Raises OSError.
    """
    found: dict[int, list[str]] = {}
    for name, other in Listing(directory).others.items():
        if keys is None or (keys_of(directory / name) or frozenset()).intersection(keys):
            found.setdefault(other, []).append(name)
    return [OtherFormatError(_with_number(directory, names), other) for other, names in found.items()]


def _with_number(directory: Path, names: Sequence[str]) -> str:
    return f"{directory / names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"


def others_of(segment: Path, keys: Collection[str]) -> list[str]:
    """Return the keys of a segment's stores other than these; none if its name has no keys."""
    return sorted((keys_of(segment) or frozenset()).difference(keys))


def _is_bad(name: str) -> bool:
    return name.endswith(BAD_SUFFIX) and SUFFIX in name


def size_of(directory: Path) -> int:
    """Return the bytes of all segments in the directory, of all writers with this format. Raises OSError."""
    try:
        entries = os.scandir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    with entries:
        sizes = {entry.name: _size(entry) for entry in entries if entry.name.endswith(SUFFIX)}
    others = other_formats(directory, sizes)
    return sum(size for name, size in sizes.items() if name not in others)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size if entry.is_file() else 0
    except FileNotFoundError:
        return 0


def store_key(directory: Path, sink: Sink) -> str:
    """Return a short hash of the store that a sink delivers to.

    A sink with a `path` is identified by the path relative to the spool, so that the key is the same on another mount.
    """
    path = getattr(sink, "path", None)
    name = getattr(sink, "identity", sink.name)
    if isinstance(path, Path):
        name = os.path.relpath(path.absolute(), directory.absolute())
    return hashlib.sha256(f"{type(sink).__name__} {name}".encode()).hexdigest()[:_DIGITS]


def store_keys(directory: Path, sinks: Sequence[Sink]) -> tuple[str, ...]:
    """Return the key of each sink, in their order."""
    return tuple(store_key(directory, sink) for sink in sinks)


class Waiting(NamedTuple):
    """The records of one segment that a store does not have."""

    path: Path
    offset: int
    """Up to where the store has it."""
    records: int
    held: bool
    """A running process holds the segment and delivers it."""

    @property
    def since_ns(self) -> int:
        """Creation time of the segment, Unix time."""
        return created_ns(self.path.name)


def waiting(directory: Path, key: str, *, unnamed: bool = True) -> list[Waiting]:
    """Return the segments with records that wait for the store of this key, the oldest first. Raises OSError."""
    found = []
    for name in Listing(directory).for_stores((key,), unnamed=unnamed):
        path, offset = directory / name, read_cursor(directory, name, key)
        records, held = count_records(path, offset), is_held(path)
        if records:
            found.append(Waiting(path, offset, records, held))
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
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def count_records(path: Path, offset: int = 0) -> int:
    """Return how many records begin at or after `offset`, by their lengths; 0 if the file cannot be read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= offset:
                return 0
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
                return _count(data, offset)
    except (OSError, ValueError):
        return 0


def _count(data: mmap.mmap, at: int) -> int:
    count = 0
    while 0 <= at <= len(data) - HEAD_BYTES:
        end = at + HEAD_BYTES + int(_LENGTH.unpack_from(data, at + len(MAGIC))[0])
        if data[at : at + len(MAGIC)] == MAGIC and end <= len(data):
            count += data[at + HEAD_BYTES : at + HEAD_BYTES + len(ERASED)] != ERASED
            at = end
        else:
            at = data.find(MAGIC, at + 1)
    return count
