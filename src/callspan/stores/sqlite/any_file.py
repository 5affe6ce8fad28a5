"""Any file: reads every row of an SQLite file, also the intact rows of a damaged one."""

# ruff: noqa: S608 - only our own table names are put into SQL

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import RECORD_TYPES, Record
from callspan.stores.base import no_file
from callspan.stores.sqlite.file import explaining, open_any
from callspan.stores.tables import bodies
from callspan.stores.tables.bodies import DAMAGE, is_hash_of
from callspan.stores.tables.call_rows import owner_of_row, record_of, request_body, response_body, with_bodies
from callspan.stores.tables.database import Values
from callspan.stores.tables.facts import CALLS, TABLES, Table

_UNREADABLE: Final = (sqlite3.Error, *DAMAGE, LookupError, ArithmeticError, RecursionError)
"""Exceptions raised for unreadable rows."""
_T = TypeVar("_T")


class AnyFile:
    """Reads each row separately."""

    def __init__(self, path: Path, *, damaged: bool) -> None:
        """Open the file. Raises StoreError if it is missing, no database, or belongs to another application."""
        if not path.is_file():
            raise no_file(path)
        self._path, self._damaged = path, damaged
        with explaining(path):
            self._connection = open_any(path, damaged=damaged)
        self.cut_off: list[str] = []
        """Tables with an unknown number of unreadable rows."""
        self.lost_bodies = 0

    def records(self) -> Iterator[Record | None]:
        """Yield the record of each row; None for an unreadable row. Raises StoreError unless `damaged`."""
        with explaining(self._path):
            table_names = {str(row[0]) for row in self._connection.execute("SELECT name FROM sqlite_master")}
            for table in TABLES.values():
                if table.name in table_names:
                    for row in self._rows_of(table.name):
                        yield _readable(partial(self._record, table, row))

    def _record(self, table: Table, row: Mapping[str, object]) -> Record:
        if table is CALLS:
            record = record_of(CALLS, row, CallRecord)
            contents = partial(self._contents, owner_of_row(row))
            request = self._counted(row["request"], partial(request_body, row, contents))
            has_answer = record.response is not None
            answer = self._counted(row["output"], partial(response_body, row, contents)) if has_answer else None
            return with_bodies(record, request, answer)
        return record_of(table, row, RECORD_TYPES[table.kind])

    def _rows_of(self, table: str) -> Iterator[Values]:
        """Yield the rows in ascending order up to any damage, then in descending order down to it."""
        last_row_id = -(2**63)
        for sign, order, start in ((">", "ASC", last_row_id), ("<", "DESC", 2**63 - 1)):
            sql = f"SELECT rowid AS row_id, * FROM {table} WHERE rowid {sign} ? ORDER BY rowid {order} LIMIT 1"
            row_id = start
            try:
                while row := self._connection.execute(sql, (row_id,)).fetchone():
                    if (row["row_id"] <= row_id) == (order == "ASC"):
                        raise sqlite3.DatabaseError("row ids out of order")
                    if order == "DESC" and row["row_id"] <= last_row_id:
                        break
                    row_id = row["row_id"]
                    yield row
            except sqlite3.Error:
                if not self._damaged:
                    raise
            else:
                if order == "ASC":
                    return
            last_row_id = row_id
        self.cut_off.append(table)

    def _contents(self, owner: str, ranges: Sequence[tuple[int, int]]) -> dict[int, tuple[bytes, bytes]]:
        sql = "SELECT * FROM contents WHERE owner = ? AND n BETWEEN ? AND ?"
        rows = (row for ends in ranges for row in self._connection.execute(sql, (owner, *ends)))
        return {row["n"]: (row["hash"], _checked(row)) for row in rows}

    def _counted(self, reference: object, read_body: Callable[[], msgspec.Raw | None]) -> msgspec.Raw | None:
        body = _readable(read_body)
        self.lost_bodies += body is None and reference is not None
        return body

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _checked(row: Values) -> bytes:
    """Return the JSON of a content. Raises ValueError if it does not match its hash."""
    json = bodies.json_of(row, is_deflated=True)
    if not is_hash_of(cast("bytes", row["hash"]), json):
        raise ValueError("its content does not match its hash")
    return json


def _readable(read_value: Callable[[], _T]) -> _T | None:
    """Return the result of `read_value`; None if it is unreadable."""
    try:
        return read_value()
    except _UNREADABLE:
        return None
