"""Postgres: tables in a database that any number of writers may share; the sink that writes them and the reader.

A batch is one transaction, and every row has a key, so that batches may be repeated.
"""

# ruff: noqa: S608 - only our own table and column names are put into SQL; values are parameters

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from operator import itemgetter
from typing import Any, Final

import msgspec
import psycopg
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from callspan.record.call import CallRecord
from callspan.record.events import Record, record_key
from callspan.record.merging import Order, order_of
from callspan.safe_urls import error_text, safe_name
from callspan.spool.destination import Rejected
from callspan.stores import bodies
from callspan.stores.base import EmptyStoreError, StoreError, check_layout, tried
from callspan.stores.columns import REFERENCES, TABLES, Table
from callspan.stores.erased import digests_of, is_erased
from callspan.stores.filters import POSTGRES
from callspan.stores.payloads import Prepared, cells_of, combined, prepared
from callspan.stores.postgres.connection import connect, dropped, explaining, layout, make_tables, to_query
from callspan.stores.rows import add_version, merged_row, on_conflict
from callspan.stores.schema import type_of
from callspan.stores.sql_reader import ExactCalls, SqlReader
from callspan.stores.sql_rewards import Values

_MOMENT_MS: Final = 500
_CALL: Final = "call"
_SMALL_BYTES: Final = 1 << 16
"""Of a content up to this size twice as many bytes, as JSON has them, cost less than a statement of its own."""
_JSON: Final = ("json", "jsonb")
_NUL: Final = "\\u0000"
"""What JSON has instead of the character that Postgres cannot store."""
_KEY: Final = itemgetter(0)
"""The key of a row: the first column of every table."""
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
        try:
            with explaining(self.name, connection):
                make_tables(connection, self.name)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def deliver(self, records: Sequence[Record]) -> None:
        """Store all records in one transaction.

        Raises Rejected if one can never be stored, psycopg.Error for anything else.
        """
        try:
            connection = self._open
            with explaining(self.name, connection), connection.transaction(), connection.cursor() as cursor:
                batch, erased = _Batch(), _erased_of(cursor, records)
                for record in records:
                    if not (erased and is_erased(record, erased.get)):
                        batch.add(record)
                reader = WritersReader(self.name, connection)
                batch.merge_responses(cursor, reader)
                batch.write(cursor)
                batch.merge_levels(cursor, reader)
        except _POISON as error:
            raise Rejected(error_text(error)) from error

    def try_out(self, record: Record) -> str:
        """Store a session and read it back, in a transaction that is rolled back. Raises StoreError, psycopg.Error."""
        batch = _Batch()
        batch.add(record)
        connection = _opened(self._url, self.name)
        rolled_back = connection.transaction(force_rollback=True)
        with closing(connection), explaining(self.name, connection), rolled_back:
            connection.execute(f"SET LOCAL lock_timeout = {_MOMENT_MS}".encode())
            batch.write(connection.cursor())
            found = WritersReader(self.name, connection).session(record_key(record)[1])
        return tried(found=found is not None)

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
        self._contents: dict[bytes, bodies.Piece] = {}
        self._nodes: dict[bytes, tuple[str, str, str, int]] = {}
        self._rows: dict[str, dict[str, tuple[Order, Sequence[object]]]] = defaultdict(dict)
        self._calls: dict[str, CallRecord] = {}
        """The newest version of each call that is not merged."""
        self._versions: dict[str, dict[str, list[Any]]] = defaultdict(dict)
        self._responses: dict[str, list[Record]] = defaultdict(list)

    def add(self, record: Record) -> None:
        kind, key = record_key(record)
        if TABLES[kind].merges:
            key = str(storable(key))
            add_version(self._versions[kind].setdefault(key, []), record)
        elif not isinstance(record, CallRecord):
            self._add(record, partial(cells_of, record))
        elif self._is_merged(key, record):
            self._responses[key].append(record)
        else:
            self._add(record, lambda: self._cells(prepared(record)))

    def _is_merged(self, key: str, record: CallRecord) -> bool:
        """Return whether a version of a call is merged with others: always, or because their levels differ."""
        if key in self._responses:
            return True
        known = self._calls.get(key, record)
        if not record.is_merged and known.content_level == record.content_level:
            self._calls[key] = max(known, record, key=order_of)
            return False
        if key in self._calls:
            self._responses[key].append(known)
            self._rows[_CALL].pop(str(storable(key)), None)
        return True

    def _add(self, record: Record, cells: Callable[[], Sequence[object]]) -> None:
        kind, key = record_key(record)
        key = str(storable(key))
        rows, version = self._rows[kind], order_of(record)
        # One statement may write a row once.
        if key in rows and rows[key][0] >= version:
            return
        rows[key] = version, cells()

    def merge_responses(self, cursor: psycopg.Cursor, reader: ExactCalls) -> None:
        """Merge versions of calls with the rows that are there, locked till the end."""
        for call_id, records in sorted(self._responses.items()):
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (call_id,))
            whole = combined(reader.exact_call(call_id), records)
            if whole is not None:
                cursor.execute("DELETE FROM calls WHERE call_id = %s", (call_id,))
                self._add(whole, partial(self._cells, prepared(whole)))

    def merge_levels(self, cursor: psycopg.Cursor, reader: ExactCalls) -> None:
        """Merge the calls that are there with a level other than that of their version in this batch."""
        sql = "SELECT call_id, content_level FROM calls WHERE call_id = ANY(%s)"
        calls = {str(storable(key)): call for key, call in self._calls.items() if key not in self._responses}
        there = cursor.execute(sql, (sorted(calls),)).fetchall() if calls else []
        again = _Batch()
        for key, level in there:
            if level != calls[key].content_level:
                again._responses[key].append(calls[key])
        if again._responses:
            again.merge_responses(cursor, reader)
            again.write(cursor)

    def write(self, cursor: psycopg.Cursor) -> None:
        parts = sorted(self._contents.values(), key=lambda part: part.hash)
        small = [part for part in parts if len(part.json) <= _SMALL_BYTES]
        _write(cursor, _SMALL_CONTENT, _CONTENT_TYPES, [_content_row(part) for part in small])
        large = [part for part in parts if len(part.json) > _SMALL_BYTES]
        cursor.executemany(_CONTENT, [(part.hash, len(part.json), *bodies.to_row(part)) for part in large])
        _write(cursor, _NODE, _NODE_TYPES, sorted(self._nodes.values()))
        for kind, table in TABLES.items():
            found = self._merge(cursor, table) if table.merges else [row for _, row in self._rows[kind].values()]
            _write(cursor, _insert(table), _types(table), sorted(found, key=_KEY))

    def _merge(self, cursor: psycopg.Cursor, table: Table) -> list[Sequence[object]]:
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
        found: list[Sequence[object]] = []
        for key, records in versions.items():
            row = rows[key]
            if row is None and len(records) == 1:
                found.append(cells_of(records[0]))
                continue
            for record in records:
                row = merged_row(table, row, record)
            found.append(tuple((row or {}).values()))
        return found

    def _cells(self, row: Prepared) -> Sequence[object]:
        """Return the cells of a call, at last the keys of the contents in the order of `REFERENCES`."""
        request = ctx = system = tools = output = None
        if (parts := row.request) is not None:
            for part in (parts.skeleton, *parts.others, *parts.history):
                self._contents.setdefault(part.hash, part)
            request, system, tools = parts.skeleton.hash, parts.system, parts.tools
            ctx = self._chain(parts.history)
        if row.answer is not None:
            self._contents.setdefault(row.answer.hash, row.answer)
            output = row.answer.hash
        return *row.cells, *map(_hex, (request, ctx, system, tools, output))

    def _chain(self, history: Sequence[bodies.Piece]) -> bytes | None:
        node = b""
        for depth, part in enumerate(history):
            parent, node = node, hashlib.sha256(node + part.hash).digest()
            self._nodes[node] = f"\\x{node.hex()}", f"\\x{parent.hex()}", f"\\x{part.hash.hex()}", depth
        return node or None


def _erased_of(cursor: psycopg.Cursor, records: Sequence[Record]) -> dict[bytes, int]:
    """Return what was erased of the calls and sessions of a batch, and when."""
    # A deletion waits for this transaction, or this one for the deletion, whose ids it then sees.
    cursor.execute("LOCK TABLE content IN ROW EXCLUSIVE MODE")
    if cursor.execute("SELECT EXISTS (SELECT FROM erased)").fetchone() == (False,):
        return {}
    named = list({found for record in records for found in digests_of(record)})
    cursor.execute("SELECT id, time_ns FROM erased WHERE id = ANY(%s)", (named,))
    return {bytes(row[0]): row[1] for row in cursor}


_CONTENT: Final = (
    "INSERT INTO content (hash, size, role, text, data) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
_CONTENT_TYPES: Final = {"hash": "bytea", "size": "bigint", "role": "text", "text": "text", "data": "bytea"}
_NODE_TYPES: Final = {"id": "bytea", "parent": "bytea", "content": "bytea", "depth": "int"}


def _hex(data: bytes | None) -> str | None:
    """Return bytes in the form in which JSON has them."""
    return None if data is None else f"\\x{data.hex()}"


def _content_row(part: bodies.Piece) -> Sequence[object]:
    """Return the row of a content in the form in which JSON has it."""
    role, text, left = bodies.to_row(part)
    return _hex(part.hash), len(part.json), role, text, _hex(left)


def _write(cursor: psycopg.Cursor, sql: bytes, names: Iterable[str], rows: Sequence[Sequence[object]]) -> None:
    """Write all rows in one statement, which gets them as JSON: a statement for each costs several times as much."""
    if not rows:
        return
    objects = [{name: cell for name, cell in zip(names, row, strict=True) if cell is not None} for row in rows]
    text = msgspec.json.encode(objects).decode()
    if _NUL in text:
        objects = [{name: storable(cell) for name, cell in one.items()} for one in objects]
        text = msgspec.json.encode(objects).decode()
    cursor.execute(sql, (text,))


def _statement(table: str, types: Mapping[str, str], conflict: str) -> bytes:
    """Return the statement that inserts rows of these columns, given as JSON."""
    # JSON in JSON is text until it is in its column: what is in it is not looked at.
    given = ", ".join(f"{name} {'text' if kind in _JSON else kind}" for name, kind in types.items())
    chosen = ", ".join(f"{name}::{kind}" if kind in _JSON else name for name, kind in types.items())
    sql = f"INSERT INTO {table} ({', '.join(types)}) SELECT {chosen} FROM json_to_recordset(%s) AS given({given})"
    return f"{sql} {conflict}".encode()


_SMALL_CONTENT: Final = _statement("content", _CONTENT_TYPES, "ON CONFLICT DO NOTHING")
_NODE: Final = _statement("ctx", _NODE_TYPES, "ON CONFLICT DO NOTHING")


@cache
def _types(table: Table) -> dict[str, str]:
    """Return the types of the columns of a row, in their order."""
    found = {column.name: type_of("postgres", column.form) for column in table.columns}
    references = dict.fromkeys(REFERENCES, "bytea") if table.kind == "call" else {}
    return {name: found.get(name, "json") for name in table.names} | references


@cache
def _insert(table: Table) -> bytes:
    types = _types(table)
    return _statement(table.name, types, on_conflict(table, [*types]))


def storable(value: object) -> object:
    """Return text without NUL, which Postgres cannot store."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _storable(values: Mapping[str, object]) -> dict[str, object] | None:
    """Return the parameters of a query as values are written; None for none."""
    return {name: storable(value) for name, value in values.items()} or None


def _opened(url: str, name: str, wait_s: float | None = None) -> psycopg.Connection:
    """Return a connection. Raises StoreError if there are no tables, or those of another format."""
    with explaining(name):
        connection = connect(url, wait_s)
    connection.adapters.register_loader("json", TextLoader)
    try:
        check_layout(name, layout(connection))
    except BaseException as error:
        gone = dropped(connection) if isinstance(error, EmptyStoreError) else None
        connection.close()
        if gone is None:
            raise
        raise StoreError(f"{name}: {gone}") from None
    return connection


class PostgresReader(SqlReader):
    """Reads through one read-only connection. Raises StoreError for a database without callspan's tables."""

    _day = "to_char(to_timestamp(c.start_ns / 1000000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    _hour = _day.replace("DD'", 'DD"T"HH24:00Z\'')
    _minute = _hour.replace(":00Z", ":MIZ")
    _contains = "position({part} in replace(lower({text}), 'ß', 'ss')) > 0"
    _percentile = "percentile_cont({share}) WITHIN GROUP (ORDER BY {column})"
    _metadata = POSTGRES
    _cost = """coalesce(c.cost_picousd,
      CAST(floor(CASE WHEN c.cost_usd > 9e6 THEN 9e18 ELSE nullif(c.cost_usd, 'NaN') * 1e12 END) AS bigint))"""
    # A list, because `OR` with a subquery uses no index.
    _in_sessions = "c.session_id = ANY(ARRAY(SELECT s.session_id FROM sessions s WHERE {condition}))"

    def __init__(self, url: str, wait_s: float | None = None) -> None:
        """Connect at once, so that errors show early; `wait_s` is how long that and each query may take."""
        self.name = safe_name(url)
        self._connection = _opened(url, self.name, wait_s)
        self._connection.read_only = True
        # Compiling takes longer than these queries.
        self._connection.execute("SET jit = off")

    def _rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""
        with explaining(self.name, self._connection), self._connection.cursor(row_factory=dict_row) as cursor:
            yield from cursor.execute(to_query(sql), _storable(values))

    def _tuples(self, sql: str, **values: object) -> Iterator[tuple[object, ...]]:
        """Yield the same rows as plain tuples."""
        with explaining(self.name, self._connection), self._connection.cursor() as cursor:
            yield from cursor.execute(to_query(sql), _storable(values))

    def _among(self, column: str) -> str:
        """Return the condition that a column has one of the values of `:among`."""
        return f"{column} = ANY(:among)"

    def version(self) -> str | None:
        """Return a text that differs when something was written since, also elsewhere on the server."""
        return str(next(self._tuples("SELECT CAST(txid_current_snapshot() AS text)"))[0])

    def interrupt(self) -> None:
        """Stop the query that runs, from any thread; it raises psycopg.errors.QueryCanceled."""
        self._connection.cancel()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class WritersReader(PostgresReader, ExactCalls):
    """Reads within a writer's transaction, over its connection."""

    def __init__(self, name: str, connection: psycopg.Connection) -> None:
        self.name, self._connection = name, connection
