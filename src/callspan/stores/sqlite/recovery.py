"""Recovery: reads what can be read of a damaged SQLite file, and delivers it to a new one.

Contents that do not match their hash are left out: their calls then have no bodies.
"""

# ruff: noqa: S608 - only our own table names are put into SQL

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from callspan.fail_open import ours
from callspan.record.codec import encode
from callspan.record.events import RECORD_TYPES, Record
from callspan.spool.sink import Entry, PoisonError
from callspan.stores.base import StoreError
from callspan.stores.bodies import DAMAGE
from callspan.stores.columns import CALLS, TABLES, Table
from callspan.stores.sql_rewards import Values, record_of
from callspan.stores.sqlite.file import open_damaged
from callspan.stores.sqlite.reader import WritersReader
from callspan.stores.sqlite.store import SQLiteStore

_FAREST: Final = 1 << 48
_T = TypeVar("_T")


def recover(damaged: Path, new: Path) -> dict[str, int]:
    """Deliver what can be read to a new file, and return the number of records by table.

    Raises StoreError if `new` exists or nothing can be read, sqlite3.Error or OSError if a file cannot be opened.
    """
    if new.exists():
        raise StoreError(f"{new} exists; name a new file")
    with closing(open_damaged(damaged)) as connection, closing(SQLiteStore(new)) as sink:
        reader = _DamagedReader(damaged, connection)
        counts = {table.name: _deliver(sink, table, reader.records(table)) for table in TABLES.values()}
    if not any(counts.values()):
        new.unlink(missing_ok=True)
        raise StoreError(f"{damaged}: no record in it can be read; restore it from a backup, or move it away")
    return counts


class _DamagedReader(WritersReader):
    """Reads a damaged file."""

    def records(self, table: Table) -> Iterator[Record]:
        """Yield the records of a table that can be read, calls with those of their bodies that can be."""
        kind = RECORD_TYPES[table.kind]
        for row in self._rows_of(table):
            record: Record | None = _readable(
                partial(self._unchecked_call_of, row, "all") if table is CALLS else partial(record_of, table, row, kind)
            )
            if record is not None:
                yield record

    def _rows_of(self, table: Table) -> Iterator[Values]:
        sql = f"SELECT rowid AS row_id, * FROM {table.name} WHERE rowid > ? ORDER BY rowid"
        read = tried = 0
        while tried < _FAREST:
            try:
                for row in self._connection.execute(sql, (tried,)):
                    if row["row_id"] <= tried:
                        raise sqlite3.DatabaseError("only damage has ids descend")
                    read = tried = row["row_id"]
                    yield row
            except ours(sqlite3.Error):  # noqa: PERF203 - one per damaged row
                # Row by row at first; behind a large hole at most an eighth of it is passed over unread.
                tried += 1 + (tried - read) // 8
            else:
                return

    def _json_of(self, row: Values) -> bytes:
        json = super()._json_of(row)
        if sha256(json).digest() != row["hash"]:
            raise ValueError("another content than its hash says")
        return json

    def _request_body(self, row: Values) -> msgspec.Raw | None:
        return _readable(partial(super()._request_body, row))

    def _response_body(self, row: Values) -> msgspec.Raw | None:
        return _readable(partial(super()._response_body, row))


def _readable(read: Callable[[], _T]) -> _T | None:
    """Return what `read` returns; None where damage prevents it."""
    try:
        return read()
    except ours(sqlite3.Error, *DAMAGE):
        return None


def _deliver(sink: SQLiteStore, table: Table, records: Iterator[Record]) -> int:
    """Deliver records, and return how many the new file took."""
    payloads = map(encode, records)
    delivered = 0
    while batch := [Entry(table.name, at, at + 1, payload) for at, payload in enumerate(islice(payloads, 100))]:
        delivered += _taken(sink, batch)
    return delivered


def _taken(sink: SQLiteStore, entries: Sequence[Entry]) -> int:
    try:
        sink.deliver(entries)
    except PoisonError:
        return sum(_taken(sink, [entry]) for entry in entries) if len(entries) > 1 else 0
    return len(entries)
