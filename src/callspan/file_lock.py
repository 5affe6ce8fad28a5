"""File locks (`flock`) between processes, which the system releases when a process dies; private directories."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Context manager that waits for the lock file at `path`, created with mode 0600, and holds it. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            unlock(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock the open file; return False if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Release the lock, even if a forked child also has the file open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def make_private(directory: Path) -> list[Path]:
    """Create a directory and its missing parents with mode 0700; return the created ones. Raises OSError."""
    # `Path.mkdir(parents=True)` creates parents with the default mode.
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
    return missing
