"""Replacing: which paths a finished file may take the place of."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def check_replaceable(target: Path) -> None:
    """Raise OSError where a finished file must not take the target's place: a device, a pipe, a symbolic link."""
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise OSError(errno.EINVAL, "it is a device, pipe, directory or link, and no file to replace", str(target))


def create_private(path: Path) -> None:
    """Create an empty file that only its owner may read and write, in place of one of that name."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
