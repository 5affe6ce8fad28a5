"""Cursor files: how far a store has a segment, beside the segment. Only who holds the segment writes them.

For a store that keeps no cursor of its own it is the only one. For the others it says what to report where
the store is unreachable, and that a segment which is left for other stores is done with.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from zlib import crc32

CURSOR_SUFFIX: Final = ".cursor"


def cursor_path(directory: Path, segment: str, key: str) -> Path:
    """Return the path of the cursor file of a store, by its key, for a segment."""
    return directory / f"{segment}.{key}{CURSOR_SUFFIX}"


def read_cursor(directory: Path, segment: str, key: str) -> int:
    """Return the stored offset; 0 if there is none or it is damaged: delivering twice is harmless, skipping is not."""
    try:
        kept = cursor_path(directory, segment, key).read_bytes()
    except OSError:
        return 0
    digits, _, _ = kept.partition(b" ")
    return int(digits) if digits.isdigit() and kept == _with_checksum(digits) else 0


def write_cursor(directory: Path, segment: str, key: str, offset: int) -> None:
    """Store the offset atomically. Raises OSError."""
    path = cursor_path(directory, segment, key)
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
        if path.suffix in {CURSOR_SUFFIX, ".new"}:
            path.unlink(missing_ok=True)


def _with_checksum(digits: bytes) -> bytes:
    return b"%b %08x" % (digits, crc32(digits))
