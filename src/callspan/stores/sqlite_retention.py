"""Deleting from a SQLite file, all or nothing, while others may read it."""

from __future__ import annotations

from pathlib import Path

from callspan.stores import sql_retention
from callspan.stores.base import StoreError
from callspan.stores.retention import Choice, Removed
from callspan.stores.sqlite_file import open_for_writing
from callspan.stores.sqlite_sums import sum_up


def remove(path: Path, choice: Choice) -> Removed:
    """Delete what was chosen. Raises StoreError where there is no store at `path`, sqlite3.Error for anything else."""
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file; nothing was recorded there yet")
    connection = open_for_writing(path)
    dialect = sql_retention.Dialect(
        run=connection.execute, id_type="INTEGER", content_id="id", no_parent="0", lends=True
    )
    try:
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            removed = sql_retention.remove(dialect, choice)
            sum_up(connection)
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    finally:
        connection.close()
    return removed
