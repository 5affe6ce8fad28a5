"""Foreign files: reads regular files that another program has written, and nothing else with their names.

Whoever may write into the directory may put a pipe, a device or a link there. These are not opened: opening one could
block forever, or have an effect. If a disk hangs, the file is lost, not the reading thread.
"""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from callspan.runtime.background import thread

MAX_FILE_BYTES: Final = 64 << 20
_MAX_S: Final = 5.0
_MAX_HANGING: Final = 4
"""Maximum number of hanging reads. While there are as many, no further read starts."""
_hanging: list[SimpleQueue[bytes]] = []


def size_of(path: Path) -> int | None:
    """Return the size of a regular file in bytes; None for anything else."""
    try:
        status = path.lstat()
    except (OSError, ValueError):  # the second: a name with NUL
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def content_of(path: Path) -> bytes:
    """Return the content of a regular file; empty if it is missing, above 64 MiB, or takes more than 5 s to read."""
    if size_of(path) is None or len(_hanging) >= _MAX_HANGING:
        return b""
    contents: SimpleQueue[bytes] = SimpleQueue()
    _hanging.append(contents)
    try:
        thread(partial(_put_content, path, contents), "callspan-file", stop=bool).start()
    except RuntimeError:  # the interpreter is ending: no thread can be started
        _put_content(path, contents)
    try:
        return contents.get(timeout=_MAX_S)
    except Empty:
        return b""


def _put_content(path: Path, contents: SimpleQueue[bytes]) -> None:
    try:
        contents.put(_read(path))
    finally:
        _hanging.remove(contents)


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it was replaced after it was looked at
                return b""
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError:
        return b""
    return content if len(content) <= MAX_FILE_BYTES else b""
