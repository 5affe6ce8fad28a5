"""Sent: which spans were sent to one receiver before, in a file of SQLite: eight bytes of a hash for each."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callspan.fail_open import ours
from callspan.spool.segment import make_private
from callspan.stores.base import StoreError

if TYPE_CHECKING:
    from typing_extensions import Self

_AT_ONCE: Final = 500
"""Parameters of a query; SQLite takes 999 at least."""
_BUSY_S: Final = 30.0


class SentKeys:
    """Remembers keys, one for each span or state of a session. Not for several threads."""

    def __init__(self, path: Path | None) -> None:
        """Open the file, which is made with its directories, for its owner only; None: memory alone.

        Raises StoreError where that cannot be done.
        """
        self._path = path
        try:
            if path is not None:
                make_private(path.parent)
                path.touch(mode=0o600)
            self._file = sqlite3.connect(":memory:" if path is None else path, timeout=_BUSY_S, isolation_level=None)
            self._file.execute("CREATE TABLE IF NOT EXISTS sent (id INTEGER PRIMARY KEY)")
        except ours(sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def known(self, keys: Collection[str]) -> set[str]:
        """Return those of the keys that were added before. Raises StoreError."""
        by_id = {_id(key): key for key in keys}
        ids, found = [*by_id], set[str]()
        try:
            for start in range(0, len(ids), _AT_ONCE):
                some = ids[start : start + _AT_ONCE]
                marks = ", ".join("?" * len(some))
                rows = self._file.execute(f"SELECT id FROM sent WHERE id IN ({marks})", some)  # noqa: S608 - marks
                found.update(by_id[row[0]] for row in rows)
        except ours(sqlite3.Error) as error:
            raise self._failure(error) from error
        return found

    def add(self, keys: Iterable[str]) -> None:
        """Add keys, durably for all that ends this process. Raises StoreError."""
        try:
            with self._file:
                self._file.execute("BEGIN IMMEDIATE")
                self._file.executemany("INSERT OR IGNORE INTO sent VALUES (?)", [(_id(key),) for key in keys])
        except ours(sqlite3.Error) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(f"{self._path}: what was sent cannot be remembered: {error}")


def _id(key: str) -> int:
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big", signed=True)
