"""Real sinks for the spool's tests, ways in which they fail, and readers beside those that write."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

from tests.support.waiting import HANG_S, until

from callspan import open_store
from callspan.delivery.leftovers import Leftovers, Result
from callspan.spool import directory as spool_files
from callspan.spool.delivering import Destination
from callspan.spool.directory import Target
from callspan.spool.spool import Spool
from callspan.stores import CallFilter, EmptyStoreError


class SqliteSink(Destination):
    """Stores the id of each record as a row, once: a repeated delivery changes nothing."""

    closes_before_fork: ClassVar[bool] = True

    def __init__(self, path: Path, batch_records: int = 100) -> None:
        self.path, self.batch_records = path, batch_records
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        self._connection = sqlite3.connect(self.path, timeout=HANG_S, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS rows(id TEXT NOT NULL UNIQUE)")

    def deliver(self, payloads: Sequence[bytes]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            ids = [(key_of(payload),) for payload in payloads]
            self._connection.executemany("INSERT INTO rows VALUES (?) ON CONFLICT DO NOTHING", ids)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class FileSink(Destination):
    """Appends ids to a text file: a record that is delivered twice is two lines."""

    def __init__(self, path: Path, batch_records: int = 7) -> None:
        self.path, self.batch_records = path, batch_records

    def deliver(self, payloads: Sequence[bytes]) -> None:
        data = "".join(f"{key_of(payload)}\n" for payload in payloads).encode()
        with self.path.open("ab", buffering=0) as file:
            file.write(data)

    def close(self) -> None:
        pass

    def keys(self) -> list[str]:
        return self.path.read_text().split() if self.path.exists() else []

    def has(self, key: str) -> bool:
        return key in self.keys()


class DownSink(FileSink):
    """Refuses to open until `up` is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.up = threading.Event()

    def open(self) -> None:
        if not self.up.is_set():
            raise ConnectionRefusedError("nobody listens at postgresql://me:secret@host/db")


class HangingSink(FileSink):
    """Hangs in its delivery until `freed` is set."""

    closes_before_fork: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.freed, self.reached = threading.Event(), threading.Event()

    def deliver(self, payloads: Sequence[bytes]) -> None:
        self.reached.set()
        self.freed.wait(HANG_S)
        super().deliver(payloads)


def free(*sinks: FileSink) -> None:
    """Let those that hang go on: each of their threads would delay the forks of later tests."""
    for one in sinks:
        if isinstance(one, HangingSink):
            one.freed.set()


def key_of(payload: bytes) -> str:
    """Return the id that a record begins with."""
    return payload.partition(b" ")[0].decode()


def record(key: str, size: int = 200) -> bytes:
    """Return a record that begins with its id."""
    return key.encode() + b" " + b"x" * max(0, size - len(key) - 1)


def spool_of(root: Path, max_bytes: int = 1 << 30, fallback: Sequence[Path] = (), **sinks: Destination) -> Spool:
    made = {target(name): partial(_same, sink) for name, sink in sinks.items()}
    return Spool([root, *fallback], made, max_bytes=max_bytes)


def target(name: str) -> Target:
    return Target(f"x://{name}", f"x://{name}")


def listing(root: Path, store: Target) -> list[Path]:
    """Return the directories below a root that list a store."""
    return [one for one in spool_files.directories_in([root]) if store.key(root) in spool_files.keys_of(one)]


def in_child(work: Callable[[], object], status: int = 0) -> None:
    """Do the work in a forked child, where it must give what is true, or end the child with this status."""
    child = os.fork()
    if not child:
        good: object = False
        try:
            good = work()
        finally:
            os._exit(not good)
    assert os.waitpid(child, 0)[1] == status


def deliver_left(root: Path, name: str, sink: Destination) -> Result:
    """Deliver what ended processes have left below a root for the store of this name."""
    store = target(name)
    return Leftovers(store, sink, HANG_S).deliver(spool_files.left_segments_in(listing(root, store)))


def until_left(root: Path) -> None:
    """Wait until no process holds a segment below a root: one that was killed does so until it has ended."""
    directories = list(root.iterdir())
    segments = [path for directory in directories for path in spool_files.segments_in(directory)]
    until(lambda: spool_files.left_segments_in(directories) == segments)


def _same(sink: Destination) -> Destination:
    return sink


def rows(database: Path) -> list[str]:
    if not database.exists():
        return []
    with closing(sqlite3.connect(database, timeout=HANG_S)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM rows")]


_PAUSE_S = 0.02
_OTHER = f"""
import pathlib, select, sqlite3, sys
path = pathlib.Path(sys.argv[1])
while not select.select([sys.stdin], [], [], {_PAUSE_S})[0]:
    if path.exists():
        connection = sqlite3.connect(path, timeout={HANG_S})
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        connection.close()
"""


@contextmanager
def coming_and_going(path: Path) -> Iterator[None]:
    """Open, read and close the file all the time while the block runs; errors of reading fail the test."""
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(_PAUSE_S):
            with suppress(EmptyStoreError), closing(open_store(path)) as reader:
                list(reader.calls(CallFilter(limit=3)))

    other = subprocess.Popen([sys.executable, "-c", _OTHER, str(path)], stdin=subprocess.PIPE)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            yield
        finally:
            stop.set()
            other.communicate(timeout=HANG_S)
        reading.result()
    assert other.returncode == 0
