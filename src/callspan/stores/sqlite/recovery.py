"""Recovery: reads what can be read of a damaged SQLite file, and delivers it to a new one.

Contents that do not match their hash are left out: their calls then have no bodies.
"""

# ruff: noqa: S608 - only our own table names are put into SQL

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from callspan.fail_open import ours
from callspan.record.codec import encode
from callspan.record.events import RECORD_TYPES, Record
from callspan.spool.sink import Entry, PoisonError
from callspan.stores.base import StoreError
from callspan.stores.bodies import DAMAGE
from callspan.stores.columns import CALLS, TABLES, Table
from callspan.stores.sql_rewards import Values, record_of
from callspan.stores.sqlite.file import open_damaged, open_for_writing
from callspan.stores.sqlite.reader import WritersReader
from callspan.stores.sqlite.store import SQLiteStore

_FAREST: Final = 1 << 48
_ONE_BY_ONE: Final = 250
"""Ids of a hole that are tried one after the other; then steps are at most an eighth of the hole."""
_UNREADABLE: Final = (sqlite3.Error, *DAMAGE, LookupError, ArithmeticError, RecursionError)
"""Exceptions of a row that cannot be read; KeyError: of a column whose name is damaged."""
_DEAD_LETTERS: Final = "dead_letter"
_DEAD_LETTER: Final = "key, reason, frame, time_ns"
_ERASED: Final = "erased"
_T = TypeVar("_T")


class Recovered(NamedTuple):
    """What was read of a damaged file, and what was not."""

    records: dict[str, int]
    """The number of records that were delivered, by table, every table."""
    unread: dict[str, int]
    """By table, where there are any: ids of rows that could not be read or stored; some may never have been used."""
    cut_off: list[str]
    """Tables of which an unknown number of rows could not be read: the last ones, or between the first and the last."""
    bodies: int
    """Requests and answers of the recovered calls that could not be read."""


def recover(damaged: Path, new: Path) -> Recovered:
    """Deliver what can be read to a new file; a failure leaves none.

    Raises StoreError if `new` exists, if nothing can be read or if the file has another format, sqlite3.Error or
    OSError if a file cannot be opened or written.
    """
    if new.exists():
        raise StoreError(f"{new} exists; name a new file")
    with closing(open_damaged(damaged)) as connection:
        try:
            return _recovered(_DamagedReader(damaged, connection), new)
        except BaseException:
            for end in ("", "-wal", "-shm"):
                new.with_name(f"{new.name}{end}").unlink(missing_ok=True)
            raise


def _recovered(reader: _DamagedReader, new: Path) -> Recovered:
    with closing(SQLiteStore(new)) as sink:
        records = {table.name: _deliver(sink, table, reader) for table in TABLES.values()}
    sql = f"INSERT OR IGNORE INTO {_DEAD_LETTERS} ({_DEAD_LETTER}) VALUES (?, ?, ?, ?)"
    with closing(open_for_writing(new)) as connection, connection:
        connection.execute("BEGIN")
        records[_DEAD_LETTERS] = connection.executemany(sql, reader.dead_letters()).rowcount
        connection.executemany(f"INSERT OR IGNORE INTO {_ERASED} (id, time_ns) VALUES (?, ?)", reader.erased())
    if not any(records.values()):
        raise StoreError(f"{reader.path}: no record in it can be read; restore it from a backup, or move it away")
    return Recovered(records, {**reader.unread}, [*reader.cut_off], reader.bodies)


class _DamagedReader(WritersReader):
    """Reads a damaged file, and counts what it cannot read, see `Recovered`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self.path = path
        self.unread: Counter[str] = Counter()
        self.cut_off: list[str] = []
        self.bodies = 0

    def records(self, table: Table) -> Iterator[bytes]:
        """Yield the encoded records of a table that can be read, calls with those of their bodies that can be."""
        kind = RECORD_TYPES[table.kind]
        for row in self._rows_of(table.name):
            read: Callable[[], Record] = (
                partial(self._unchecked_call_of, row, "all") if table is CALLS else partial(record_of, table, row, kind)
            )
            payload = _readable(lambda read=read: encode(read()))  # type: ignore[misc]
            if payload is None:
                self.unread[table.name] += 1
            else:
                yield payload

    def dead_letters(self) -> Iterator[tuple[object, ...]]:
        """Yield the rejected entries that can be read."""
        return self._from_both_ends(_DEAD_LETTERS, _DEAD_LETTER)

    def erased(self) -> Iterator[tuple[object, ...]]:
        """Yield what is remembered of what was erased, as far as it can be read."""
        return self._from_both_ends(_ERASED, "id, time_ns")

    def _from_both_ends(self, table: str, columns: str) -> Iterator[tuple[object, ...]]:
        """Yield the rows of a table without row ids, whose key is the first column."""
        known: set[object] = set()
        key = columns.partition(",")[0]
        # Any blob comes after any text, and no hash is so long.
        for sign, order, end in ((">", "ASC", ""), ("<", "DESC", b"\xff" * 40)):
            last: object = end
            sql = f"SELECT {columns} FROM {table} WHERE {key} {sign} ? ORDER BY {key} {order} LIMIT 1"
            try:
                while (row := self._connection.execute(sql, (last,)).fetchone()) and row[key] not in known:
                    last = row[key]
                    known.add(last)
                    yield tuple(row)
            except ours(sqlite3.Error):
                continue
            if row is None:
                return
        self.cut_off.append(table)

    def _rows_of(self, table: str) -> Iterator[Values]:
        read = 0
        while (start := self._next_readable(table, read + 1)) is not None:
            self.unread[table] += start - read - 1
            try:
                # The `sqlite3` module reads one row ahead, and raises its error instead of returning the row before it.
                for most in (1, -1):
                    for row in self._from(table, max(start, read + 1), most):
                        if row["row_id"] <= read:
                            raise sqlite3.DatabaseError("only damage has ids descend")
                        read = row["row_id"]
                        yield row
            except ours(sqlite3.Error):
                read = max(read, start)
            else:
                return
        self.cut_off.append(table)

    def _next_readable(self, table: str, first: int) -> int | None:
        """Return the least id, `first` or later, from which on a row can be read; None if there is none."""
        failing, working = first - 1, first
        while not self._can_start(table, working):
            failing, working = working, working + 1 + max(0, working - first - _ONE_BY_ONE) // 8
            if working > _FAREST:
                return None
        while working - failing > 1:
            middle = (failing + working) // 2
            failing, working = (failing, middle) if self._can_start(table, middle) else (middle, working)
        return working

    def _can_start(self, table: str, start: int) -> bool:
        try:
            return all(row["row_id"] >= start for row in self._from(table, start, 1))
        except ours(sqlite3.Error):
            return False

    def _from(self, table: str, start: int, most: int) -> sqlite3.Cursor:
        sql = f"SELECT rowid AS row_id, * FROM {table} WHERE rowid >= ? ORDER BY rowid LIMIT ?"
        return self._connection.execute(sql, (start, most))

    def _json_of(self, row: Values) -> bytes:
        json = super()._json_of(row)
        if sha256(json).digest() != row["hash"]:
            raise ValueError("another content than its hash says")
        return json

    def _request_body(self, row: Values) -> msgspec.Raw | None:
        return self._counted(row["request"], partial(super()._request_body, row))

    def _response_body(self, row: Values) -> msgspec.Raw | None:
        return self._counted(row["output"], partial(super()._response_body, row))

    def _counted(self, reference: object, read: Callable[[], msgspec.Raw | None]) -> msgspec.Raw | None:
        body = _readable(read)
        self.bodies += body is None and reference is not None
        return body


def _readable(read: Callable[[], _T]) -> _T | None:
    """Return what `read` returns; None where damage prevents it."""
    try:
        return read()
    except ours(*_UNREADABLE):
        return None


def _deliver(sink: SQLiteStore, table: Table, reader: _DamagedReader) -> int:
    """Deliver the records of a table, and return how many the new file took."""
    payloads, delivered = reader.records(table), 0
    while batch := [Entry(table.name, at, at + 1, payload) for at, payload in enumerate(islice(payloads, 100))]:
        taken = _taken(sink, batch)
        delivered += taken
        reader.unread[table.name] += len(batch) - taken
    reader.unread += Counter()  # without those that are 0
    return delivered


def _taken(sink: SQLiteStore, entries: Sequence[Entry]) -> int:
    try:
        sink.deliver(entries)
    except PoisonError:
        return sum(_taken(sink, [entry]) for entry in entries) if len(entries) > 1 else 0
    return len(entries)
