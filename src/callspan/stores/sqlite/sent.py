"""Sent: what a receiver has, in a SQLite file; a lock file beside it admits one sender to each receiver."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from callspan.file_lock import try_lock
from callspan.stores.sent import BusyError, SentVersions, number_of
from callspan.stores.sqlite.file import explaining, open_as_it_is


class SQLiteSent(SentVersions):
    """In the table of a file that has one."""

    def __init__(self, path: Path, receiver: str) -> None:
        """Raises BusyError while another process sends to the receiver, StoreError, sqlite3.Error or OSError."""
        super().__init__(receiver)
        self._path = path
        lock = path.with_name(f"{path.name}.send-{number_of(receiver) & 0xFFFF_FFFF:08x}.lock")
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not try_lock(self._lock):
                raise BusyError  # noqa: TRY301 - undone below
            with explaining(path):
                self._connection = open_as_it_is(path)[0]
                self._connection.execute("PRAGMA busy_timeout=30000")
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Let another process send."""
        self._connection.close()
        os.close(self._lock)

    def _query(self, sql: str, values: Mapping[str, object]) -> Iterable[tuple[Any, ...]]:
        with explaining(self._path):
            return self._connection.execute(sql, values).fetchall()

    def _write(self, sql: str, rows: Sequence[Mapping[str, int]]) -> None:
        with explaining(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                self._connection.executemany(sql, rows)
