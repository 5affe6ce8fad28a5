"""Reader of Postgres, while others write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import psycopg
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from callspan.stores.base import EmptyStoreError
from callspan.stores.postgres.connection import layout, to_query
from callspan.stores.sql_reader import Latencies, SqlReader, Values
from callspan.stores.urls import safe_name


class PostgresReader(SqlReader):
    """One read-only connection; a database without callspan's tables is a StoreError."""

    day = "to_char(to_timestamp(c.start_ns / 1000000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    contains = "position(:text in replace(lower(t.text), 'ß', 'ss')) > 0"

    def __init__(self, url: str) -> None:
        """Connect at once, so that errors show early."""
        self.name = safe_name(url)
        self._connection = psycopg.connect(url, autocommit=True, application_name="callspan")
        self._connection.read_only = True
        self._connection.adapters.register_loader("json", TextLoader)
        self.layout = layout(self._connection)
        if self.layout == 0:
            self._connection.close()
            raise EmptyStoreError(f"{self.name}: no tables of callspan's yet; nothing was recorded there")

    def rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""
        with self._connection.cursor(row_factory=dict_row) as cursor:
            yield from cursor.execute(to_query(sql), values or None)

    def tuples(self, sql: str, **values: object) -> Iterator[tuple[object, ...]]:
        """Yield the same rows as plain tuples."""
        with self._connection.cursor() as cursor:
            yield from cursor.execute(to_query(sql), values or None)

    def latencies(self, key: str, where: str, values: Values) -> Mapping[object, Latencies]:
        """Return the percentiles of the calls that succeeded, by group, computed by the server."""
        sql = f"""
            SELECT {key}, percentile_cont(0.5) WITHIN GROUP (ORDER BY c.duration_ns) / 1e6,
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY c.duration_ns) / 1e6,
                   percentile_cont(0.5) WITHIN GROUP (ORDER BY c.ttft_ns) / 1e6
              FROM calls c WHERE {where} AND c.outcome = 'success' GROUP BY 1"""  # noqa: S608
        return {row[0]: Latencies(*row[1:]) for row in self.tuples(sql, **values)}  # type: ignore[arg-type]

    def page(self, limit: int, offset: int) -> str:
        """Return the clause that takes `limit` rows (-1: all) after `offset`."""
        return super().page(limit, offset) if limit >= 0 else f"OFFSET {int(offset)}"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
