"""Sink for Postgres: tables that any number of writers may share."""

# ruff: noqa: S608 - only our own table and column names are put into SQL; values are parameters

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final, cast

import msgspec
import psycopg

from callspan.record.events import Record
from callspan.safe_urls import safe_name
from callspan.stores import bodies
from callspan.stores.columns import CALLS, REFERENCES, Table
from callspan.stores.contents import Numbers, lane_end, pieces_of
from callspan.stores.payloads import PreparedCall
from callspan.stores.postgres.database import REMOVAL_LOCK, PostgresDatabase, explaining
from callspan.stores.rewards import needs_join
from callspan.stores.rows import Row
from callspan.stores.schema import type_of
from callspan.stores.writer import NewContent, SqlSink

_BEHIND_ALL: Final = 2**63 - 1
_JSON: Final = ("json", "jsonb")
_CONTENTS: Final = """
INSERT INTO contents (owner, n, hash, role, text, data)
SELECT * FROM unnest(%b::text[], %b::bigint[], %b::bytea[], %b::text[], %b::text[], %b::bytea[])"""


class PostgresStore(SqlSink[PostgresDatabase]):
    """A sink for the tables of a database, created in the first schema of the `search_path`."""

    rejects = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)

    def __init__(self, url: str) -> None:
        """`url` is a libpq URL."""
        self._url = url
        self.name = safe_name(url)

    def open(self) -> None:
        """Connect and create the tables. Raises psycopg.Error or StoreError."""
        self.close()
        self._database = PostgresDatabase.open(self._url, writes=True, creates=True)

    def deliver(self, records: Sequence[Record]) -> None:
        """Store all records in one transaction, over a new connection if the last one broke."""
        if self._database is not None and self._database.connection.broken:
            self.close()
        super().deliver(records)

    def _deliver(self, records: Sequence[Record]) -> None:
        database = cast("PostgresDatabase", self._database)
        with explaining(self.name), database.transaction():
            # Deletions and deliveries exclude each other, so that a delivery sees the erased ids.
            # A reward without a session also excludes other deliveries, which may write its target.
            kind = "" if any(map(needs_join, records)) else "_shared"
            database.run(f"SELECT pg_advisory_xact_lock{kind}({REMOVAL_LOCK})")
            self._write(database, records)

    def _lock(self, database: PostgresDatabase, names: Iterable[str]) -> None:
        if found := sorted(set(names)):
            sql = "SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(%s::text[]) name"
            database.connection.execute(sql, (found,))

    def _numbers(self, database: PostgresDatabase, rows: Sequence[PreparedCall]) -> Mapping[str, Numbers]:
        cursor = database.connection.cursor()
        known: dict[str, dict[bytes, int]] = {row.owner: {} for row in rows}
        wanted = [*{(row.owner, part.hash) for row in rows for part in pieces_of(row)}]
        sql = (
            "SELECT t.owner, t.hash, t.n FROM unnest(%s::text[], %s::bytea[]) AS w(owner, hash)"
            " JOIN contents t ON t.owner = w.owner AND t.hash = w.hash"
        )
        cursor.execute(sql, ([owner for owner, _ in wanted], [found for _, found in wanted]))
        for owner, found, number in cursor:
            known[owner][bytes(found)] = number
        ends = {(owner, lane_end(n)) for owner, by_hash in known.items() for n in by_hash.values() if n > 0}
        ends |= {(owner, _BEHIND_ALL) for owner in known}
        sql = """
            SELECT owner, (SELECT max(n) FROM contents t WHERE t.owner = w.owner AND n < w.lane_end)
              FROM unnest(%s::text[], %s::bigint[]) AS w(owner, lane_end)
            UNION SELECT owner, (SELECT min(n) FROM contents t WHERE t.owner = w.owner)
              FROM unnest(%s::text[]) AS w(owner)
            ORDER BY 2"""
        cursor.execute(sql.encode(), ([owner for owner, _ in ends], [end for _, end in ends], [*known]))
        some: defaultdict[str, list[int]] = defaultdict(list)
        for owner, number in cursor:
            some[owner] += [] if number is None else [number]
        return {owner: Numbers(by_hash, some[owner]) for owner, by_hash in known.items()}

    def _add_contents(self, database: PostgresDatabase, new: Sequence[NewContent]) -> None:
        cells = [(owner, number, part.hash, *bodies.to_row(part)) for owner, number, part in new]
        if cells:
            database.connection.execute(_CONTENTS, [*map(list, zip(*cells, strict=True))])

    def _insert(self, database: PostgresDatabase, table: Table, rows: Sequence[Row]) -> None:
        """Insert all rows, as JSON, by one statement. One statement per row costs several times as much."""
        if rows:
            database.connection.execute(_statement(table), (msgspec.json.encode(rows).decode(),))


@cache
def _statement(table: Table) -> bytes:
    """Return the statement that inserts rows given as JSON."""
    found = {column.name: type_of("postgres", column.form) for column in table.columns}
    references = dict(zip(REFERENCES, ("bigint", "bigint", "jsonb"), strict=True)) if table is CALLS else {}
    types = {name: found.get(name, "json") for name in table.names} | references
    # JSON columns are passed as text within the JSON, so that they are not parsed twice.
    given = ", ".join(f"{name} {'text' if kind in _JSON else kind}" for name, kind in types.items())
    chosen = ", ".join(f"{name}::{kind}" if kind in _JSON else name for name, kind in types.items())
    sql = f"INSERT INTO {table.name} ({', '.join(types)}) SELECT {chosen} FROM json_to_recordset(%s) AS given({given})"
    return f"{sql} ON CONFLICT DO NOTHING".encode()
