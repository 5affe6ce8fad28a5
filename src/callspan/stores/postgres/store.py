"""Postgres: tables in a database that any number of writers may share; the sink that writes them and the reader.

A batch is one transaction, and every row has a key, so that batches may be repeated.
"""

# ruff: noqa: S608 - only our own table and column names are put into SQL; values are parameters

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec
import psycopg
from psycopg.types.string import TextLoader

from callspan.record.call import CallRecord
from callspan.record.events import Record, record_key
from callspan.record.merging import Order, order_of
from callspan.safe_urls import error_text, safe_name
from callspan.spool.destination import Rejected
from callspan.stores import bodies
from callspan.stores.base import on_error
from callspan.stores.call_rows import exact_call
from callspan.stores.columns import CALLS, REFERENCES, TABLES, Table
from callspan.stores.contents import (
    Numbers,
    StoredCall,
    lane_end,
    owner_of,
    pieces_of,
    release,
    stored_calls,
    to_write,
)
from callspan.stores.database import Database
from callspan.stores.erased import digests_of, is_erased
from callspan.stores.payloads import PreparedCall, prepared, row_of
from callspan.stores.postgres.connection import (
    REMOVAL_LOCK,
    connect,
    explaining,
    make_tables,
)
from callspan.stores.postgres.database import PostgresDatabase
from callspan.stores.rewards import join, needs_join
from callspan.stores.rows import Row, add_version, merged_row, on_conflict
from callspan.stores.schema import type_of

_BEHIND_ALL: Final = 2**63 - 1
_CALL: Final = "call"
_JSON: Final = ("json", "jsonb")
_POISON: Final = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)


class PostgresStore:
    """A sink with one connection, which `open` replaces after a failure."""

    def __init__(self, url: str) -> None:
        """`url` is a libpq URL; the tables are made where its `search_path` begins."""
        self._url = url
        self.name = safe_name(url)
        self.batch_records = 100
        self._connection: psycopg.Connection | None = None

    def open(self) -> None:
        """Connect and create the tables. Raises psycopg.Error or StoreError."""
        self.close()
        with explaining(self.name):
            connection = connect(self._url)
        connection.adapters.register_loader("json", TextLoader)
        # After waiting for another writer its rows must be visible, so the server's default is overridden.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        with on_error(connection.close), explaining(self.name):
            make_tables(connection, self.name)
        self._connection = connection

    def deliver(self, records: Sequence[Record]) -> None:
        """Store all records in one transaction.

        Raises Rejected if one can never be stored, psycopg.Error for anything else.
        """
        try:
            self._deliver(records)
        except _POISON as error:
            raise Rejected(error_text(error)) from error

    def _deliver(self, records: Sequence[Record]) -> None:
        connection = self._open
        with explaining(self.name), connection.transaction(), connection.cursor() as cursor:
            batch, erased = _Batch(), _erased_of(cursor, records)
            for record in records:
                if not (erased and is_erased(record, erased.get)):
                    batch.add(record)
            database = PostgresDatabase(self.name, connection)
            batch.write(cursor, database)
            join(database, records)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def _open(self) -> psycopg.Connection:
        if self._connection is None or self._connection.broken:
            self.open()
        if self._connection is None:
            raise psycopg.OperationalError("not connected")
        return self._connection


class _Batch:
    """The rows of a batch by table; all writers write them in the same order, which prevents deadlocks."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, tuple[Order, Mapping[str, object]]]] = defaultdict(dict)
        self._calls: dict[str, list[CallRecord]] = defaultdict(list)
        self._versions: dict[str, dict[str, list[Any]]] = defaultdict(dict)

    def add(self, record: Record) -> None:
        kind, key = record_key(record)
        if isinstance(record, CallRecord):
            self._calls[key].append(record)
        elif TABLES[kind].merges:
            add_version(self._versions[kind].setdefault(key, []), record)
        elif key not in self._rows[kind]:
            self._rows[kind][key] = order_of(record), row_of(record)

    def write(self, cursor: psycopg.Cursor, database: Database) -> None:
        there = self._write_calls(cursor, database) if self._calls else {}
        for kind, table in TABLES.items():
            if kind != _CALL:
                found = self._merge(cursor, table) if table.merges else [row for _, row in self._rows[kind].values()]
                _write(cursor, _insert(table), sorted(found, key=itemgetter(table.key)))
        now = stored_calls(database, sorted(there)) if there else {}
        for call_id, before in there.items():
            release(database, before, call_id, now.get(call_id))

    def _write_calls(self, cursor: psycopg.Cursor, database: Database) -> dict[str, StoredCall]:
        """Write the calls and their contents; return the rows that were replaced and had contents."""
        _lock(cursor, self._calls)
        there = stored_calls(database, sorted(self._calls))
        rows: list[_CallRow] = []
        replaced: list[str] = []
        for call_id, versions in self._calls.items():
            before = there.get(call_id)
            record = to_write(before, versions, partial(exact_call, database, call_id))
            if record is None:
                there.pop(call_id, None)
                continue
            if before is not None:
                replaced.append(call_id)
            rows.append(_CallRow(owner_of(call_id, record.place.session_id), prepared(record)))
        _lock(cursor, [row.owner for row in rows if row.is_of_session])
        found = _store_contents(cursor, rows)
        if replaced:
            cursor.execute("DELETE FROM calls WHERE call_id = ANY(%s)", (replaced,))
        _write(cursor, _insert(CALLS), sorted(found, key=itemgetter(CALLS.key)))
        return {call_id: row for call_id, row in there.items() if row.has_contents}

    def _merge(self, cursor: psycopg.Cursor, table: Table) -> list[Mapping[str, object]]:
        """Merge the versions in this batch with the stored rows, which stay locked until the transaction ends."""
        versions = self._versions[table.kind]
        if not versions:
            return []
        # Only existing rows can be locked: of two processes that insert the same key, one waits here for the other.
        sql = (
            f"INSERT INTO {table.name} ({table.key}, seen_ns, schema_v) SELECT unnest(%s::text[]), 0, 1"
            f" ON CONFLICT DO NOTHING RETURNING {table.key}"
        )
        fresh = {row[0] for row in cursor.execute(sql, (sorted(versions),))}
        rows: dict[str, Mapping[str, object] | None] = dict.fromkeys(versions)
        if there := sorted(versions.keys() - fresh):
            sql = f"SELECT * FROM {table.name} WHERE {table.key} = ANY(%s) ORDER BY {table.key} FOR UPDATE"
            names = [column.name for column in cursor.execute(sql, (there,)).description or ()]
            rows |= {row[table.key]: row for row in (dict(zip(names, values, strict=True)) for values in cursor)}
        found: list[Mapping[str, object]] = []
        for key, records in versions.items():
            row = rows[key]
            if row is None and len(records) == 1:
                found.append(row_of(records[0]))
                continue
            for record in records:
                row = merged_row(table, row, record)
            found.append(row or {})
        return found


class _CallRow(NamedTuple):
    owner: str
    call: PreparedCall

    @property
    def is_of_session(self) -> bool:
        return self.owner.startswith("s:")


def _store_contents(cursor: psycopg.Cursor, rows: Sequence[_CallRow]) -> list[Row]:
    """Store the contents of calls that their owners do not have yet; return the rows of the calls."""
    numbers = _numbers(cursor, rows)
    new: list[tuple[str, int, bodies.Piece]] = []
    found: list[Row] = []
    for row in rows:
        added, whole = numbers[row.owner].add(row.call)
        new += ((row.owner, number, part) for number, part in added)
        found.append(whole)
    cells = [(owner, number, part.hash, *bodies.to_row(part)) for owner, number, part in new]
    if cells:
        cursor.execute(_CONTENTS, [*map(list, zip(*cells, strict=True))])
    return found


def _numbers(cursor: psycopg.Cursor, rows: Sequence[_CallRow]) -> dict[str, Numbers]:
    """Return the numbers of the contents of these calls, by owner."""
    known: dict[str, dict[bytes, int]] = {row.owner: {} for row in rows}
    wanted = [*{(row.owner, part.hash) for row in rows for part in pieces_of(row.call)}]
    sql = (
        "SELECT t.owner, t.hash, t.n FROM unnest(%s::text[], %s::bytea[]) AS w(owner, hash)"
        " JOIN contents t ON t.owner = w.owner AND t.hash = w.hash"
    )
    cursor.execute(sql, ([owner for owner, _ in wanted], [found for _, found in wanted]))
    for owner, found, number in cursor:
        known[owner][bytes(found)] = number
    ends = {(owner, lane_end(number)) for owner, by_hash in known.items() for number in by_hash.values() if number > 0}
    ends |= {(owner, _BEHIND_ALL) for owner in known}
    sql = """
        SELECT owner, (SELECT max(n) FROM contents t WHERE t.owner = w.owner AND n < w.lane_end)
          FROM unnest(%s::text[], %s::bigint[]) AS w(owner, lane_end)
        UNION SELECT owner, (SELECT min(n) FROM contents t WHERE t.owner = w.owner) FROM unnest(%s::text[]) AS w(owner)
        ORDER BY 2"""
    cursor.execute(sql.encode(), ([owner for owner, _ in ends], [end for _, end in ends], [*known]))
    some: defaultdict[str, list[int]] = defaultdict(list)
    for owner, number in cursor:
        some[owner] += [] if number is None else [number]
    return {owner: Numbers(by_hash, some[owner]) for owner, by_hash in known.items()}


def _lock(cursor: psycopg.Cursor, names: Iterable[str]) -> None:
    """Have others wait who lock one of these names, until the transaction ends."""
    if found := sorted(set(names)):
        sql = "SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(%s::text[]) name"
        cursor.execute(sql, (found,))


def _erased_of(cursor: psycopg.Cursor, records: Sequence[Record]) -> dict[bytes, int]:
    """Return the erased calls and sessions of a batch, with the time of erasure."""
    # A deletion waits for this transaction, or this one for the deletion, whose ids it then sees.
    # A reward without a session waits for all transactions that may write its target.
    kind = "" if any(map(needs_join, records)) else "_shared"
    cursor.execute(f"SELECT pg_advisory_xact_lock{kind}({REMOVAL_LOCK})".encode())
    if cursor.execute("SELECT EXISTS (SELECT FROM erased)").fetchone() == (False,):
        return {}
    named = list({found for record in records for found in digests_of(record)})
    cursor.execute("SELECT id, time_ns FROM erased WHERE id = ANY(%s)", (named,))
    return {bytes(row[0]): row[1] for row in cursor}


_CONTENTS: Final = """
INSERT INTO contents (owner, n, hash, role, text, data)
SELECT * FROM unnest(%b::text[], %b::bigint[], %b::bytea[], %b::text[], %b::text[], %b::bytea[])"""


def _write(cursor: psycopg.Cursor, sql: bytes, rows: Sequence[Mapping[str, object]]) -> None:
    """Write all rows in one statement, which gets them as JSON: a statement for each costs several times as much."""
    if rows:
        cursor.execute(sql, (msgspec.json.encode(rows).decode(),))


def _statement(table: str, types: Mapping[str, str], conflict: str) -> bytes:
    """Return the statement that inserts rows of these columns, given as JSON."""
    # JSON in JSON is text until it is in its column: its content is not parsed.
    given = ", ".join(f"{name} {'text' if kind in _JSON else kind}" for name, kind in types.items())
    chosen = ", ".join(f"{name}::{kind}" if kind in _JSON else name for name, kind in types.items())
    sql = f"INSERT INTO {table} ({', '.join(types)}) SELECT {chosen} FROM json_to_recordset(%s) AS given({given})"
    return f"{sql} {conflict}".encode()


@cache
def _types(table: Table) -> dict[str, str]:
    """Return the types of the columns of a row, in their order."""
    found = {column.name: type_of("postgres", column.form) for column in table.columns}
    types = dict(zip(REFERENCES, ("bigint", "bigint", "jsonb"), strict=True)) if table is CALLS else {}
    return {name: found.get(name, "json") for name in table.names} | types


@cache
def _insert(table: Table) -> bytes:
    types = _types(table)
    return _statement(table.name, types, on_conflict(table, [*types]))
