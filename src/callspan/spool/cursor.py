"""Cursor files: how far a sink that keeps no cursor of its own has a segment. Written by the segment's holder only."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

SUFFIX: Final = ".cursor"


def cursor_path(directory: Path, segment: str, sink: str) -> Path:
    """Return where the cursor of a sink, by its name, for a segment lies."""
    return directory / f"{segment}.{hashlib.sha256(sink.encode()).hexdigest()[:16]}{SUFFIX}"


def read_cursor(directory: Path, segment: str, sink: str) -> int:
    """Return the offset kept, 0 if there is none or it cannot be read: delivering twice is harmless."""
    try:
        return max(0, int(cursor_path(directory, segment, sink).read_text("ascii")))
    except (OSError, ValueError):
        return 0


def write_cursor(directory: Path, segment: str, sink: str, offset: int) -> None:
    """Keep the offset, atomically. Raises OSError."""
    path = cursor_path(directory, segment, sink)
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        os.write(fd, str(offset).encode("ascii"))
    finally:
        os.close(fd)
    fresh.replace(path)


def remove_cursors(directory: Path, segment: str) -> None:
    """Delete the cursors of a segment that is gone. Raises OSError."""
    for path in directory.glob(f"{segment}.*"):
        if path.suffix in {SUFFIX, ".new"}:
            path.unlink(missing_ok=True)
