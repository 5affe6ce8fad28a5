"""Segment: the file of one process, with a checksummed line for each record, and a cursor for each store beside it.

A line is `crc32 json`: eight hexadecimal digits, a space, one record, a line end. Damage costs only the lines that it
touches; a line without its end was never acknowledged. The writer holds a lock on the file; after it has exited,
another process may adopt the file. The file name states when it was made, the process that made it, and the format of
its records.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from callspan.record.formats import FORMAT
from callspan.runtime.file_lock import is_on_network, try_lock, unlock
from callspan.runtime.forks import in_child
from callspan.runtime.process_identity import UNKNOWN_AFTER_S, own_identity, state_of

if sys.platform != "win32":
    import fcntl

SUFFIX: Final = ".segment"
CURSOR_SUFFIX: Final = ".cursor"
OWN_SUFFIX: Final = f".v{FORMAT}{SUFFIX}"
"""Segments of other formats have other suffixes and are left alone: stores would reject their records."""

_DIGITS: Final = 8
_CURSOR_DIGITS: Final = 20
_WINDOW: Final = 1 << 20
_BEING_MADE_S: Final = 60.0
_SLASH: Final = "+"
"""Stands for the slashes of an identity in a file name."""
_FIRST_DESCRIPTOR: Final = 3
_LINE_END: Final = b"\n"
_HEAD: Final = re.compile(rb'[0-9a-f]{8} \{"kind":"')
"""How a line begins; no text in a record has it, because quotation marks are escaped."""
LINE_BYTES: Final = _DIGITS + 2
"""Size of a line without its payload."""


class Line(NamedTuple):
    """One line of a segment."""

    start: int
    end: int
    """Offset after it, the cursor of a store that has it."""
    payload: bytes | None
    """The record; empty if erased, None if damaged."""


def line_of(payload: bytes) -> bytes:
    """Return the line of a payload, which must have no line ends."""
    return b"%08x %b\n" % (crc32(payload), payload)


def lines_in(data: bytes, offset: int) -> Iterator[Line]:
    """Yield the complete lines in data from a segment; `offset` is the position of the data."""
    start = 0
    while (end := data.find(_LINE_END, start)) >= 0:
        payload = _payload_of(data[start:end])
        if payload is None:
            yield from _damaged_lines(data[start : end + 1], offset + start)
        else:
            yield Line(offset + start, offset + end + 1, payload)
        start = end + 1


def _damaged_lines(line: bytes, offset: int) -> Iterator[Line]:
    """Yield a damaged line; if it is several lines with damaged line ends between them, yield each."""
    starts = [0, *(head.start() for head in _HEAD.finditer(line, 1)), len(line)]
    for start, end in pairwise(starts):
        yield Line(offset + start, offset + end, _payload_of(line[start : end - 1]))


def lines_of(path: Path, offset: int = 0) -> Iterator[Line]:
    """Yield the complete lines of a segment after an offset; none if it is missing or another user's. Raises OSError.

    It reads one at a time: a segment may be large.
    """
    with (
        suppress(FileNotFoundError, PermissionError),
        os.fdopen(open_private(path, os.O_RDONLY), "rb", _WINDOW) as file,
    ):
        file.seek(offset)
        while (line := file.readline()).endswith(_LINE_END):
            yield from lines_in(line, offset)
            offset += len(line)


def read_lines(descriptor: int, offset: int) -> bytes:
    """Return complete lines after an offset, about 1 MiB but at least one line; empty without a complete line."""
    window = _WINDOW
    while True:
        data = os.pread(descriptor, window, offset)
        complete_bytes = data.rfind(_LINE_END) + 1
        if complete_bytes or len(data) < window:
            return data[:complete_bytes]
        window *= 4


def _payload_of(line: bytes) -> bytes | None:
    payload = line[_DIGITS + 1 :]
    if line[:_DIGITS] == b"%08x" % crc32(payload) and line[_DIGITS : _DIGITS + 1] == b" ":
        return payload
    return None if line.strip() else b""


def open_private(path: Path, flags: int) -> int:
    """Open a private file with a descriptor above the standard streams. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if descriptor >= _FIRST_DESCRIPTOR:
        return descriptor
    # A daemon may have closed its standard streams: its output would go into the file.
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
    finally:
        os.close(descriptor)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Context manager for `open_private`."""
    descriptor = open_private(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def created_ns(segment: Path) -> int:
    """Return the creation time of a segment from its file name, Unix nanoseconds."""
    stamp = segment.name.partition("-")[0]
    return int(stamp) if stamp.isdecimal() else 0


@cache
def _process(pid: int) -> str:
    """Return the identity of this process as a part of a file name. Each subinterpreter has its own."""
    return f"{(own_identity() or str(pid)).replace('/', _SLASH)}-{os.urandom(6).hex()}"


def is_own(segment: Path) -> bool:
    """Return whether this process created a segment, by its file name."""
    return segment.name.partition("-")[2] == _process(os.getpid()) + OWN_SUFFIX


def is_locked(path: Path) -> bool:
    """Return whether a process holds the segment, or may; False if it is missing or cannot be opened."""
    try:
        with opened(path, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
            is_free = try_lock(descriptor, shared=True) and not _may_be_held_elsewhere(path, descriptor)
            unlock(descriptor)
            return not is_free
    except OSError:
        return False


def _may_be_held_elsewhere(path: Path, descriptor: int) -> bool:
    """Return whether an unseen process may hold a segment although its lock is free: on a network file system.

    There, locks may count on one machine only. A process that shows no sign of life for long is taken to be gone.
    """
    identity = path.name.partition("-")[2].rpartition("-")[0].replace(_SLASH, "/")
    is_silent = time.time() - os.fstat(descriptor).st_mtime >= UNKNOWN_AFTER_S
    return not is_silent and state_of(identity) == "elsewhere" and is_on_network(path.parent)


def read_cursor(segment: Path, key: str) -> int:
    """Return how far a store has a segment, as an offset; 0 if unknown, because repeated delivery is harmless."""
    return valid_cursor(_cursor_path(segment, key), segment) or 0


def valid_cursor(cursor: Path, segment: Path) -> int | None:
    """Return the offset in a cursor's file; None if it is missing or damaged: a cursor is at the end of a line."""
    try:
        data = cursor.read_bytes()
        if len(data) != _CURSOR_DIGITS or not data.isdigit():
            return None
        offset = int(data)
        with opened(segment, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
            return offset if not offset or os.pread(descriptor, 1, offset - 1) == _LINE_END else None
    except (OSError, OverflowError):
        return None


def segment_of_cursor(cursor: Path) -> Path:
    """Return the segment of a cursor."""
    return cursor.with_name(cursor.name.removesuffix(CURSOR_SUFFIX).rpartition(".")[0])


def _cut_torn_line(descriptor: int) -> None:
    """Remove an incomplete last line, past which no cursor moves, so that the file counts as delivered."""
    with suppress(OSError):
        size, end = os.fstat(descriptor).st_size, 0
        if size and os.pread(descriptor, 1, size - 1) != _LINE_END:
            while data := read_lines(descriptor, end):
                end += len(data)
            os.ftruncate(descriptor, end)


def _cursor_path(segment: Path, key: str) -> Path:
    return segment.with_name(f"{segment.name}.{key}{CURSOR_SUFFIX}")


class Segment:
    """An open and locked segment. One thread at a time may append; any number may read."""

    def __init__(self, path: Path, descriptor: int, keys: frozenset[str], *, sealed: bool) -> None:
        """`keys` are the short names of its stores; `sealed`: nothing more is appended."""
        self.path, self.keys, self.sealed = path, keys, sealed
        self._descriptor = descriptor
        self._reading = threading.RLock()  # reentrant, because a signal handler may append
        self._is_whole = True
        self._cursors = {key: read_cursor(path, key) for key in keys}
        # With the file open, a child would hold its lock after the parent's end.
        in_child(self, Segment.close_in_child)

    @classmethod
    def create(cls, directory: Path, keys: frozenset[str]) -> Segment:
        """Create and lock a new segment. Raises OSError."""
        path = directory / f"{time.time_ns():020d}-{_process(os.getpid())}{OWN_SUFFIX}"
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(path, descriptor, keys, sealed=False)
        except BaseException as error:
            path.unlink()
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                # Another process just tests whether it is locked, and may be stopped there: the caller must not wait.
                return cls.create(directory, keys)
            raise

    @classmethod
    def adopt(cls, path: Path, keys: frozenset[str]) -> Segment | None:
        """Lock a segment left by an ended process; None if a process holds it or has just created it.

        Also None if this process cannot open it for writing. Raises OSError.
        """
        try:
            descriptor = open_private(path, os.O_RDWR)
        except OSError:
            return None
        status = os.fstat(descriptor)
        is_new = status.st_size == 0 and time.time() - status.st_mtime < _BEING_MADE_S
        is_left = not is_new and try_lock(descriptor) and not _may_be_held_elsewhere(path, descriptor)
        # Another process may have delivered and deleted it between opening and locking.
        if is_left and os.fstat(descriptor).st_nlink:
            _cut_torn_line(descriptor)
            return cls(path, descriptor, keys, sealed=True)
        os.close(descriptor)
        return None

    @property
    def size(self) -> int:
        """The size of the file, 0 if closed. It is always read: an exception may interrupt an append anywhere."""
        with self._reading:
            return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else 0

    def is_deleted(self) -> bool:
        """Return whether the file was unlinked, so that no other process will find it."""
        with self._reading:
            return self._descriptor >= 0 and not os.fstat(self._descriptor).st_nlink

    def append(self, payload: bytes, limit: float = inf) -> bool:
        """Append the complete line of a record; False if the file would exceed the limit. Raises OSError.

        An empty file takes a record of any size. A signal handler may call it during another append: each append first
        ends an incomplete line.
        """
        size = os.lseek(self._descriptor, 0, os.SEEK_END)  # takes no lock and a fifth of the time of `size`
        if size and size + len(payload) + LINE_BYTES > limit:
            return False
        if payload.find(_LINE_END) >= 0:
            payload = payload.replace(_LINE_END, b" ")  # only between JSON tokens: in strings it is escaped
        head = b"%08x " % crc32(payload)
        if not self._is_whole:
            head = _LINE_END + head
        self._is_whole = False
        # In parts, because joining them would copy the record, which may be long.
        written_bytes = os.writev(self._descriptor, (head, payload, _LINE_END))
        if written_bytes <= len(head) + len(payload):
            if self.size == size + written_bytes:
                os.ftruncate(self._descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._is_whole = True
        return True

    def seal(self) -> None:
        """End appending."""
        self.sealed = True
        if not self._is_whole:
            _cut_torn_line(self._descriptor)

    def sync(self) -> None:
        """Sync the file to disk. Raises OSError."""
        os.fdatasync(self._descriptor)

    def read(self, offset: int) -> bytes:
        """Return complete lines after an offset, see `read_lines`; none if closed."""
        with self._reading:
            return read_lines(self._descriptor, offset) if self._descriptor >= 0 else b""

    def cursor(self, key: str) -> int:
        """Return how far a store has it, as an offset."""
        return self._cursors[key]

    def move(self, key: str, offset: int) -> None:
        """Write down how far a store has it. The offset overwrites the last one, which works on a full disk."""
        try:
            if self._descriptor >= 0:  # otherwise it was given up during the delivery
                with opened(_cursor_path(self.path, key), os.O_WRONLY | os.O_CREAT) as descriptor:
                    os.write(descriptor, b"%0*d" % (_CURSOR_DIGITS, offset))
        finally:
            # Last, so that a process killed after a flush delivers nothing again.
            self._cursors[key] = offset

    def has_pending(self, key: str, size: int | None = None) -> bool:
        """Return whether it is meant for a store that lacks a part of it, or of its first `size` bytes."""
        return self._cursors.get(key, inf) < (self.size if size is None else size)

    def pending_stores(self) -> frozenset[str]:
        """Return the keys of the stores that lack a part of it."""
        return frozenset(filter(self.has_pending, self.keys))

    def is_delivered(self) -> bool:
        """Return whether it is open, sealed and completely delivered to every store."""
        return self._descriptor >= 0 and self.sealed and not self.pending_stores()

    def remove(self) -> None:
        """Delete the file and its cursors, then close it."""
        self.path.unlink(missing_ok=True)
        for key in self.keys:
            _cursor_path(self.path, key).unlink(missing_ok=True)
        self.close()

    def release(self) -> None:
        """Close it for other processes to adopt; delete it if every store has it."""
        if self.is_delivered():
            self.remove()
        self.close()

    def close(self) -> None:
        """Close the file, which releases its lock."""
        with self._reading:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            unlock(descriptor)  # a forked child may also have it open
            os.close(descriptor)

    def close_in_child(self) -> None:
        """Close the file without unlocking it."""
        # Takes no thread lock, which the parent may have held, and keeps the parent's file lock.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
