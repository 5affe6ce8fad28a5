"""Sink for SQLite: each batch is one transaction, each row has a key, and each content is stored once.

Rows have only values that are cheap to bind. For types other than `int`, `float`, `str` and `bytearray`, `sqlite3`
first looks for an adapter and raises several exceptions internally, half the cost of a row of NULLs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, cast

from callspan.record.events import Record
from callspan.stores import bodies
from callspan.stores.base import StoreError, on_error
from callspan.stores.columns import TABLES, Table
from callspan.stores.contents import Numbers
from callspan.stores.payloads import PreparedCall
from callspan.stores.rows import Row
from callspan.stores.sqlite.database import SQLiteDatabase
from callspan.stores.sqlite.file import Inode, explaining, forbid, log_of, open_for_writing
from callspan.stores.writer import NewContent, SqlSink

_LOST: Final = (
    "its -wal was deleted while this process wrote to it (does it have two copies of SQLite, or open the file itself?)"
)
_MAX_STATEMENTS: Final = 50
"""Fewer than the 128 prepared statements that `sqlite3` caches per connection."""
_MEMORY_ENTRIES: Final = 20_000


class SQLiteStore(SqlSink[SQLiteDatabase]):
    """A sink for a file that any number of processes may write to."""

    rejects = (
        OverflowError, UnicodeEncodeError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.IntegrityError,
    )  # fmt: skip

    def __init__(self, path: str | Path, *, syncs: bool = False) -> None:
        """`path` is created by `open`, for its owner only. `syncs`: sync each batch to disk."""
        self.path, self._syncs = Path(path), syncs
        self._known: dict[str, Numbers] = {}
        """The numbers of all contents, by owner."""
        self._data_version = -1
        self._inode: int | None = None
        self._log: Inode | None = None

    def open(self) -> None:
        """Open or create the file. Raises StoreError, sqlite3.Error or OSError."""
        self.close()
        self._database = SQLiteDatabase(self.path, open_for_writing(self.path, creates=True, syncs=self._syncs))
        self._inode, self._log = self._inode_there(), log_of(self.path)
        self._data_version = -1

    def close(self) -> None:
        """Close the file."""
        self._known.clear()
        super().close()

    def _deliver(self, records: Sequence[Record]) -> None:
        database = cast("SQLiteDatabase", self._database)
        if self._inode_there() != self._inode:
            raise FileNotFoundError(f"{self.path}: deleted or replaced while in use; it is reopened")
        with on_error(self._known.clear), explaining(self.path), database.transaction():
            self._forget_if_changed(database)
            for owner in self._write(database, records):
                self._known.pop(owner, None)
        # Another WAL than the one written to means that it was deleted meanwhile.
        if self._log is not None and log_of(self.path) != self._log:
            forbid(self.path, _LOST)
            raise StoreError(f"{self.path}: {_LOST}")

    def _inode_there(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return None

    def _forget_if_changed(self, database: SQLiteDatabase) -> None:
        """Clear the cached numbers if another connection has written, because it may have deleted contents."""
        version = next(database.tuples("PRAGMA data_version"))[0]
        if version != self._data_version or sum(len(one.by_hash) for one in self._known.values()) > _MEMORY_ENTRIES:
            self._known.clear()
            self._data_version = version

    def _numbers(self, database: SQLiteDatabase, rows: Sequence[PreparedCall]) -> Mapping[str, Numbers]:
        for owner in {row.owner for row in rows}.difference(self._known):
            by_hash = dict(
                database.tuples("SELECT hash, n FROM contents WHERE owner = :owner ORDER BY n", {"owner": owner})
            )
            self._known[owner] = Numbers(by_hash, [*by_hash.values()])
        return self._known

    def _add_contents(self, database: SQLiteDatabase, new: Sequence[NewContent]) -> None:
        cursor = database.connection.cursor()
        for owner, number, part in new:
            role, text, left = bodies.to_row(part)
            content: Row = {"owner": owner, "n": number, "hash": bytearray(part.hash)}
            if role is not None:
                content["role"] = role
            if left is not None:
                content["data"] = bytearray(bodies.deflated(left))
            if text is not None:
                content["text"] = text
            _insert(cursor, "contents", content)

    def _insert(self, database: SQLiteDatabase, table: Table, rows: Iterable[Row]) -> None:
        cursor = database.connection.cursor()
        for row in rows:
            _insert(cursor, table.name, row)


def _insert(cursor: sqlite3.Cursor, table: str, row: Row) -> None:
    """Insert a row of the columns that are not NULL. Raises sqlite3.Error."""
    statement, flags = _statement(table, tuple(row))
    values = [*row.values()]
    for place in flags:
        values[place] = int(cast("bool", values[place]))
    cursor.execute(statement, values)


@lru_cache(_MAX_STATEMENTS)
def _statement(name: str, columns: Sequence[str]) -> tuple[str, Sequence[int]]:
    """Return the INSERT statement for these columns, and the indexes of boolean ones."""
    flags, conflict = set[str](), ""
    if (table := next((one for one in TABLES.values() if one.name == name), None)) is not None:
        flags = {column.name for column in table.columns if column.form == "flag"}
        conflict = "ON CONFLICT DO NOTHING"
    sql = f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) {conflict}"  # noqa: S608
    return sql, [place for place, column in enumerate(columns) if column in flags]
