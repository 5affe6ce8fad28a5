"""Left open: what says of a process without callspan that it still runs, and may end what it has begun.

A process that has something open when callspan ends holds a lock file beside its segments until it ends itself: so long
no other one takes what is open for interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from callspan.fail_open import ours
from callspan.file_lock import try_lock
from callspan.forks import in_child

SUFFIX: Final = ".open"
_FLAGS: Final = os.O_RDWR
_TRIES: Final = 3


class _Held:
    """The lock files of this process. A forked child did not begin what its parent has open."""

    def __init__(self) -> None:
        self.descriptors: dict[Path, int] = {}
        in_child(self, _Held.close)

    def close(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors.clear()


_held: Final = _Held()


def hold(directory: Path, process: str) -> None:
    """Say until the end of this process that it runs. Raises OSError."""
    path = directory / f"{process}{SUFFIX}"
    for _ in range(0 if path in _held.descriptors else _TRIES):
        descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o600)
        # Another process may have removed it before it was locked.
        if try_lock(descriptor) and os.fstat(descriptor).st_nlink:
            _held.descriptors[path] = descriptor
            return
        os.close(descriptor)


def is_held(directory: Path, process: str) -> bool:
    """Return whether a process has something open and still runs; remove the file of an ended one. Raises OSError."""
    path = directory / f"{process}{SUFFIX}"
    if path in _held.descriptors:
        return True
    try:
        descriptor = os.open(path, _FLAGS)
    except ours(FileNotFoundError):
        return False
    try:
        if not try_lock(descriptor):
            return True
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)


def remove_stray(directory: Path, names: Iterable[str]) -> None:
    """Remove the files that ended processes have left. Raises OSError."""
    for name in names:
        if name.endswith(SUFFIX):
            is_held(directory, name.removesuffix(SUFFIX))
