"""Descriptors: notes where callspan opens a file by itself that SQLite has opened in this process, or its -wal or -shm.

Closing such a descriptor drops SQLite's locks on the file, by whatever names the two have opened it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType
from urllib.parse import unquote

import callspan

_OURS = str(Path(callspan.__file__).parent) + os.sep
_opened: set[Path] = set()
"""Files that SQLite has opened."""
found: list[str] = []
"""Where it happened, since the last `forget`."""


def watch() -> None:
    """Begin; a hook cannot be removed."""
    sys.addaudithook(_hook)


def forget() -> None:
    """Forget the files and what was found."""
    _opened.clear()
    found.clear()


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "sqlite3.connect" and arguments[0] not in ("", ":memory:"):
        _opened.add(_path(arguments[0]))
    elif event == "open" and _opened and isinstance(arguments[0], str | bytes | os.PathLike):
        place = _caller(sys._getframe(1))
        name = Path(os.fsdecode(arguments[0])).absolute()
        main = name.with_name(name.name.removesuffix("-wal").removesuffix("-shm"))
        if place is not None and any(_are_one(main, file) for file in list(_opened)):
            found.append(f"{place} opens {name}")


def _path(database: object) -> Path:
    text = os.fsdecode(database) if isinstance(database, bytes | os.PathLike) else str(database)
    if text.startswith("file:"):
        text = unquote(text.removeprefix("file:").partition("?")[0])
    return Path(text).absolute()


def _are_one(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _caller(frame: FrameType | None) -> str | None:
    """Return the innermost place in callspan from which a file is opened; None: not by callspan."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OURS):
            return f"{frame.f_code.co_filename.removeprefix(_OURS)}:{frame.f_lineno}"
        frame = frame.f_back
    return None
