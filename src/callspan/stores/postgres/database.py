"""Database in Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from callspan.safe_urls import safe_name
from callspan.stores.base import check_layout, on_error
from callspan.stores.database import NO_VALUES, Dialect, Values, bound
from callspan.stores.postgres.connection import (
    REMOVAL_LOCK,
    connect,
    explaining,
    layout,
    make_tables,
    to_query,
)

_NO_WRITER: Final = f"SELECT pg_advisory_xact_lock({REMOVAL_LOCK})"
"""Waits for the writers, who take the same lock shared before anything else, and for other removals."""
_DAY: Final = "to_char(to_timestamp(c.start_ns / 1000000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
_HOUR: Final = _DAY.replace("DD'", 'DD"T"HH24:00Z\'')
POSTGRES: Final = Dialect(
    day=_DAY,
    hour=_HOUR,
    minute=_HOUR.replace(":00Z", ":MIZ"),
    cost="""coalesce(c.cost_picousd,
      CAST(floor(CASE WHEN c.cost_usd > 9e6 THEN 9e18 ELSE nullif(c.cost_usd, 'NaN') * 1e12 END) AS bigint))""",
    array="json_agg({values})",
    items="SELECT json_array_elements_text(CAST(:items AS json))",
    # As Python's `casefold`, whatever the collation of the database.
    contains="""position({part} in
      replace(replace(lower({text} COLLATE "und-x-icu"), 'ß', 'ss'),
        '\N{GREEK SMALL LETTER FINAL SIGMA}', '\N{GREEK SMALL LETTER SIGMA}')) > 0""",
    # A list, because `OR` with a subquery uses no index.
    in_sessions="c.session_id = ANY(ARRAY(SELECT s.session_id FROM sessions s WHERE {condition}))",
    # From the texts to their calls: a condition on each call would search the texts anew for each.
    has_message="""c.call_id IN (
  WITH hit AS MATERIALIZED (
    SELECT t.owner, array_agg(t.n) AS numbers FROM contents t WHERE t.role IS NOT NULL AND {contains} GROUP BY t.owner)
  SELECT substr(owner, 3) FROM hit WHERE owner >= 'c:' AND owner < 'c;'
  UNION ALL SELECT k.call_id FROM hit h JOIN calls k ON k.session_id = substr(h.owner, 3) AND h.owner >= 's:'
   WHERE EXISTS (SELECT FROM jsonb_array_elements(k.contents) r, unnest(h.numbers) i
                  WHERE i BETWEEN (r ->> 1)::bigint AND (r ->> 2)::bigint))""",
    is_deflated=False,
    at="nullif(({json} -> {path}::text)::text, 'null')",
    step="::text -> ",
    first="coalesce({values})::json",
    label="CASE json_typeof(@) WHEN 'object' THEN NULL ELSE @ #>> ARRAY[]::text[] END",
    has="""CASE json_typeof(@) WHEN 'object' THEN false
  WHEN 'array' THEN EXISTS (SELECT 1 FROM json_array_elements(@) e WHERE e #>> ARRAY[]::text[] = {value})
  ELSE @ #>> ARRAY[]::text[] = {value} END""",
)


class PostgresDatabase:
    """The `Database` of a server, over a connection of `callspan.stores.postgres.connection`."""

    dialect = POSTGRES

    remedy = "restore it from a backup"

    def __init__(self, name: str, connection: psycopg.Connection) -> None:
        """The connection is closed with this."""
        self.name, self.connection = name, connection

    @classmethod
    def open(
        cls, url: str, *, writes: bool = False, creates: bool = False, wait_s: float | None = None
    ) -> PostgresDatabase:
        """Connect; `creates`: create missing tables. `wait_s`: how long that and each query may take.

        Raises StoreError for a database without callspan's tables, else psycopg.Error.
        """
        name = safe_name(url)
        with explaining(name):
            connection = connect(url, wait_s)
        with on_error(connection.close), explaining(name):
            connection.adapters.register_loader("json", TextLoader)
            if writes:
                # After waiting for a writer its rows must be visible.
                connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            else:
                connection.read_only = True
            if creates:
                make_tables(connection, name)
            check_layout(name, layout(connection))
            # Compiling takes longer than these queries.
            connection.execute("SET jit = off")
        return cls(name, connection)

    def rows(self, sql: str, values: Values = NO_VALUES) -> Iterator[Values]:
        """Yield the rows of a query."""
        with explaining(self.name), self.connection.cursor(row_factory=dict_row) as cursor:
            yield from cursor.execute(to_query(sql), bound(values) or None)

    def tuples(self, sql: str, values: Values = NO_VALUES) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query as plain tuples."""
        with explaining(self.name), self.connection.cursor() as cursor:
            yield from cursor.execute(to_query(sql), bound(values) or None)

    def run(self, sql: str, values: Values = NO_VALUES) -> int:
        """Run a statement; return the number of rows that it changed."""
        with explaining(self.name):
            return self.connection.execute(to_query(sql), bound(values) or None).rowcount

    def many(self, sql: str, rows: Iterable[Values]) -> None:
        """Run a statement for each of these values."""
        with explaining(self.name), self.connection.cursor() as cursor:
            cursor.executemany(to_query(sql), [*map(bound, rows)])

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[None]:
        """Commit the block's writes, or roll them back. `alone`: those who deliver wait meanwhile."""
        with self.connection.transaction():
            if alone:
                self.run(_NO_WRITER)
            yield

    def try_lock(self, name: str) -> bool:
        """Take an advisory lock until the connection is closed; return False if another process has it."""
        sql = "SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"
        return bool(next(self.tuples(sql, {"name": name}))[0])

    def version(self) -> str:
        """Return a text that differs when something was written since, also elsewhere on the server."""
        return str(next(self.tuples("SELECT CAST(txid_current_snapshot() AS text)"))[0])

    def finish(self, *, vacuum: bool = False) -> None:
        """Do nothing: the server gives the space back."""
        del vacuum

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
