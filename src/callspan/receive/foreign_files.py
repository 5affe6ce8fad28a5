"""Foreign files: reads regular files that another program has written, and nothing else with their names.

Whoever may write into the directory may put a pipe, a device or a link there. These are not opened: opening one could
block forever, or have an effect. If a disk hangs, the file is lost, not the reading thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from callspan.runtime.background import thread
from callspan.runtime.nothing import nothing

MAX_FILE_BYTES: Final = 64 << 20
_MAX_S: Final = 5.0
_MAX_HANGING: Final = 4
"""Maximum number of hanging looks at files. While there are as many, no further one starts."""
_T = TypeVar("_T")
_hanging: list[SimpleQueue[Any]] = []


def status_of(path: Path) -> os.stat_result | None:
    """Return the status of a regular file; None for anything else. Raises TimeoutError if the disk hangs for 5 s."""
    return _within_limit(partial(_status, path))


def content_of(path: Path) -> bytes:
    """Return the content of a regular file; empty if it is missing, above 64 MiB, or takes more than 5 s to read."""
    try:
        return _within_limit(partial(_content, path))
    except TimeoutError:
        return b""


def _within_limit(look: Callable[[], _T]) -> _T:
    """Return what a function learns of a file. Raises TimeoutError if it takes more than 5 s.

    It runs on a thread of its own, which alone hangs with the disk, and must not raise.
    """
    if len(_hanging) >= _MAX_HANGING:
        raise TimeoutError
    results: SimpleQueue[_T] = SimpleQueue()
    _hanging.append(results)
    try:
        thread(partial(_put_result, look, results), "callspan-file", stop=nothing).start()
    except RuntimeError:  # the interpreter is ending: no thread can be started
        _put_result(look, results)
    try:
        return results.get(timeout=_MAX_S)
    except Empty:
        raise TimeoutError from None


def _put_result(look: Callable[[], _T], results: SimpleQueue[_T]) -> None:
    try:
        results.put(look())
    finally:
        _hanging.remove(results)


def _status(path: Path) -> os.stat_result | None:
    try:
        status = path.lstat()
    except (OSError, ValueError):  # the second: a name with NUL
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _content(path: Path) -> bytes:
    return b"" if _status(path) is None else _read(path)


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
