"""Connection: how to connect to Postgres; its tables and their version; its errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from callspan.background import on_own_thread
from callspan.record.formats import check_format
from callspan.safe_urls import error_text
from callspan.stores.base import StoreError
from callspan.stores.schema import statements

_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_][a-z_0-9]*)")
_LOCK: Final = 0x43535031
REMOVAL_LOCK: Final = 0x43535032
"""Key of the advisory lock that writers share, and that a deletion takes for itself."""
_CONNECT: Final = {
    "connect_timeout": "10",
    # Detects a dead connection within a minute; the system's defaults take hours.
    "keepalives_idle": "15",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "45000",
}
_ADVICE: Final[dict[type[psycopg.Error], str]] = {
    psycopg.errors.UndefinedTable: "restore it from a backup, or create it: python -m callspan.stores.schema postgres",
    psycopg.errors.InvalidSchemaName: "create the schema of the search_path: CREATE SCHEMA",
    psycopg.errors.DuplicateTable: "name a schema without tables of others: ?options=-csearch_path%3Dmy_schema",
    psycopg.errors.ReadOnlySqlTransaction: "is it a standby, or default_transaction_read_only on?",
    psycopg.errors.InsufficientPrivilege: "grant the right to this user",
    psycopg.errors.LockNotAvailable: "locked by another process; end that one, or wait for it",
    psycopg.errors.DiskFull: "make room on the server's disk",
}
_LOGGERS: Final = (logging.getLogger("psycopg"), logging.getLogger("psycopg.transaction"))
_NO_DATABASE: Final = re.compile(r'database "[^"]*" does not exist')


def _is_of_application(_: logging.LogRecord) -> bool:
    """Return whether a log record is of the application's own connections: callspan warns of outages itself."""
    return not on_own_thread()


def connect(url: str, wait_s: float | None = None) -> psycopg.Connection:
    """Return a connection in autocommit mode; the URL's parameters override the defaults. Raises psycopg.Error.

    `wait_s` is the timeout of the connection, and of each query, in seconds.
    """
    for logger in _LOGGERS:
        logger.addFilter(_is_of_application)  # once: the function is the same
    given = _CONNECT | conninfo_to_dict(url)
    if wait_s is None:
        return _connect(given)
    within_ms = max(1, int(wait_s * 1000))
    connection = _connect(given | {"connect_timeout": str(ceil(wait_s)), "tcp_user_timeout": str(within_ms)})
    connection.execute(f"SET statement_timeout = {within_ms}; SET lock_timeout = {max(1, within_ms // 2)}".encode())
    return connection


def _connect(given: Mapping[str, Any]) -> psycopg.Connection:
    return psycopg.connect(make_conninfo("", **given), autocommit=True, application_name="callspan")


def make_tables(connection: psycopg.Connection, name: str) -> None:
    """Create the tables in one transaction, one process at a time.

    Raises OtherFormatError for tables of another format, psycopg.Error for anything else.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        found = layout(connection)
        if found:
            check_format(name, found)
            return
        for statement in statements("postgres"):
            connection.execute(statement.encode())


def layout(connection: psycopg.Connection) -> int:
    """Return the format of the tables; 0 if there are none."""
    there = connection.execute("SELECT to_regclass('callspan_layout') IS NOT NULL").fetchone()
    if there is None or not there[0]:
        return 0
    found = connection.execute("SELECT version FROM callspan_layout").fetchone()
    return int(found[0]) if found else 0


def to_query(sql: str) -> bytes:
    """Return the query with its `:name` parameters in psycopg's syntax."""
    return _PARAMETER.sub(r"%(\1)s", sql).encode()


@contextmanager
def explaining(name: str) -> Iterator[None]:
    """Context manager that replaces known Postgres errors by a StoreError that says what to do."""
    try:
        yield
    except psycopg.Error as error:
        advice = _advice(error)
        if advice is None:
            raise
        raise StoreError(f"{name}: {advice}") from error


def _advice(error: psycopg.Error) -> str | None:
    message = (error.diag.message_primary or next(iter(error_text(error).splitlines()), "")).strip()
    if no_database := _NO_DATABASE.search(message):
        return f"{no_database[0]}; create it (CREATE DATABASE), or name another one"
    advice = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), None)
    return None if advice is None else f"{message}; {advice}"
