"""SQLite: the store and its database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from callspan.stores.protocol import FileStore, SqlStore


class SQLite(SqlStore, FileStore):
    """A SQLite file."""

    example = "sqlite:///calls.db, sqlite:////absolute/calls.db"
    database_type = "callspan.stores.sqlite.database:SQLiteDatabase"
    driver_errors = ("sqlite3:Error",)
    closes_before_fork = True

    def files(self) -> Sequence[Path]:
        """Return the file with its write-ahead log."""
        return [self.path.with_name(f"{self.path.name}{end}") for end in ("", "-wal", "-shm")]
