"""Sink for JSON Lines: one record per line, batches in single writes. Any number of processes may append."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from callspan.file_lock import locked, make_private
from callspan.record.events import Record
from callspan.record.formats import check_file
from callspan.stores.payloads import line_of

_MODE: Final = 0o600
_APPEND: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class JsonLinesSink:
    """A sink that only appends, by the file's name: one that was renamed is followed by a new one.

    A batch that is delivered again, after a crash, has its lines again. `max_bytes` is the size after which the file is
    rotated: renamed to `<name>.1`, `.2`, ..., and a new one started. 0 never rotates.
    """

    batch_records = 100

    def __init__(self, path: Path, *, max_bytes: int = 0) -> None:
        """`path` and its side files are created on `open`, for their owner only."""
        self._path = path
        self._max_bytes = max_bytes
        self._lock = path.with_name(path.name + ".lock")
        """Held by the process that writes."""

    def open(self) -> None:
        """Create the file if needed. Raises OSError, OtherFormatError for lines of another format."""
        make_private(self._path.parent)
        check_file(self._path)
        os.close(os.open(self._path, _APPEND, _MODE))

    def deliver(self, records: Sequence[Record]) -> None:
        """Append all records. Raises OSError."""
        data = b"".join(line_of(record) + b"\n" for record in records)
        with locked(self._lock):
            self._rotate_before(len(data))
            _append(self._path, data)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _rotate_before(self, more: int) -> None:
        size = self._path.stat().st_size if self._path.exists() else 0
        if self._max_bytes and size and size + more > self._max_bytes:
            *rotated, _ = files_of(self._path)
            last = int(rotated[-1].suffix[1:]) if rotated else 0
            self._path.rename(self._path.with_name(f"{self._path.name}.{last + 1}"))


def files_of(path: Path) -> list[Path]:
    """Return the rotated files, oldest first, then the one that is being written, which may not exist."""
    prefix = path.name + "."
    names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    numbers = [name[len(prefix) :] for name in names if name.startswith(prefix)]
    rotated = sorted(int(number) for number in numbers if number.isdecimal() and number[0] != "0")
    return [*(path.with_name(f"{prefix}{number}") for number in rotated), path]


def _append(path: Path, data: bytes) -> None:
    """Append complete lines in one write, behind the end of a torn one; a short write is undone. Raises OSError."""
    descriptor = os.open(path, _APPEND, _MODE)
    try:
        size = os.fstat(descriptor).st_size
        if size:
            os.lseek(descriptor, size - 1, os.SEEK_SET)
            data = data if os.read(descriptor, 1) == b"\n" else b"\n" + data
        if os.write(descriptor, data) != len(data):
            os.ftruncate(descriptor, size)
            raise OSError(f"{path}: short write: the disk accepted only part of a batch, which was removed again")
    finally:
        os.close(descriptor)
