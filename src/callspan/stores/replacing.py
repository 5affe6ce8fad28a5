"""Replacing: which paths a finished file may take the place of."""

from __future__ import annotations

import errno
from pathlib import Path


def check_replaceable(target: Path) -> None:
    """Raise OSError where a finished file must not take the target's place: a device, a pipe, a symbolic link."""
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise OSError(errno.EINVAL, "it is a device, pipe, directory or link, and no file to replace", str(target))
