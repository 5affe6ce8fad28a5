"""SQLite: the store, its sink and its database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from callspan.stores.protocol import FileStore, Sink, SqlStore


class SQLite(SqlStore, FileStore):
    """A SQLite file."""

    example = "sqlite:///calls.db, sqlite:////absolute/calls.db"
    sink_type = "callspan.stores.sqlite.store:SQLiteStore"
    database_type = "callspan.stores.sqlite.database:SQLiteDatabase"
    driver_errors = ("sqlite3:Error",)
    closes_before_fork = True

    def sink(self) -> Sink:
        """Return the sink, not opened."""
        return cast("Sink", self.load(self.sink_type)(self.path, syncs=self.syncs))

    def files(self) -> Sequence[Path]:
        """Return the file with its write-ahead log."""
        return [self.path.with_name(f"{self.path.name}{end}") for end in ("", "-wal", "-shm")]
