"""Connections to Postgres: the version of the tables, their migrations, and the form of queries."""

from __future__ import annotations

import re
from typing import Final

import psycopg

from callspan.stores.base import StoreError
from callspan.stores.columns import LAYOUT
from callspan.stores.schema import statements

_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_][a-z_0-9]*)")
_LOCK: Final = 0x43535031


def migrate(connection: psycopg.Connection) -> None:
    """Bring the tables up to date, one process at a time, all or nothing.

    Raises StoreError for tables of a newer callspan, psycopg.Error for anything else.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        version = layout(connection)
        if version > LAYOUT:
            raise StoreError(f"Postgres: layout {version} of a newer callspan, this one knows {LAYOUT}; upgrade")
        for later in range(version + 1, LAYOUT + 1):
            for statement in statements("postgres", later):
                connection.execute(statement.encode())
        if version < LAYOUT:
            connection.execute("UPDATE callspan_layout SET version = %s", (LAYOUT,))


def layout(connection: psycopg.Connection) -> int:
    """Return the version of the tables; 0 where there are none."""
    there = connection.execute("SELECT to_regclass('callspan_layout') IS NOT NULL").fetchone()
    if there is None or not there[0]:
        return 0
    found = connection.execute("SELECT version FROM callspan_layout").fetchone()
    return int(found[0]) if found else 0


def to_query(sql: str) -> bytes:
    """Return the query with its `:name` parameters as psycopg writes them."""
    return _PARAMETER.sub(r"%(\1)s", sql).encode()
