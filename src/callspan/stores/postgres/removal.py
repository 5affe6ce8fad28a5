"""Removal from Postgres: transactions during which writers wait."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

import psycopg
from psycopg.types.string import TextLoader

from callspan.safe_urls import safe_name
from callspan.stores.base import check_layout
from callspan.stores.postgres.connection import REMOVAL_LOCK, connect, explaining, layout, to_query
from callspan.stores.postgres.store import WritersReader, storable

_NO_WRITER: Final = f"SELECT pg_advisory_xact_lock({REMOVAL_LOCK})"
"""Waits for the writers, who take the same lock shared before anything else, and for other removals."""


class PostgresDatabase:
    """The database of `callspan.stores.removal`. Raises StoreError if there are no tables, else psycopg.Error."""

    def __init__(self, url: str) -> None:
        """Connect."""
        self._name = safe_name(url)
        with explaining(self._name):
            self._connection = connect(url)
        try:
            check_layout(self._name, layout(self._connection))
        except BaseException:
            self._connection.close()
            raise
        self._connection.adapters.register_loader("json", TextLoader)
        # After waiting for a writer its rows must be visible.
        self._connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        self.reader = WritersReader(self._name, self._connection)

    def run(self, sql: str, values: Mapping[str, object] = {}) -> psycopg.Cursor:
        """Run a statement."""
        given = {name: storable(one) for name, one in values.items()} or None
        with explaining(self._name, self._connection):
            return self._connection.execute(to_query(sql), given)

    def add(self, sql: str, rows: Collection[tuple[object, ...]]) -> None:
        """Run a statement for all rows."""
        stored = [tuple(map(storable, row)) for row in rows]
        with explaining(self._name, self._connection), self._connection.cursor() as cursor:
            cursor.executemany(sql.replace("?", "%s").encode(), cast("Any", stored))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the block's writes, or roll them back. Writers wait meanwhile."""
        with self._connection.transaction():
            self.run(_NO_WRITER)
            yield

    def finish(self, *, vacuum: bool = False) -> None:
        """Do nothing: the server gives the space back."""
        del vacuum

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
