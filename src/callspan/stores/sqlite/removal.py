"""Removal from a SQLite file: on a connection of its own, so that the sink's goes on meanwhile."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

from callspan.stores.base import no_file
from callspan.stores.sqlite.file import BUSY_MS, explaining, open_for_writing
from callspan.stores.sqlite.reader import WritersReader

_READERS_S: Final = 3.0
"""How long to wait for readers, which keep the WAL from being emptied."""
_AGAIN_S: Final = 0.005
"""SQLite itself tries again so seldom that it misses the pauses of a writer that goes on all the time."""
_HELD: Final = (
    "{path}-wal still holds what was deleted: another process reads it; SQLite empties it when the last process closes"
    " the file, or once that one has ended: sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'"
)


class SQLiteDatabase:
    """The database of `callspan.stores.removal`. Raises StoreError if there is no file, else sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        """Open the file; none is created."""
        if not path.is_file():
            raise no_file(path)
        self._path = path
        self._connection = open_for_writing(path)
        self.reader = WritersReader(path, self._connection)

    def run(self, sql: str, values: Mapping[str, object] = {}) -> sqlite3.Cursor:
        """Run a statement."""
        with explaining(self._path):
            return self._connection.execute(sql, cast("Mapping[str, Any]", values))

    def add(self, sql: str, rows: Collection[tuple[object, ...]]) -> None:
        """Run a statement for all rows."""
        with explaining(self._path):
            self._connection.executemany(sql, cast("Any", rows))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the block's writes, or roll them back. Others wait meanwhile."""
        self.run("BEGIN IMMEDIATE")
        with self._connection:
            yield

    def finish(self, *, vacuum: bool = False) -> str | None:
        """Move the WAL into the file and empty it, with `vacuum` after writing the file anew.

        Return who hinders that, None if the WAL is empty.
        """
        if vacuum:
            self.run("VACUUM")
        self.run("PRAGMA busy_timeout=0")
        deadline = time.monotonic() + _READERS_S
        while (busy := self._is_log_busy()) and time.monotonic() < deadline:
            time.sleep(_AGAIN_S)
        self.run(f"PRAGMA busy_timeout={BUSY_MS}")
        return _HELD.format(path=self._path) if busy else None

    def _is_log_busy(self) -> bool:
        return bool(self.run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
