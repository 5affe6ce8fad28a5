"""Segment: the file of one process, a checked line for each record, with a cursor for each store beside it.

A line is `crc32 json` and its end: eight hexadecimal digits, a space, one record. Damage costs the lines that it
touches; a line without its end was never acknowledged. The writer holds a lock on the file; once that process is gone,
another one may adopt it. The name of the file carries the format of its records.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from callspan.file_lock import try_lock, unlock
from callspan.record.formats import FORMAT

SUFFIX: Final = ".segment"
OWN_SUFFIX: Final = f".v{FORMAT}{SUFFIX}"
"""Segments of another format have another one and are left alone: each store would reject their records."""
CURSOR_SUFFIX: Final = ".cursor"

_DIGITS: Final = 8
_WINDOW: Final = 1 << 20
_BEING_MADE_S: Final = 60.0
_FIRST_DESCRIPTOR: Final = 3
_LINE_END: Final = b"\n"
LINE_BYTES: Final = _DIGITS + 2
"""What a line has beside its payload."""


class Line(NamedTuple):
    """One line of a segment."""

    start: int
    end: int
    """Offset after it: the cursor of a store that has it."""
    payload: bytes | None
    """The record; empty: it was erased; None: the line is damaged."""


def line_of(payload: bytes) -> bytes:
    """Return the line of a payload without line ends."""
    return b"%08x %b\n" % (crc32(payload), payload)


def lines_in(data: bytes, offset: int) -> Iterator[Line]:
    """Yield the whole lines of what a segment has from an offset on."""
    start = 0
    while (end := data.find(_LINE_END, start)) >= 0:
        yield Line(offset + start, offset + end + 1, _payload_of(data[start:end]))
        start = end + 1


def read_lines(descriptor: int, offset: int) -> bytes:
    """Return whole lines from an offset on: about a mebibyte, at least one line. Empty: there is none yet."""
    window = _WINDOW
    while True:
        data = os.pread(descriptor, window, offset)
        whole = data.rfind(_LINE_END) + 1
        if whole or len(data) < window:
            return data[:whole]
        window *= 4


def _payload_of(line: bytes) -> bytes | None:
    payload = line[_DIGITS + 1 :]
    if line[:_DIGITS] == b"%08x" % crc32(payload) and line[_DIGITS : _DIGITS + 1] == b" ":
        return payload
    return None if line.strip() else b""


def open_private(path: Path, flags: int) -> int:
    """Open a file for its owner only; the descriptor is none of the standard streams. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if descriptor >= _FIRST_DESCRIPTOR:
        return descriptor
    # A daemon may have closed its standard streams: what it prints would go into the file.
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
    finally:
        os.close(descriptor)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open a file as `open_private` does, for a block."""
    descriptor = open_private(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def created_ns(segment: Path) -> int:
    """Return when a segment was created, Unix time, by the name of its file."""
    stamp = segment.name.partition("-")[0]
    return int(stamp) if stamp.isdecimal() else 0


def is_locked(path: Path) -> bool:
    """Return whether a running process holds the segment; False where it is gone. Raises OSError."""
    try:
        with opened(path, os.O_RDONLY) as descriptor:
            is_free = try_lock(descriptor)
            unlock(descriptor)
            return not is_free
    except FileNotFoundError:
        return False


def read_cursor(segment: Path, key: str) -> int:
    """Return up to where a store has a segment; 0 where that is unknown: delivering twice is harmless."""
    try:
        return int(_cursor_path(segment, key).read_bytes())
    except (OSError, ValueError):
        return 0


def _cut_torn_line(descriptor: int) -> None:
    """Cut off a last line without its end, which keeps a file that each store has: no cursor moves behind it."""
    with suppress(OSError):
        size, end = os.fstat(descriptor).st_size, 0
        if size and os.pread(descriptor, 1, size - 1) != _LINE_END:
            while data := read_lines(descriptor, end):
                end += len(data)
            os.ftruncate(descriptor, end)


def _cursor_path(segment: Path, key: str) -> Path:
    return segment.with_name(f"{segment.name}.{key}{CURSOR_SUFFIX}")


class Segment:
    """An open and locked segment. One thread at a time appends; any number of others may read."""

    def __init__(self, path: Path, descriptor: int, keys: frozenset[str], *, sealed: bool) -> None:
        """`keys` are those of the stores that it is for; `sealed`: nothing is appended any more."""
        self.path, self.keys, self.sealed = path, keys, sealed
        self._descriptor = descriptor
        self._reading = threading.RLock()  # reentrant for an append of a signal handler
        self._is_whole = True
        self._cursors = {key: self._valid_cursor(key) for key in keys}

    @classmethod
    def create(cls, directory: Path, keys: frozenset[str]) -> Segment:
        """Create and lock a new one. Raises OSError."""
        path = directory / f"{time.time_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:12]}{OWN_SUFFIX}"
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        try:
            if not try_lock(descriptor):
                raise OSError(errno.ENOLCK, "it cannot be locked; use a spool on a local disk", str(path))
            return cls(path, descriptor, keys, sealed=False)
        except BaseException:
            path.unlink()
            os.close(descriptor)
            raise

    @classmethod
    def adopt(cls, path: Path, keys: frozenset[str]) -> Segment | None:
        """Lock one that an ended process has left; None where a process holds it, or has just created it."""
        try:
            descriptor = open_private(path, os.O_RDWR)
        except (FileNotFoundError, PermissionError):
            return None
        status = os.fstat(descriptor)
        is_new = status.st_size == 0 and time.time() - status.st_mtime < _BEING_MADE_S
        # Between opening and locking, another process may have delivered and deleted it.
        if not is_new and try_lock(descriptor) and os.fstat(descriptor).st_nlink:
            _cut_torn_line(descriptor)
            return cls(path, descriptor, keys, sealed=True)
        os.close(descriptor)
        return None

    @property
    def created_ns(self) -> int:
        """When it was created, Unix time."""
        return created_ns(self.path)

    @property
    def size(self) -> int:
        """Bytes in the file: nothing else is trusted, since an exception may leave an append anywhere. 0: closed."""
        with self._reading:
            return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else 0

    def end(self) -> int:
        """Return the size to who appends, and so keeps the file open: in a fifth of the time, without a lock."""
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def is_deleted(self) -> bool:
        """Return whether the file has lost its name: it can be read, and nobody else will find it."""
        with self._reading:
            return self._descriptor >= 0 and not os.fstat(self._descriptor).st_nlink

    def append(self, payload: bytes, size: int) -> None:
        """Append the line of a record whole; `size` is that of the file before. Raises OSError.

        May be called by a signal handler in the middle of another append: what an append has left in pieces is ended
        by the next one.
        """
        if _LINE_END in payload:
            payload = payload.replace(_LINE_END, b" ")  # between the tokens of JSON: within texts it is escaped
        head = b"%08x " % crc32(payload)
        if not self._is_whole:
            head = _LINE_END + head
        self._is_whole = False
        # In parts: a record may be long, and putting its line together would copy it.
        written = os.writev(self._descriptor, (head, payload, _LINE_END))
        if written <= len(head) + len(payload):
            if self.end() == size + written:
                os.ftruncate(self._descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._is_whole = True

    def seal(self) -> None:
        """Append nothing any more."""
        self.sealed = True
        if not self._is_whole:
            _cut_torn_line(self._descriptor)

    def sync(self) -> None:
        """Sync what was appended to the disk. Raises OSError."""
        os.fdatasync(self._descriptor)

    def read(self, offset: int) -> bytes:
        """Return some whole lines from an offset on, see `read_lines`; none once it is closed."""
        with self._reading:
            return read_lines(self._descriptor, offset) if self._descriptor >= 0 else b""

    def lines(self, offset: int) -> Iterator[Line]:
        """Yield all whole lines from an offset on."""
        while data := self.read(offset):
            yield from lines_in(data, offset)
            offset += len(data)

    def cursor(self, key: str) -> int:
        """Return up to where a store has it."""
        return self._cursors[key]

    def move(self, key: str, offset: int) -> None:
        """Note up to where a store has it, by one write over the one before: a full disk does not stop it."""
        try:
            with opened(_cursor_path(self.path, key), os.O_WRONLY | os.O_CREAT) as descriptor:
                os.write(descriptor, b"%020d" % offset)
        finally:
            # Not before: after a flush the process may be killed, and what it has delivered is not delivered again.
            self._cursors[key] = offset

    def has(self, key: str, size: int) -> bool:
        """Return whether a store has the lines in the first bytes."""
        return self._cursors[key] >= size

    def lackers(self) -> frozenset[str]:
        """Return the stores that lack a part of it."""
        size = self.size
        return frozenset(key for key, offset in self._cursors.items() if offset < size)

    def is_delivered(self) -> bool:
        """Return whether it is open, every store has all of it, and nothing is added any more."""
        return self._descriptor >= 0 and self.sealed and not self.lackers()

    def _valid_cursor(self, key: str) -> int:
        """Return the stored cursor if it is the end of a line, else 0."""
        offset = read_cursor(self.path, key)
        return offset if offset and os.pread(self._descriptor, 1, offset - 1) == _LINE_END else 0

    def remove(self) -> None:
        """Delete the file and its cursors, then close it."""
        self.path.unlink(missing_ok=True)
        for key in self.keys:
            _cursor_path(self.path, key).unlink(missing_ok=True)
        self.close()

    def release(self) -> None:
        """Leave it to other processes; delete it where every store has it."""
        if self.is_delivered():
            self.remove()
        self.close()

    def close(self) -> None:
        """Close the file, which releases its lock."""
        with self._reading:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            unlock(descriptor)  # a child that was forked meanwhile may have it open too
            os.close(descriptor)

    def close_in_child(self) -> None:
        """Close it in a forked child, whatever another thread of the parent was doing with it; the lock stays."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
