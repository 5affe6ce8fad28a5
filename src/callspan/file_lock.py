"""File locks (`flock`) between processes, which the system releases when a process dies; private directories."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from callspan.clock import monotonic_s

_POLL_S: Final = 0.005


@contextmanager
def locked(path: Path, timeout_s: float | None = None) -> Iterator[None]:
    """Context manager that holds the lock file at `path`, created with mode 0600; waits without limit by default.

    Raises TimeoutError, and OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if timeout_s is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        elif not _locked_within(descriptor, timeout_s):
            raise TimeoutError(f"{path} is locked by another process")
        try:
            yield
        finally:
            unlock(descriptor)
    finally:
        os.close(descriptor)


def _locked_within(descriptor: int, timeout_s: float) -> bool:
    deadline = monotonic_s() + timeout_s
    while not try_lock(descriptor):
        if monotonic_s() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


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
