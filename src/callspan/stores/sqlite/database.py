"""Database in a SQLite file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from callspan.file_lock import try_lock, unlock
from callspan.forks import in_child
from callspan.record.labels import label_of, labels
from callspan.stores.database import Database, Dialect, Values, bound
from callspan.stores.sqlite import file
from callspan.stores.sqlite.file import BUSY_MS, explaining, forbid, remedy, statuses

_INHERITED: Final = "it was open when this process was forked, and SQLite has no locks in the child"
_READERS_S: Final = 3.0
"""How long to wait for readers, which prevent the WAL from being emptied."""
_AGAIN_S: Final = 0.005
"""Retry interval. SQLite itself retries so rarely that it misses the pauses of a busy writer."""
_HELD: Final = (
    "{path}-wal still has the deleted records: another process reads it; SQLite empties it when the last process closes"
    " the file, or once that one has ended: sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'"
)
SQLITE: Final = Dialect(
    day="date(c.start_ns / 1000000000, 'unixepoch')",
    minute="strftime('%Y-%m-%dT%H:%MZ', c.start_ns / 1000000000, 'unixepoch')",
    cost="coalesce(c.cost_picousd, CAST(c.cost_usd * 1e12 AS integer))",
    array="json_group_array({values})",
    items="SELECT value FROM json_each(:items)",
    # LIKE rejects most texts without calling Python, but is case-insensitive only for ASCII and limits the pattern.
    contains=r"""(({text} LIKE
      '%' || replace(replace(replace(substr({part}, 1, 2000), '\', '\\'), '%', '\%'), '_', '\_') || '%' ESCAPE '\'
      OR length({text}) <> length(CAST({text} AS BLOB))) AND callspan_contains({text}, {part}))""",
    in_sessions="c.session_id IN (SELECT s.session_id FROM sessions s WHERE {condition})",
    # Searches the texts once, not once per call.
    has_message="""EXISTS (
  WITH hit AS MATERIALIZED (
    SELECT t.owner, json_group_array(t.n) AS numbers FROM contents t
     WHERE t.role IS NOT NULL AND {contains} GROUP BY +t.owner)
  SELECT 1 FROM hit h, json_each(c.contents) r, json_each(h.numbers) i
   WHERE h.owner = coalesce('s:' || c.session_id, 'c:' || c.call_id)
     AND i.value BETWEEN json_extract(r.value, '$[1]') AND json_extract(r.value, '$[2]'))""",
    is_deflated=True,
    has="callspan_has({at}, {value})",
)


class SQLiteDatabase(Database):
    """The `Database` of a file, over a connection of `callspan.stores.sqlite.file`."""

    dialect = SQLITE

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Takes ownership of the connection."""
        self.name = f"sqlite:///{path}"
        self.remedy = remedy(path)
        self._path = path
        self.connection: sqlite3.Connection = connection
        self._locks: list[int] = []
        self._is_open = True
        in_child(self, _inherit)

    @classmethod
    def open(cls, path: Path, *, writes: bool = False, wait_s: float | None = None) -> SQLiteDatabase:
        """Open an existing file. `wait_s`: how long to wait for locks.

        Raises StoreError if the file is missing or belongs to another application; sqlite3.Error or OSError.
        """
        wait_s = BUSY_MS / 1000 if wait_s is None else wait_s
        connect = file.open_for_writing if writes else file.open_for_reading
        found = cls(path, connect(path, wait_s=wait_s))
        for name, arguments, function in _FUNCTIONS:
            found.connection.create_function(name, arguments, function, deterministic=True)
        return found

    def run_many(self, sql: str, rows: Iterable[Values]) -> None:
        """Run a statement once for each of these rows of parameters."""
        with self._explaining():
            self.connection.executemany(sql, map(bound, rows))

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[None]:
        """Commit the block's writes, or roll them back if it raises. Other writers wait meanwhile."""
        del alone
        self.run("BEGIN IMMEDIATE")
        with self.connection:
            yield

    def try_lock(self, name: str) -> bool:
        """Lock a file of this name beside the database until `close`; return False if another process holds it."""
        lock = os.open(f"{self._path}.{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._locks.append(lock)
        return try_lock(lock)

    def version(self) -> str:
        """Return a text that changes with every write."""
        return " ".join(f"{one.st_ino} {one.st_mtime_ns} {one.st_size}" for one in statuses(self._path))

    def finish(self, *, vacuum: bool = False) -> str | None:
        """Move the WAL into the file and empty it; `vacuum`: rewrite the file first.

        Return the reason if the WAL could not be emptied, else None.
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
        return bool(next(self.tuples("PRAGMA wal_checkpoint(TRUNCATE)"))[0])

    def close(self) -> None:
        """Close the file and release its locks."""
        super().close()
        self._is_open = False
        while self._locks:
            lock = self._locks.pop()
            unlock(lock)
            os.close(lock)

    def _execute(self, sql: str, values: dict[str, Any], *, by_name: bool = False) -> sqlite3.Cursor:
        cursor = self.connection.cursor()
        if by_name:
            cursor.row_factory = sqlite3.Row
        return cursor.execute(sql, values)

    def _explaining(self) -> AbstractContextManager[None]:
        return explaining(self._path)


def _inherit(database: SQLiteDatabase) -> None:
    if database._is_open:
        forbid(database._path, _INHERITED)


def _label(metadata: str | None, key: str) -> str | None:
    return None if metadata is None else label_of(msgspec.json.decode(metadata, type=dict), key)


def _has(metadata: str | None, key: str, value: str) -> bool:
    return metadata is not None and value in labels(msgspec.json.decode(metadata, type=dict), key)


def _contains(text: str | None, part: str) -> bool:
    """Return whether a text contains a case-folded substring. SQLite's own `lower` handles only ASCII."""
    return text is not None and part in text.casefold()


_FUNCTIONS: Final = (("callspan_label", 2, _label), ("callspan_has", 3, _has), ("callspan_contains", 2, _contains))
