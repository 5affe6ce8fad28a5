"""Descriptors: notes where callspan opens a file by itself that SQLite has opened in this process, or its -wal or -shm.

Closing such a descriptor drops SQLite's locks on the file. Files are compared by inode: a link is the same file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType
from urllib.parse import unquote

import callspan

_OURS = str(Path(callspan.__file__).parent) + os.sep
_inodes: dict[tuple[int, int], Path] = {}
"""Of the files that SQLite has opened."""
_awaited: set[Path] = set()
"""Files that it opens, and perhaps creates, right now."""
found: list[str] = []
"""Where it happened, since the last `forget`."""


def watch() -> None:
    """Begin; a hook cannot be removed."""
    sys.addaudithook(_hook)


def forget() -> None:
    """Forget the files and what was found."""
    _inodes.clear()
    _awaited.clear()
    found.clear()


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and (_inodes or _awaited):
        _opens(arguments[0])
    elif event == "sqlite3.connect" and arguments[0] not in ("", ":memory:"):
        _awaited.add(_path(arguments[0]))


def _path(database: object) -> Path:
    text = os.fsdecode(database) if isinstance(database, bytes | os.PathLike) else str(database)
    if text.startswith("file:"):
        text = unquote(text.removeprefix("file:").partition("?")[0])
    return Path(text).absolute()


def _opens(opened: object) -> None:
    place = _caller(sys._getframe(2))
    if place is None or not isinstance(opened, str | bytes | os.PathLike):
        return
    for path in list(_awaited):
        if (inode := _inode(path)) is not None:
            _inodes[inode] = path
            _awaited.discard(path)
    name = Path(os.fsdecode(opened)).absolute()
    main = name.with_name(name.name.removesuffix("-wal").removesuffix("-shm"))
    inode = _inode(main)
    # The number of a deleted file may be given again.
    if inode in _inodes and _inode(_inodes[inode]) == inode:
        found.append(f"{place} opens {name}")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _caller(frame: FrameType | None) -> str | None:
    """Return the innermost place in callspan from which a file is opened; None: not by callspan."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OURS):
            return f"{frame.f_code.co_filename.removeprefix(_OURS)}:{frame.f_lineno}"
        frame = frame.f_back
    return None
