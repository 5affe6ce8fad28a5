"""Cursor files: how far a sink that keeps no cursor of its own has a segment. Written by the segment's holder only."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final
from zlib import crc32

SUFFIX: Final = ".cursor"


def cursor_path(directory: Path, segment: str, sink: str) -> Path:
    """Return where the cursor of a sink, by its name, for a segment lies."""
    return directory / f"{segment}.{hashlib.sha256(sink.encode()).hexdigest()[:16]}{SUFFIX}"


def read_cursor(directory: Path, segment: str, sink: str) -> int:
    """Return the offset kept, 0 if there is none or it was damaged: delivering twice is harmless, skipping is not."""
    try:
        kept = cursor_path(directory, segment, sink).read_bytes()
    except OSError:
        return 0
    digits, _, _ = kept.partition(b" ")
    return int(digits) if digits.isdigit() and kept == _with_checksum(digits) else 0


def write_cursor(directory: Path, segment: str, sink: str, offset: int) -> None:
    """Keep the offset, atomically. Raises OSError."""
    path = cursor_path(directory, segment, sink)
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        os.write(fd, _with_checksum(b"%d" % offset))
    finally:
        os.close(fd)
    fresh.replace(path)


def remove_cursors(directory: Path, segment: str) -> None:
    """Delete the cursors of a segment that is gone. Raises OSError."""
    for path in directory.glob(f"{segment}.*"):
        if path.suffix in {SUFFIX, ".new"}:
            path.unlink(missing_ok=True)


def _with_checksum(digits: bytes) -> bytes:
    return b"%b %08x" % (digits, crc32(digits))
