"""File locks (`flock`) between processes, which the system releases when a process dies; private directories."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

_MOUNTS: Final = Path("/proc/self/mounts")
_NETWORK: Final = ("nfs", "cifs", "smb", "9p", "ceph", "gluster", "lustre", "afs", "fuse.sshfs", "fuse.s3fs", "gpfs")


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


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock the open file; return False if another process holds the lock.

    `shared`: against exclusive locks only; NFS grants such a lock even if the file is not open for writing.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Release the lock, even if a forked child also has the file open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def make_private(directory: Path) -> list[Path]:
    """Create a directory and its missing parents with mode 0700; return the created ones. Raises OSError."""
    # `Path.mkdir(parents=True)` creates parents with the default mode.
    created = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(created):
        path.mkdir(mode=0o700, exist_ok=True)
    return created


def is_on_network(directory: Path) -> bool:
    """Return whether a directory is on a network file system, where locks and appends are unreliable."""
    try:
        mounts = [line.split()[1:3] for line in _MOUNTS.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return False  # not Linux
    real_path = directory.resolve()
    matching_mounts = [(path, kind) for path, kind in mounts if real_path.is_relative_to(path.replace(r"\040", " "))]
    # Of several mounts at one place the last is in use, as with automounts.
    _, kind = max(reversed(matching_mounts), key=lambda mount: len(mount[0]), default=("", ""))
    return kind.startswith(_NETWORK)
