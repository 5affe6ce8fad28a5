"""File locks that end with the process: who holds one is alive.

`flock` where there is one; on Windows a lock on one byte far behind the end of the file.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from callspan.fail_open import ours

_FAR: Final = 1 << 40

if sys.platform == "win32":
    import msvcrt

    def try_lock(fd: int) -> bool:
        """Lock the open file unless another holder has it; False if so. Never waits."""
        try:
            os.lseek(fd, _FAR, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except ours(OSError):
            return False
        return True

else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Lock the open file unless another holder has it; False if so. Never waits."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ours(OSError):
            return False
        return True
