"""Troubles: turns errors of a SQLite file into messages that say what to do."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from callspan.fail_open import ours
from callspan.stores.base import StoreError
from callspan.stores.schema import APPLICATION_ID, named, relations

_MAGIC: Final = b"SQLite format 3\0"
_MARK: Final = APPLICATION_ID.to_bytes(4, "big")
_MARK_AT: Final = slice(68, 72)
_LIKE_ENOUGH: Final = 12
"""Number of bytes of the magic that a damaged header must still have."""
_ZEROS: Final = 65_536
_RESCUE: Final = "python -m callspan.stores.sqlite.rescue"


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Context manager that replaces known SQLite errors by a StoreError that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        advice = _advice(path, str(error))
        if advice is None:
            raise
        raise StoreError(f"{path}: {advice}") from error


def _advice(path: Path, message: str) -> str | None:
    if "malformed" in message or "not a database" in message:
        return _damage(path, message)
    if "no such table" in message:
        return _gone(path, message)
    if "readonly" in message or "unable to open" in message:
        return f"{message}: {_right(path)}"
    if "is locked" in message:
        return f"{message} by another program; end that one, or wait for it"
    if "is full" in message:
        return f"{message}; make room"
    return None


def _damage(path: Path, message: str) -> str:
    try:
        with path.open("rb") as file:
            header = file.read(_ZEROS)
    except ours(OSError) as error:
        return error.strerror or message
    if not header.strip(b"\0"):
        return f"{message}: it holds zero bytes, as after a power failure; restore it from a backup, or move it away"
    same = sum(one == other for one, other in zip(header, _MAGIC, strict=False))
    if same < _LIKE_ENOUGH and header[_MARK_AT] != _MARK:
        return "not an SQLite file; name another file"
    return f"{message}; {rescue(path)}"


def rescue(path: Path) -> str:
    """Return what to do about a damaged file."""
    rescued = path.with_name(f"{path.stem}-rescued{path.suffix}")
    return f"restore it from a backup, or rescue what can be read: {_RESCUE} {path} {rescued}"


def _gone(path: Path, message: str) -> str:
    names = missing(path) or [message.rpartition(": ")[2]]
    return f"{named(names)}; restore the file from a backup, or move it away: a new one is made with the next record"


def missing(path: Path) -> list[str]:
    """Return which of callspan's tables and views a file lacks; none if it cannot be read."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            found = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master")}
            layout = int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()
    except ours(sqlite3.Error):
        return []
    return sorted(_expected(layout) - found)


@cache
def _expected(layout: int) -> frozenset[str]:
    return frozenset(relations("sqlite", layout))


def _right(path: Path) -> str:
    """Return which permission this process lacks."""
    for place, kind, mode in ((path.parent, "directory", os.X_OK), (path, "file", os.R_OK)):
        if not os.access(place, mode):
            return f"no permission to read the {kind}"
    for place, kind in ((path.parent, "directory"), (path, "file")):
        if not os.access(place, os.W_OK):
            return f"no permission to write the {kind}; copy the file and its -wal to where you may write"
    return "its disk may be read-only, or too many files may be open"
