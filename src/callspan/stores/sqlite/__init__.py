"""SQLite: sink, reader, removal and recovery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from callspan.spool.sink import Sink
from callspan.stores.base import DeletionResult, DeletionScope, Keep, Reader
from callspan.stores.protocol import FileStore


class SQLite(FileStore):
    """A SQLite file."""

    example = "sqlite:///calls.db, sqlite:////absolute/calls.db"
    driver_errors = ("sqlite3:Error",)
    reduces = True

    def sink(self) -> Sink:
        """Return the sink, not opened."""
        return cast("Sink", self.load("callspan.stores.sqlite.store:SQLiteStore")(self.path))

    def reader(self, wait_s: float | None = None) -> Reader:
        """Open the file; `wait_s` is how long to wait for the locks of others. Raises StoreError, sqlite3.Error."""
        return cast("Reader", self.load("callspan.stores.sqlite.reader:SQLiteReader")(self.path, wait_s))

    def remove(self, scope: DeletionScope) -> DeletionResult:
        """Delete the records of a scope, in short transactions. Raises StoreError, sqlite3.Error."""
        return cast("DeletionResult", self.load("callspan.stores.sqlite.removal:remove")(self.path, scope))

    def retention(self, keep: Keep, counts: Counter[str]) -> Iterator[None]:
        """Delete what is old or too much, in short transactions. Raises StoreError, sqlite3.Error."""
        return cast("Iterator[None]", self.load("callspan.stores.sqlite.removal:retain")(self.path, keep, counts))

    def files(self) -> Sequence[Path]:
        """Return the file with its write-ahead log."""
        return [self.path.with_name(f"{self.path.name}{end}") for end in ("", "-wal", "-shm")]
