"""Segment: one append-only file of frames (their format, the scanner that recovers from damage), its lock and writer.

One process writes it, and one at a time has it locked: that process holds the segment. The writer holds it while it
runs; afterwards any process that delivers to one of the stores in the segment's name may adopt it.

A frame is `magic (4) | length u32 | crc32 u32 | payload`, little-endian; the checksum covers length and payload.
The magic has bytes that are invalid in UTF-8, so that JSON payloads never look like the start of a frame.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from callspan.background import LRUCache
from callspan.file_lock import try_lock
from callspan.record.formats import FORMAT, format_in
from callspan.spool.recent import Recent
from callspan.spool.sink import Entry

if TYPE_CHECKING:
    from callspan.spool.cap import Cap
    from callspan.spool.segment_set import SegmentSet

MAGIC: Final = b"\xf5CS\xfe"
MAX_PAYLOAD: Final = 64 * 1024 * 1024
"""Maximum length of a payload in bytes; a larger length in a header means damage."""

ERASED: Final = b" "
"""What the payload of a frame consists of whose record was erased; that of a record begins with a brace."""

_HEAD: Final = struct.Struct("<4sII")
_LENGTH: Final = struct.Struct("<I")
HEAD_BYTES: Final = _HEAD.size

_HELD_BYTES: Final = 5 * 1024
"""Input size up to which zlib keeps the GIL. For larger input it releases it and must wait to get it back."""
_QUICK_BYTES: Final = 256 * 1024
"""Size of input whose checksum takes about 30 µs."""

_CUT: Final = -1
_BAD: Final = -2
SUFFIX: Final = ".segment"
_WINDOW: Final = 1 << 20
_AT_ONCE: Final = 1000
_BEING_MADE_S: Final = 60.0
_FIRST_KEY: Final = 3
"""Index of the first store key among the dash-separated parts of a file name."""
_MOST_KEYS: Final = 8
"""File names are limited to 255 bytes, and those of cursors and damaged parts are longer than the segment's."""
_SET: Final = "set"
_SET_SUFFIX: Final = ".stores"
_RETRY_S: Final = 1.0
_BEGINNING: Final = 1 << 16
_formats: Final[LRUCache[Path, dict[str, int]]] = LRUCache(64)
"""Formats of the segments of directories, by name; a name is never used again."""


class Frame(NamedTuple):
    """One complete frame; offsets are relative to the segment."""

    start: int
    end: int
    payload: bytes


class Gap(NamedTuple):
    """Bytes that are not a frame."""

    start: int
    end: int
    torn: bool = False
    """True for a partial frame at the segment's end, whose append never returned; False for damage."""


def encode_frame(payload: bytes) -> bytes:
    """Return the frame of a payload of at most MAX_PAYLOAD bytes."""
    size = len(payload)
    small = not _HELD_BYTES < size <= _QUICK_BYTES
    checksum = crc32(payload, crc32(_LENGTH.pack(size))) if small else _checksum(memoryview(payload))
    return _HEAD.pack(MAGIC, size, checksum) + payload


def _checksum(payload: memoryview) -> int:
    size = len(payload)
    so_far = crc32(_LENGTH.pack(size))
    if not _HELD_BYTES < size <= _QUICK_BYTES:
        return crc32(payload, so_far)
    # In pieces: releasing the GIL could make a caller wait up to 5 ms for a checksum of microseconds.
    for start in range(0, size, _HELD_BYTES):
        so_far = crc32(payload[start : start + _HELD_BYTES], so_far)
    return so_far


def scan(data: bytes, base: int = 0, *, final: bool = True) -> Iterator[Frame | Gap]:
    """Yield frames and gaps of `data`, whose first byte is at offset `base` of the segment; never raises.

    Items are contiguous. With `final`, an incomplete frame at the end is a gap; otherwise it is not yielded: continue
    from the end of the last item.
    """
    at = 0
    damaged: int | None = None
    while at < len(data):
        end = _frame_end(data, at)
        if end == _CUT and not final:
            break
        if end < 0:
            following = _next_magic(data, at + 1, final=final)
            if end == _CUT and following == len(data) and not _is_whole(data, at):
                if damaged is not None:
                    yield Gap(base + damaged, base + at)
                yield Gap(base + at, base + len(data), torn=True)
                return
            damaged = at if damaged is None else damaged
            at = following
            continue
        if damaged is not None:
            yield Gap(base + damaged, base + at)
            damaged = None
        yield Frame(base + at, base + end, data[at + HEAD_BYTES : end])
        at = end
    if damaged is not None:
        yield Gap(base + damaged, base + at)


def _frame_end(data: bytes, at: int) -> int:
    if len(data) - at < HEAD_BYTES:
        return _CUT if data.startswith(MAGIC[: len(data) - at], at) else _BAD
    magic, size, checksum = _HEAD.unpack_from(data, at)
    if magic != MAGIC or size > MAX_PAYLOAD:
        return _BAD
    end = at + HEAD_BYTES + int(size)
    if end > len(data):
        return _CUT
    return end if _checksum(memoryview(data)[at + HEAD_BYTES : end]) == checksum else _BAD


def _is_whole(data: bytes, at: int) -> bool:
    """Return whether the rest is one complete frame of which only the length was damaged."""
    if len(data) - at < HEAD_BYTES:
        return False
    return int(_HEAD.unpack_from(data, at)[2]) == _checksum(memoryview(data)[at + HEAD_BYTES :])


def _next_magic(data: bytes, start: int, *, final: bool) -> int:
    found = data.find(MAGIC, start)
    if found >= 0:
        return found
    # If more data may follow, the last bytes may be the beginning of a magic.
    return len(data) if final else max(start, len(data) - len(MAGIC) + 1)


class Batch(NamedTuple):
    """Entries read from one offset on."""

    entries: Sequence[Entry]
    gaps: Sequence[Gap]
    end: int
    """Offset to continue from; the given offset if nothing was read."""


class Source(ABC):
    """What shippers read from: a segment or the memory buffer."""

    def __init__(self, name: str, created_ns: int, keys: frozenset[str] | None = None, *, own: bool = True) -> None:
        self.name = name
        self.end = 0
        """Offset up to which it may be read."""
        self.sealed = not own
        """True once nothing more will be appended."""
        self.own = own
        """Written by this process."""
        self.keys = keys
        """Keys of the stores it is for; None: for those of the process that holds it."""
        self.cursors: dict[int, int] = {}
        """Offset up to which each store, by the number of its shipper, has it; nothing of it where it is absent."""
        self.readers = 0
        """Number of shippers that are reading it."""
        self.created_ns = created_ns
        """When it was created, Unix time."""
        self.caught_up_ns: dict[int, int] = {}
        """Time at which each shipper last reached its end, Unix time."""

    @abstractmethod
    def batch(self, offset: int, entries: int, size: int) -> Batch:
        """Read at most `entries` entries of about `size` bytes together, but at least one if there is one."""

    @abstractmethod
    def discard_before(self, offset: int) -> None:
        """Free what lies before `offset`, which every sink has."""

    @abstractmethod
    def remove(self) -> None:
        """Delete it; every sink has it."""

    @abstractmethod
    def release(self) -> None:
        """Unlock it, so that another process may adopt it."""


def make_private(directory: Path) -> None:
    """Make a directory and its missing parents, each for its owner only (0700). Raises OSError."""
    # `Path.mkdir(parents=True)` gives parents other permissions.
    for missing in reversed([one for one in (directory, *directory.parents) if not one.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


class Segment(Source):
    """One segment file held by this process. `append` needs the caller's lock; reading is safe from any thread."""

    def __init__(self, path: Path, fd: int, *, own: bool) -> None:
        super().__init__(path.name, created_ns(path.name), keys_of(path), own=own)
        self.path = path
        self._recent = Recent() if len(self.keys or ()) > 1 else None
        self.end = os.fstat(fd).st_size
        self.missing = False
        """Appends would be lost: the file was deleted, or its torn end could not be truncated."""
        self._listed = False
        """Whether the file's directory entry was synced to disk."""
        self._fd = fd

    @classmethod
    def create(cls, directory: Path, keys: Collection[str] = ()) -> Segment:
        """Create, lock and return a new segment, and its directory if needed. Raises OSError.

        The keys of the stores it is for become part of its name.
        """
        make_private(directory)
        name = f"{time.time_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        path = directory / ("-".join((name, *_named(directory, sorted(set(keys))))) + SUFFIX)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if not try_lock(fd):
                raise OSError(f"{path} cannot be locked; use a spool directory on a local disk")  # noqa: TRY301
            return cls(path, fd, own=True)
        except BaseException:
            path.unlink()
            os.close(fd)
            raise

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """Return the segment at `path` if its holder is gone and it has today's format, else None. Raises OSError."""
        try:
            seen = path.stat()
            if seen.st_size == 0 and time.time() - seen.st_mtime < _BEING_MADE_S:
                return None  # just created and perhaps not locked yet
            fd = os.open(path, os.O_RDWR | os.O_APPEND)
        except (FileNotFoundError, PermissionError):
            return None  # delivered in between, or owned by another user
        # Between opening and locking, another process may have delivered and deleted it.
        if try_lock(fd) and os.fstat(fd).st_nlink > 0 and _format_of(path) in (FORMAT, None):
            return cls(path, fd, own=False)
        os.close(fd)
        return None

    def entries(self) -> Iterator[Entry]:
        """Yield its records. Raises OSError."""
        offset = 0
        while offset < self.end:
            batch = self.batch(offset, _AT_ONCE, _WINDOW)
            if batch.end == offset:
                return
            yield from batch.entries
            offset = batch.end

    @property
    def is_empty(self) -> bool:
        """Whether it has no record yet."""
        return not self.end

    def append(self, frame: bytes) -> None:
        """Add one frame whole, or raise OSError and leave the file as it was."""
        whole = False
        try:
            written = os.write(self._fd, frame)
            if written < len(frame):
                written += os.write(self._fd, frame[written:])
            if written == len(frame):
                self.end += written
                whole = True
        finally:
            if not whole:
                before, self.missing = self.missing, True
                os.ftruncate(self._fd, self.end)
                self.missing = before
        if not whole:
            raise OSError(f"{self.path} took only {written} of {len(frame)} bytes")

    def sync(self) -> None:
        """Sync appended data to disk. Raises OSError."""
        if self._fd < 0:
            return
        if sys.platform == "linux":
            os.fdatasync(self._fd)
        else:
            os.fsync(self._fd)
        if not self._listed:
            _sync_directory(self.path.parent)
            self._listed = True

    def batch(self, offset: int, entries: int, size: int) -> Batch:
        """Read whole frames from `offset` on; skipped bytes are returned as gaps. Raises OSError."""
        recent = self._recent
        if recent is None:
            return self._read_on([], offset, entries, size)
        with recent.reading:
            return self._read_recent(recent, offset, entries, size)

    def _read_recent(self, recent: Recent, offset: int, entries: int, size: int) -> Batch:
        """Read whole frames of which others may have been read for another store."""
        known, after = recent.after(offset)
        taken: list[Entry] = []
        total = 0
        for entry in known:
            if taken and (len(taken) >= entries or total + len(entry.payload) > size):
                break
            total += len(entry.payload)
            taken.append(entry)
        if not self._still_has(taken):
            recent.clear()
            return self._read_recent(recent, offset, entries, size)
        number = len(taken)
        if number < len(known):
            return Batch(taken, [], taken[-1].end)
        if number >= entries:
            return Batch(taken, [], after)
        batch = self._read_on(taken, after, entries, size - total)
        if not batch.gaps:
            recent.add(after, batch.end, batch.entries[number:])
        return batch

    def _still_has(self, entries: Sequence[Entry]) -> bool:
        """Return whether all these stand in the file: another process may have erased some."""
        if not entries:
            return True
        first = entries[0].start
        data = os.pread(self._fd, entries[-1].end - first, first)
        return all(data.startswith(one.payload, one.end - len(one.payload) - first) for one in entries)

    def _read_on(self, taken: list[Entry], offset: int, entries: int, size: int) -> Batch:
        """Add what the file has from `offset` on."""
        gaps: list[Gap] = []
        limit, window, total, lost = self.end, _WINDOW, 0, 0
        while offset < limit:
            stop = min(limit, offset + window)
            data = os.pread(self._fd, stop - offset, offset)
            if len(data) < stop - offset:
                lost = stop - offset - len(data)  # another process truncated the file
                limit = stop = offset + len(data)
            before = offset
            for item in scan(data, offset, final=stop == limit):
                if isinstance(item, Gap):
                    gaps.append(item)
                elif not item.payload.startswith(ERASED):
                    total += len(item.payload)
                    if taken and (len(taken) >= entries or total > size):
                        return Batch(taken, gaps, offset)
                    taken.append(Entry(self.name, *item, shared=None if self._recent is None else {}))
                offset = item.end
            window = window * 4 if offset == before else _WINDOW
        if lost:
            gaps.append(Gap(offset, offset + lost))
        return Batch(taken, gaps, offset + lost)

    def read(self, gap: Gap) -> bytes:
        """Return the bytes of a gap. Raises OSError."""
        return os.pread(self._fd, gap.end - gap.start, gap.start)

    def overwrite(self, offset: int, frame: bytes) -> None:
        """Replace the frame at `offset` by one of the same length. Raises OSError."""
        os.pwrite(self._fd, frame, offset)

    def discard_before(self, offset: int) -> None:
        """Forget what every sink has; the file is freed as a whole."""
        if self._recent is not None:
            self._recent.discard_before(offset)

    def seal(self) -> None:
        """Mark the segment as complete. It stays locked."""
        self.sealed = True

    def remove(self) -> None:
        """Delete the file, then close it."""
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Close the file, which releases the lock; may be called repeatedly."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def other_formats(directory: Path, names: Iterable[str]) -> dict[str, int]:
    """Return which of the segments of a directory have another format, and which one; `names` are all that it has."""
    known, found = _formats.get(directory) or {}, dict[str, int]()
    for name in names:
        number = known[name] if name in known else _format_of(directory / name)
        if number is not None:
            found[name] = number
    _formats.put(directory, found)
    return {name: number for name, number in found.items() if number != FORMAT}


def _format_of(path: Path) -> int | None:
    """Return the format of a segment's first whole frame; None without one, or if it cannot be read.

    A frame that does not begin as a record is taken for one of today, of which it is left to stores what to do with it.
    """
    first = _first_payload(path)
    number = None if first is None else format_in(first)
    return FORMAT if first is not None and number is None else number


def _first_payload(path: Path) -> bytes | None:
    """Return the payload of a segment's first whole frame; None without one, or if it cannot be read."""
    data, final = b"", False
    try:
        with path.open("rb") as file:
            while not final:
                more = file.read(max(_BEGINNING, len(data)))
                data, final = data + more, not more
                for item in scan(data, final=final):
                    if isinstance(item, Frame):
                        return item.payload
    except OSError:
        return None
    return None


def keys_of(path: Path) -> frozenset[str] | None:
    """Return the keys of a segment's stores from its file name; None if the name has none.

    Many stores share one combined key, and a file of that name lists the individual keys.
    """
    keys = path.name.removesuffix(SUFFIX).split("-")[_FIRST_KEY:]
    if len(keys) == 1 and keys[0].startswith(_SET):
        try:
            keys = path.with_name(keys[0] + _SET_SUFFIX).read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return frozenset(keys)  # no store's: the segment stays
    return frozenset(keys) or None


def _named(directory: Path, keys: Sequence[str]) -> Sequence[str]:
    """Return the keys for a file name; too many are replaced by one key and a file that lists them."""
    if len(keys) <= _MOST_KEYS:
        return keys
    text = "\n".join(keys)
    key = _SET + hashlib.sha256(text.encode()).hexdigest()[:12]
    listed = directory / (key + _SET_SUFFIX)
    if not listed.exists():
        fresh = listed.with_name(f"{listed.name}.{os.getpid()}")
        fresh.write_text(text, encoding="ascii")
        fresh.chmod(0o600)
        fresh.replace(listed)
    return [key]


def created_ns(name: str) -> int:
    """Return when a segment was created, Unix time, by its file name."""
    stamp = name.partition("-")[0]
    return int(stamp) if stamp.isdecimal() else time.time_ns()


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class SegmentWriter:
    """Appends frames to the active segment. Callers hold the lock of the spool."""

    __slots__ = ("_active", "_cap", "_directory", "_open_at", "_segments", "_sync", "used")

    def __init__(self, directory: Path, segments: SegmentSet, cap: Cap, *, sync: bool) -> None:
        """`sync`: fsync each frame before its append returns."""
        self.used = 0
        """Approximate bytes in the directory: as measured at the last segment, plus those written since."""
        self._directory = directory
        self._segments = segments
        self._cap = cap
        self._sync = sync
        self._active: Segment | None = None
        self._open_at = 0.0

    def write(self, frame: bytes) -> None:
        """Append one frame.

        Raises:
            OSError: the disk is full or not writable, or creating a file failed a moment ago.
        """
        segment = self._active
        if segment is None or segment.missing or segment.end + len(frame) > self._cap.segment_bytes:
            segment = self._rotate()
        try:
            segment.append(frame)
        except OSError as error:
            # If the file reached a size limit, another file can be written; on a full disk it cannot.
            if error.errno != errno.EFBIG or segment.is_empty:
                raise
            segment = self._rotate()
            segment.append(frame)
        if self._sync:
            segment.sync()
        self.used += len(frame)

    def seal(self) -> None:
        """Seal the active segment: the next frame goes to a new one."""
        segment, self._active = self._active, None
        if segment is None:
            return
        segment.seal()
        if self._segments.sinks == 0 or segment.is_empty:
            self._segments.release(segment)
        self._segments.remove_delivered(segment)

    def _rotate(self) -> Segment:
        if self._active is not None and self._active.is_empty and not self._active.missing:
            return self._active
        now = time.monotonic()
        if now < self._open_at:
            raise OSError(f"{self._directory} could not create a file a moment ago")
        try:
            segment = self._segments.create()
        except OSError:
            self._open_at = now + _RETRY_S
            raise
        self._open_at = 0.0
        self.seal()
        self._active = segment
        # Other processes write here too, and their bytes count towards the cap.
        self.used = self._cap.measure()
        return segment
