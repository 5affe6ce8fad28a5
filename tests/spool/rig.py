"""Real sinks for the spool's tests: a SQLite file, a text file, and failure modes of both."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from callspan.stores import Entry, PoisonError


class SqliteSink:
    """Stores each payload as a row, once: what is delivered again after a failure changes nothing."""

    batch_entries = 100

    def __init__(self, path: Path, *, pause_s: float = 0.0) -> None:
        self.name = f"sqlite:{path.name}"
        self._path = path
        self._pause_s = pause_s
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE IF NOT EXISTS rows(id TEXT NOT NULL UNIQUE)")
        connection.execute("CREATE TABLE IF NOT EXISTS dead(id TEXT, reason TEXT)")
        self._connection = connection

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def deliver(self, entries: Sequence[Entry]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            rows = [(key_of(entry.payload),) for entry in entries]
            self._db.executemany("INSERT INTO rows VALUES (?) ON CONFLICT DO NOTHING", rows)
            time.sleep(self._pause_s)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def set_aside(self, entry: Entry, reason: str) -> None:
        self._db.execute("INSERT INTO dead VALUES (?, ?)", (key_of(entry.payload), reason))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class FileSink:
    """Appends keys to a text file: a frame delivered twice shows as two lines."""

    batch_entries = 7

    def __init__(self, path: Path, name: str = "file") -> None:
        self.name = name
        self.path = path
        self.opened = 0
        self.batches: list[int] = []

    def open(self) -> None:
        self.opened += 1

    def deliver(self, entries: Sequence[Entry]) -> None:
        self.batches.append(len(entries))
        with self.path.open("a") as file:
            file.writelines(f"{key_of(entry.payload)}\n" for entry in entries)

    def set_aside(self, entry: Entry, reason: str) -> None:
        with self.path.with_suffix(".dead").open("a") as file:
            file.write(f"{key_of(entry.payload)} {reason}\n")

    def close(self) -> None:
        pass

    def keys(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


class DownSink(FileSink):
    """Refuses everything until `up` is set."""

    def __init__(self, path: Path, name: str = "down") -> None:
        super().__init__(path, name)
        self.up = threading.Event()

    def open(self) -> None:
        super().open()
        if not self.up.is_set():
            raise ConnectionRefusedError("nobody listens at postgresql://me:secret@host/db")


class HangingSink(FileSink):
    """Hangs in its delivery until `freed` is set."""

    def __init__(self, path: Path, name: str = "hanging") -> None:
        super().__init__(path, name)
        self.freed = threading.Event()
        self.reached = threading.Event()

    def deliver(self, entries: Sequence[Entry]) -> None:
        self.reached.set()
        self.freed.wait(60)
        super().deliver(entries)


class PickySink(FileSink):
    """Refuses batches that hold a payload it can never store."""

    batch_entries = 64

    def deliver(self, entries: Sequence[Entry]) -> None:
        if any(b"poison" in entry.payload for entry in entries):
            raise PoisonError("holds poison")
        super().deliver(entries)


def key_of(payload: bytes) -> str:
    """Return the id a payload begins with."""
    return payload.partition(b" ")[0].decode()


def record(key: str, size: int = 200) -> bytes:
    """Return a payload that begins with its id."""
    return key.encode().ljust(max(size, len(key) + 1), b" ")


def rows(database: Path, table: str = "rows") -> list[str]:
    """Return the ids in a table of a SqliteSink's file."""
    connection = sqlite3.connect(database, timeout=30)
    try:
        return [row[0] for row in connection.execute(f"SELECT id FROM {table}")]
    finally:
        connection.close()


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait for a condition that another thread or process brings about."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def python(*arguments: str) -> list[str]:
    """Return the command line of a fresh interpreter that knows this module."""
    return [sys.executable, "-W", "ignore::DeprecationWarning", *arguments]
