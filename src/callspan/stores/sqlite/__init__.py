"""SQLite: sink, reader, removal and recovery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from callspan.stores.protocol import DatabaseStore, FileStore


class SQLite(DatabaseStore, FileStore):
    """A SQLite file."""

    example = "sqlite:///calls.db, sqlite:////absolute/calls.db"
    sink_type = "callspan.stores.sqlite.store:SQLiteStore"
    reader_type = "callspan.stores.sqlite.reader:SQLiteReader"
    remover = "callspan.stores.sqlite.removal:remove"
    retainer = "callspan.stores.sqlite.removal:retain"
    sent_type = "callspan.stores.sqlite.sent:SQLiteSent"
    driver_errors = ("sqlite3:Error",)
    reduces = True

    def files(self) -> Sequence[Path]:
        """Return the file with its write-ahead log."""
        return [self.path.with_name(f"{self.path.name}{end}") for end in ("", "-wal", "-shm")]
