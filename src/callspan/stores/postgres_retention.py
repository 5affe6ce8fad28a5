"""Deleting from Postgres, all or nothing. Writers wait meanwhile: what they are about to refer to must not go."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from callspan.stores import sql_retention
from callspan.stores.base import StoreError
from callspan.stores.opening import safe_name
from callspan.stores.postgres_reader import to_query
from callspan.stores.postgres_schema import layout
from callspan.stores.retention import Choice, Removed


def remove(url: str, choice: Choice) -> Removed:
    """Delete what was chosen. Raises StoreError where there are no tables, psycopg.Error for anything else."""
    with psycopg.connect(url, application_name="callspan") as connection:
        if layout(connection) == 0:
            raise StoreError(f"{safe_name(url)}: no tables of callspan's yet; nothing was recorded there")

        def run(sql: str, values: Mapping[str, object]) -> psycopg.Cursor:
            return connection.execute(to_query(sql), values or None)

        connection.execute("LOCK TABLE content, ctx IN SHARE ROW EXCLUSIVE MODE")
        dialect = sql_retention.Dialect(run=run, id_type="bytea", content_id="hash", no_parent="''::bytea")
        return sql_retention.remove(dialect, choice)
