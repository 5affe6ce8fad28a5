"""Removal from a SQLite file: in short transactions, so that writers in other processes go on meanwhile.

What calls refer to is marked in parts, without a lock. Before each batch of the rest is deleted, what the calls that
others have written since refer to is marked too.
"""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from callspan.stores.base import REWARDED, DeletionResult, DeletionScope, Keep, no_file
from callspan.stores.bodies import inflated
from callspan.stores.columns import REFERENCES, TABLES
from callspan.stores.erased import digests, names
from callspan.stores.retention import ABOUT_CALLS, CHILDREN, LIVE_CHAINS, LIVE_CONTENT, OLD, SKELETONS, referred
from callspan.stores.sql_retention import STEP_S, SqlRetention
from callspan.stores.sqlite.file import BUSY_MS, explaining, open_for_writing
from callspan.stores.sqlite.reader import WritersReader

_T = TypeVar("_T")

_SESSIONS: Final = "sessions"
_KEYS: Final = {table.name: table.key for table in TABLES.values()}
_TRIES: Final = 100
"""How often the WAL is tried to be emptied after a retention, once in a slice."""
_BATCH_S: Final = 0.1
"""How long a transaction is to take; writers then have as long before the next."""
_READERS_S: Final = 3.0
"""How long to wait for readers, which keep the WAL from being emptied."""
_AGAIN_S: Final = 0.005
"""SQLite itself tries again so seldom that it misses the pauses of a writer that goes on all the time."""
_HELD: Final = (
    "{path}-wal still holds what was deleted: another process reads it; SQLite empties it when the last process closes"
    " the file, or once that one has ended: sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'"
)
_LEAST, _FIRST, _MOST = 10, 100, 20_000
"""Rows of a batch: the fewest, those of the first, and the most."""
_TABLES: Final = {
    **dict.fromkeys(("seen", "new_calls"), f"(id INTEGER PRIMARY KEY, call_id, {', '.join(REFERENCES)})"),
    **dict.fromkeys(("live_ctx", "live", "started", "new_ctx", "new_content"), "(id INTEGER PRIMARY KEY)"),
}
"""Temporary tables of a sweep."""
_NEW_CALLS: Final = (
    f"INSERT INTO new_calls SELECT r.id, r.call_id, {', '.join(f'r.{name}' for name in REFERENCES)} FROM calls r"
)
_SIZES: Final = ("page_count", "freelist_count", "page_size")
_STARTED: Final = """
INSERT OR IGNORE INTO started
SELECT id FROM calls WHERE id IN (SELECT id FROM new_calls) AND part IN ('started', 'requested')
"""
_FROM_THE_TOP: Final = f"""
SELECT r.id, s.call_id IS r.call_id AND {" AND ".join(f"s.{name} IS r.{name}" for name in REFERENCES)}
  FROM calls r LEFT JOIN seen s ON s.id = r.id WHERE r.id <= ? ORDER BY r.id DESC
"""
"""Rows that were marked, and whether they are the same. A version that is merged into a call may leave it its id."""
_SWEPT: Final = {"ctx": "live_ctx", "content": "live"}
"""Tables of what calls refer to, and of what of them is referred to."""


def remove(path: Path, scope: DeletionScope) -> DeletionResult:
    """Delete the chosen records. Raises StoreError if there is no store at `path`, sqlite3.Error for anything else."""
    if not path.is_file():
        raise no_file(path)
    connection = open_for_writing(path)
    try:
        with explaining(path):
            return _Removal(connection, path).remove(scope)
    finally:
        connection.close()


def retain(path: Path, keep: Keep, counts: Counter[str]) -> Iterator[None]:
    """Delete what is old or too much, in steps. Raises sqlite3.Error."""
    if not path.is_file():
        return
    connection = open_for_writing(path)
    try:
        connection.execute("PRAGMA busy_timeout=0")
        removal = _Removal(connection, path, STEP_S)
        with explaining(path):
            yield from SqlRetention(removal, keep, counts).steps()
            for _ in range(_TRIES if connection.total_changes else 0):
                if not removal.is_log_busy():
                    break
                yield
    finally:
        connection.close()


class _Removal:
    """One deletion, on a connection of its own."""

    row = "rowid"
    among = "IN (SELECT value FROM json_each(:keys))"
    lock = ""
    first = _FIRST

    def __init__(self, connection: sqlite3.Connection, path: Path, step_s: float = _BATCH_S) -> None:
        self._path = path
        self._connection = connection
        self._run = connection.execute
        self.size = _FIRST
        self._step_s = step_s
        self._marked = 0
        """Id up to which calls are marked."""
        self._data_version: object = None

    @property
    def reader(self) -> WritersReader:
        """Return a reader over the same connection."""
        return WritersReader(self._path, self._connection)

    def many(self, keys: Sequence[str]) -> str:
        """Return the value of `:keys`."""
        return json.dumps(keys)

    def run(self, sql: str, values: Mapping[str, Any]) -> sqlite3.Cursor:
        """Run a statement."""
        return self._run(sql, values)

    def used_bytes(self) -> int:
        """Return the bytes of the file that are in use."""
        pages, free, size = (self._run(f"PRAGMA {name}").fetchone()[0] for name in _SIZES)
        return int((pages - free) * size)

    def write(self, work: Callable[[], _T]) -> Generator[None, None, _T]:
        """Do work in a transaction and yield; yield also while another process writes."""
        while not self._begun():
            yield
        started = time.monotonic()
        with self._connection:
            result = work()
        self._resize(time.monotonic() - started)
        yield
        return result

    def _begun(self) -> bool:
        try:
            self._run("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return False
        return True

    def remove(self, scope: DeletionScope) -> DeletionResult:
        """Delete the chosen records and what only they referred to."""
        counts = dict.fromkeys((_SESSIONS, *CHILDREN), 0)
        if scope.older_than_ns is not None:
            self._old(scope.older_than_ns, counts)
        else:
            self._chosen(scope, counts)
        contents = self._swept()
        left = self._empty_log() if scope.older_than_ns is None else None
        self._run("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        (free,) = self._run("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size").fetchone()
        numbers: dict[str, Any] = {**counts}
        return DeletionResult(**numbers, contents=contents, free_bytes=int(free), left=left)

    def _chosen(self, scope: DeletionScope, counts: dict[str, int]) -> None:
        """Delete each session completely, then the calls and what is about them; first remember their ids."""
        with self._transaction():
            remembered = [(found, scope.erased_ns) for found in digests(scope)]
            self._connection.executemany("INSERT OR REPLACE INTO erased (id, time_ns) VALUES (?, ?)", remembered)
            rejected = [key for key, frame in self._run("SELECT key, frame FROM dead_letter") if names(frame, scope)]
            self._connection.executemany("DELETE FROM dead_letter WHERE key = ?", [(key,) for key in rejected])
        for batch in self._batches(sorted(scope.sessions)):
            for session_id in batch:
                self._session(session_id, counts)
        self._delete("calls", sorted(scope.calls), counts)
        # Not as JSON, in which SQLite ends a text at a NUL.
        for name, ids in (("chosen", scope.calls), ("targets", scope.targets)):
            self._run(f"CREATE TEMP TABLE {name} (id TEXT PRIMARY KEY) WITHOUT ROWID")
            self._connection.executemany(f"INSERT INTO {name} VALUES (?)", [(found,) for found in ids])
        for table in ABOUT_CALLS:
            self._delete(table, self._keys(table, "call_id IN (SELECT id FROM chosen)"), counts)
        of_targets = " OR ".join(f"{column} IN (SELECT id FROM targets)" for column in REWARDED)
        self._delete("rewards", self._keys("rewards", of_targets), counts)

    def _delete(self, table: str, keys: list[str], counts: dict[str, int], condition: str = "", value: int = 0) -> None:
        """Delete rows by their keys, if a condition still holds."""
        sql = f"DELETE FROM {table} WHERE {_KEYS[table]} = :key {condition}"
        for batch in self._batches(keys):
            for key in batch:
                counts[table] += self._run(sql, {"key": key, "value": value}).rowcount

    def _session(self, session_id: str, counts: dict[str, int]) -> None:
        for table in (*CHILDREN, _SESSIONS):
            sql = f"DELETE FROM {table} WHERE session_id = ?"
            counts[table] += self._run(sql, (session_id,)).rowcount

    def _old(self, before_ns: int, counts: dict[str, int]) -> None:
        """Delete each old session completely, then other old records."""
        still = f"SELECT 1 FROM sessions WHERE session_id = :key AND {OLD[_SESSIONS]}"
        for batch in self._batches(self._keys(_SESSIONS, OLD[_SESSIONS], value=before_ns)):
            for session_id in batch:
                # One that has gone on meanwhile stays.
                if self._run(still, {"key": session_id, "value": before_ns}).fetchone():
                    self._session(session_id, counts)
        for table in CHILDREN:
            self._delete(table, self._keys(table, OLD[table], value=before_ns), counts, f"AND {OLD[table]}", before_ns)

    def _keys(self, table: str, condition: str, **values: object) -> list[str]:
        sql = f"SELECT {_KEYS[table]} FROM {table} WHERE {condition}"
        return [str(row[0]) for row in self._run(sql, values)]

    def _batches(self, keys: Sequence[str]) -> Iterator[Sequence[str]]:
        """Yield the keys in batches, each within one transaction."""
        start = 0
        while start < len(keys):
            with self._transaction():
                batch = keys[start : start + self.size]
                start += len(batch)
                yield batch

    def _empty_log(self) -> str | None:
        """Move the WAL into the file and empty it; return who hinders that, None if it is empty."""
        self._run("PRAGMA busy_timeout=0")
        deadline = time.monotonic() + _READERS_S
        while (busy := self.is_log_busy()) and time.monotonic() < deadline:
            time.sleep(_AGAIN_S)
        self._run(f"PRAGMA busy_timeout={BUSY_MS}")
        return _HELD.format(path=self._path) if busy else None

    def is_log_busy(self) -> bool:
        """Move the WAL into the file and empty it; return whether another connection prevents that."""
        return bool(self._run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

    def _swept(self) -> int:
        """Delete every chain node and content that no call reaches; return the number of contents."""
        counts = Counter[str]()
        started = time.monotonic()
        for _ in self.sweep(counts):
            time.sleep(min(time.monotonic() - started, _BATCH_S))
            started = time.monotonic()
        return counts["contents"]

    def sweep(self, counts: Counter[str]) -> Iterator[None]:
        """Delete, in steps, every chain node and content that no call reaches."""
        for name, columns in _TABLES.items():
            self._run(f"DROP TABLE IF EXISTS temp.{name}")
            self._run(f"CREATE TEMP TABLE {name} {columns}")
        self._marked, self._data_version = 0, None
        # What is added from now on belongs to calls from now on.
        newest = {table: self._newest(table) for table in ("calls", *_SWEPT)}
        while self._marked < newest["calls"]:
            values = {"above": self._marked, "to": self._marked + self.size}
            self._run("BEGIN")
            with self._connection:
                self._mark("r.id > :above AND r.id <= :to", values)
            self._marked = values["to"]
            yield
        for table, live in _SWEPT.items():
            sql = f"DELETE FROM {table} WHERE id > :above AND id <= :to AND id NOT IN {live}"
            to = newest[table]
            # Newest first, so that no row refers to a deleted one in between.
            while to > 0:
                above = to - self.size
                work = partial(self._run_marked, sql, {"above": above, "to": to}, counts, f"{table}s")
                yield from self.write(work)
                to = above

    def _newest(self, table: str) -> int:
        return int(self._run(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0])

    def _run_marked(self, sql: str, values: dict[str, int], counts: Counter[str], name: str) -> None:
        """Delete within a transaction, after what calls refer to that were written since is marked."""
        version = self._run("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._data_version = version
            self._mark_changed()
        counts[name] += self._run(sql, values).rowcount

    def _mark_changed(self) -> None:
        """Mark what calls refer to that were added or changed since they were marked.

        A row changes in place only where it had no end yet. An id is given again only if all above it are gone: then
        the marked row of the highest id that there is has changed, and perhaps more below it.
        """
        lowest = self._marked
        for ident, same in self._run(_FROM_THE_TOP, (self._marked,)):
            lowest = ident
            if same:
                break
        else:
            lowest = 0
        self._mark("r.id >= :lowest OR r.id IN (SELECT id FROM started)", {"lowest": lowest})

    def _mark(self, chosen: str, values: dict[str, int]) -> None:
        """Mark what calls refer to, as far as it is not marked yet."""
        for table in ("new_calls", "new_ctx", "new_content"):
            self._run(f"DELETE FROM {table}")
        started = time.monotonic()
        if self._run(f"{_NEW_CALLS} WHERE {chosen}", values).rowcount:
            only = "AND x.parent NOT IN live_ctx"
            self._run(LIVE_CHAINS.format(nodes="new_ctx", calls="new_calls", no_parent="0", and_only=only))
            self._run(LIVE_CONTENT.format(contents="new_content", nodes="new_ctx", calls="new_calls"))
            skeletons = f"{SKELETONS.format(id='id', calls='new_calls')} AND id NOT IN live"
            self._connection.executemany(
                "INSERT OR IGNORE INTO new_content SELECT id FROM content WHERE hash = ?",
                [(found,) for found in referred(self._run(skeletons).fetchall(), inflated)],
            )
            for known, new in (("live_ctx", "new_ctx"), ("live", "new_content")):
                self._run(f"INSERT OR IGNORE INTO {known} SELECT * FROM {new}")
            self._run("INSERT OR REPLACE INTO seen SELECT * FROM new_calls")
            self._run(_STARTED)
        self._resize(time.monotonic() - started)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit the block's writes."""
        self._run("BEGIN IMMEDIATE")
        with self._connection:
            started = time.monotonic()
            yield
        took_s = time.monotonic() - started
        self._resize(took_s)
        time.sleep(min(took_s, _BATCH_S))

    def _resize(self, took_s: float) -> None:
        """Size the next batch to take as long as one is to take."""
        self.size = max(_LEAST, min(_MOST, 2 * self.size, int(self.size * self._step_s / max(took_s, 0.0001))))
