"""Sink for SQLite: a batch is one transaction, every row has a key, and every content is stored once.

Rows hold only values that are cheap to bind: for anything but `int`, `float`, `str` and `bytearray` the `sqlite3`
module first searches for an adapter, which raises several exceptions internally (half the cost of a row of NULLs).
"""

# ruff: noqa: S608 - only our own table and column names are put into SQL; values are parameters

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, cast

from callspan.record.call import CallRecord
from callspan.record.events import SCOPE_TYPES, Record, record_key
from callspan.safe_urls import error_text
from callspan.spool.destination import Rejected
from callspan.stores import bodies
from callspan.stores.base import StoreError
from callspan.stores.call_rows import exact_call
from callspan.stores.columns import CALLS, REFERENCES, TABLES, Table
from callspan.stores.contents import Numbers, StoredCall, owner_of, release, stored_calls, to_write
from callspan.stores.erased import is_erased
from callspan.stores.payloads import prepared, row_of
from callspan.stores.rewards import join
from callspan.stores.rows import Row, add_version, merged_row, on_conflict
from callspan.stores.sqlite.database import SQLiteDatabase
from callspan.stores.sqlite.file import Inode, explaining, forbid, log_of, open_for_writing

_LOST: Final = (
    "its -wal was deleted while this process wrote to it (does it have two copies of SQLite, or open the file itself?)"
)
_MAX_STATEMENTS: Final = 50
"""The `sqlite3` module caches 128 prepared statements per connection."""


class Insert:
    """The statement that inserts rows of a table. Safe from any thread."""

    def __init__(self, table: str, flags: Collection[str] = (), conflict: str = "") -> None:
        """`flags` are the boolean columns; `conflict` follows the values."""
        self._table, self._flags, self._conflict = table, flags, conflict
        self._statements: dict[tuple[str, ...], tuple[str, Sequence[int]]] = {}

    def run(self, cursor: sqlite3.Cursor, row: Row) -> None:
        """Insert a row, which has the columns that are not NULL. Raises sqlite3.Error."""
        names = tuple(row)
        known = self._statements.get(names)
        if known is None:
            if len(self._statements) >= _MAX_STATEMENTS:
                self._statements.clear()
            known = self._statements[names] = self._statement(names)
        statement, flags = known
        values = [*row.values()]
        for place in flags:
            values[place] = int(cast("bool", values[place]))
        cursor.execute(statement, values)

    def _statement(self, names: Sequence[str]) -> tuple[str, Sequence[int]]:
        places = ", ".join("?" * len(names))
        sql = f"INSERT INTO {self._table} ({', '.join(names)}) VALUES ({places}) {self._conflict}"
        return sql, [place for place, name in enumerate(names) if name in self._flags]


POISON: Final = (
    OverflowError, UnicodeEncodeError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.IntegrityError,
)  # fmt: skip
_MEMORY_ENTRIES: Final = 20_000


class SQLiteStore:
    """A sink for a file that any number of processes write to; batches may be repeated."""

    def __init__(self, path: str | Path, *, syncs: bool = False) -> None:
        """`path` is created on `open`, for its owner only. `syncs`: each batch is on the disk when it is delivered."""
        self.path, self._syncs = Path(path), syncs
        self.batch_records = 100
        self._connection: sqlite3.Connection | None = None
        self._known: dict[str, Numbers] = {}
        """The numbers of all contents of owners."""
        self._data_version = -1
        self._has_erased = False
        self._inode: int | None = None
        self._log: Inode | None = None

    def open(self) -> None:
        """Open or create the file. Raises StoreError, sqlite3.Error or OSError."""
        self.close()
        self._connection = open_for_writing(self.path, syncs=self._syncs)
        self._inode, self._log = self._inode_there(), log_of(self.path)
        self._data_version = -1

    def deliver(self, records: Sequence[Record]) -> None:
        """Store all records in one transaction.

        Raises Rejected if one can never be stored, OSError if the file was deleted, sqlite3.Error for anything else.
        """
        connection = self._open
        if self._inode_there() != self._inode:
            raise FileNotFoundError(f"{self.path}: deleted or replaced while in use; it is reopened")
        try:
            with explaining(self.path), _transaction(connection):
                self._forget_if_changed(connection)
                self._store_all(connection.cursor(), records)
        except POISON as error:
            self._forget_all()
            raise Rejected(error_text(error)) from error
        except BaseException:
            self._forget_all()
            raise
        self._check_log()

    def _check_log(self) -> None:
        """Raise StoreError if the file has another WAL than the one that was written to."""
        if self._log is not None and log_of(self.path) != self._log:
            forbid(self.path, _LOST)
            raise StoreError(f"{self.path}: {_LOST}")

    def close(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        self._forget_all()
        if connection is not None:
            connection.close()

    def _inode_there(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return None

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.open()
        if self._connection is None:
            raise sqlite3.OperationalError("not open")
        return self._connection

    def _store_all(self, cursor: sqlite3.Cursor, records: Sequence[Record]) -> None:
        # One cursor for all statements: a connection makes one for each, and keeps a list of them.
        scopes: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
        calls: defaultdict[str, list[CallRecord]] = defaultdict(list)
        for record in records:
            if self._has_erased and is_erased(record, partial(_erased_ns, cursor)):
                continue
            if isinstance(record, SCOPE_TYPES):
                add_version(scopes[record_key(record)], record)
            elif isinstance(record, CallRecord):
                calls[record.call_id].append(record)
            else:
                insert_of(TABLES[record_key(record)[0]]).run(cursor, row_of(record))
        database = SQLiteDatabase(self.path, cursor.connection)
        there = stored_calls(database, [*calls])
        for call_id, versions in calls.items():
            self._store_call(cursor, database, there.get(call_id), call_id, versions)
        for scope_versions in scopes.values():
            for record in scope_versions:
                self._merge(cursor, record)
        join(database, records)

    def _store_call(
        self,
        cursor: sqlite3.Cursor,
        database: SQLiteDatabase,
        there: StoredCall | None,
        call_id: str,
        versions: Sequence[CallRecord],
    ) -> None:
        record = to_write(there, versions, partial(exact_call, database, call_id))
        if record is None:
            return
        if there is not None:
            cursor.execute("DELETE FROM calls WHERE call_id = ?", (call_id,))
        self._insert_call(cursor, record)
        if there is not None:
            trimmed = release(database, there, call_id, stored_calls(database, [call_id])[call_id])
            self._known.pop(trimmed or "", None)

    def _insert_call(self, cursor: sqlite3.Cursor, record: CallRecord) -> None:
        owner = owner_of(record.call_id, record.place.session_id)
        known = self._known.get(owner)
        if known is None:
            sql = "SELECT hash, n FROM contents WHERE owner = ? ORDER BY n"
            by_hash = dict(cursor.execute(sql, (owner,)).fetchall())
            known = self._known[owner] = Numbers(by_hash, [*by_hash.values()])
        new, row = known.add(prepared(record))
        for number, part in new:
            role, text, left = bodies.to_row(part)
            content: Row = {"owner": owner, "n": number, "hash": bytearray(part.hash)}
            if role is not None:
                content["role"] = role
            if left is not None:
                content["data"] = bytearray(bodies.deflated(left))
            if text is not None:
                content["text"] = text
            _CONTENT.run(cursor, content)
        _INSERT_CALL.run(cursor, row)

    @staticmethod
    def _merge(cursor: sqlite3.Cursor, record: Record) -> None:
        """Merge a version of a session or timestep with the stored one."""
        kind, key = record_key(record)
        table = TABLES[kind]
        if not cursor.execute(f"SELECT 1 FROM {table.name} WHERE {table.key} = ?", (key,)).fetchone():
            insert_of(table).run(cursor, row_of(record))
            return
        rows = cursor.connection.cursor()
        rows.row_factory = sqlite3.Row
        there = rows.execute(f"SELECT * FROM {table.name} WHERE {table.key} = ?", (key,)).fetchone()
        merged = merged_row(table, there, record)
        insert_of(table).run(cursor, {name: cell for name, cell in merged.items() if cell is not None})

    def _forget_if_changed(self, connection: sqlite3.Connection) -> None:
        """Clear the cached numbers if another connection has written: it may have pruned them."""
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version or sum(len(one.by_hash) for one in self._known.values()) > _MEMORY_ENTRIES:
            self._forget_all()
            self._data_version = version
            self._has_erased = connection.execute("SELECT 1 FROM erased LIMIT 1").fetchone() is not None

    def _forget_all(self) -> None:
        self._known.clear()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in a transaction: commit, or roll back on an exception."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        yield


def _erased_ns(cursor: sqlite3.Cursor, digest: bytes) -> int | None:
    found = cursor.execute("SELECT time_ns FROM erased WHERE id = ?", (digest,)).fetchone()
    return None if found is None else int(found[0])


@cache
def insert_of(table: Table) -> Insert:
    """Return the statement that inserts a row, with the table's ON CONFLICT clause."""
    flags = [column.name for column in table.columns if column.form == "flag"]
    names = (*table.names, *REFERENCES) if table is CALLS else table.names
    return Insert(table.name, flags, on_conflict(table, names))


_CONTENT: Final = Insert("contents")
_INSERT_CALL: Final = insert_of(CALLS)
