"""Input file: reads a file that a setting names, whatever that is."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
"""Opens a pipe without waiting for its writer."""


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a regular file, of at most `max_bytes`. Never waits for another process.

    Raises OSError for a larger file, and for a pipe, a device or a directory.
    """
    with open(path, "rb", opener=_opened) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        content = file.read(max_bytes + 1)  # a file of the kernel states no size
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes} bytes")
    return content


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_WAIT)
