"""Removal from a SQLite file: in short transactions, so that writers in other processes go on meanwhile.

What no call refers to is found in a snapshot, without a lock. Before each batch of it is deleted, the calls that others
have written since are added to those that count.
"""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from callspan.stores.base import REWARDED, DeletionResult, DeletionScope, no_file
from callspan.stores.bodies import inflated
from callspan.stores.columns import REFERENCES
from callspan.stores.erased import digests, names
from callspan.stores.retention import ABOUT_CALLS, CHILDREN, LIVE_CHAINS, LIVE_CONTENT, OLD, SKELETONS, referred
from callspan.stores.sqlite.file import BUSY_MS, explaining, open_for_writing

_SESSIONS: Final = "sessions"
_KEYS: Final = {
    "calls": "call_id",
    "sessions": "session_id",
    "timesteps": "timestep_id",
    "events": "event_id",
    "messages": "message_id",
    "rewards": "reward_id",
}
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
_TABLES: Final = (
    f"CREATE TEMP TABLE seen (id INTEGER PRIMARY KEY, call_id, {', '.join(REFERENCES)})",
    "CREATE TEMP TABLE new_calls AS SELECT * FROM seen",
    *(f"CREATE TEMP TABLE {name} (id INTEGER PRIMARY KEY)" for name in ("live_ctx", "live", "new_ctx", "new_content")),
)
_NEW_CALLS: Final = f"""
INSERT INTO new_calls
SELECT r.id, r.call_id, {", ".join(f"r.{name}" for name in REFERENCES)}
  FROM calls r LEFT JOIN seen s ON s.id = r.id
 WHERE s.call_id IS NOT r.call_id OR {" OR ".join(f"s.{name} IS NOT r.{name}" for name in REFERENCES)}
"""
"""A version that is merged into a call may leave it its id, and all but what it refers to."""


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


class _Removal:
    """One deletion, on a connection of its own."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._path = path
        self._connection = connection
        self._run = connection.execute
        self._size = _FIRST
        self._data_version: object = None

    def remove(self, scope: DeletionScope) -> DeletionResult:
        """Delete the chosen records and what only they referred to."""
        counts = dict.fromkeys((_SESSIONS, *CHILDREN), 0)
        if scope.older_than_ns is not None:
            self._old(scope.older_than_ns, counts)
        else:
            self._chosen(scope, counts)
        contents = self._sweep()
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
        self._run("CREATE TEMP TABLE chosen (id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._connection.executemany("INSERT INTO chosen VALUES (?)", [(found,) for found in scope.calls])
        for table in ABOUT_CALLS:
            sql = f"SELECT {_KEYS[table]} FROM {table} WHERE call_id IN (SELECT id FROM chosen)"
            self._delete(table, [str(row[0]) for row in self._run(sql)], counts)
        self._run("CREATE TEMP TABLE targets (id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._connection.executemany("INSERT INTO targets VALUES (?)", [(found,) for found in scope.targets])
        sql = " OR ".join(f"{column} IN (SELECT id FROM targets)" for column in REWARDED)
        self._delete(
            "rewards", [str(row[0]) for row in self._run(f"SELECT reward_id FROM rewards WHERE {sql}")], counts
        )

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
        for batch in self._batches(self._old_keys(_SESSIONS, before_ns)):
            for session_id in batch:
                # One that has gone on meanwhile stays.
                if self._run(still, {"key": session_id, "value": before_ns}).fetchone():
                    self._session(session_id, counts)
        for table in CHILDREN:
            self._delete(table, self._old_keys(table, before_ns), counts, f"AND {OLD[table]}", before_ns)

    def _old_keys(self, table: str, before_ns: int) -> list[str]:
        sql = f"SELECT {_KEYS[table]} FROM {table} WHERE {OLD[table]}"
        return [str(row[0]) for row in self._run(sql, {"value": before_ns})]

    def _batches(self, keys: Sequence[str]) -> Iterator[Sequence[str]]:
        """Yield the keys in batches, each within one transaction."""
        start = 0
        while start < len(keys):
            with self._transaction():
                batch = keys[start : start + self._size]
                start += len(batch)
                yield batch

    def _empty_log(self) -> str | None:
        """Move the WAL into the file and empty it; return who hinders that, None if it is empty."""
        self._run("PRAGMA busy_timeout=0")
        deadline = time.monotonic() + _READERS_S
        while (busy := self._is_log_busy()) and time.monotonic() < deadline:
            time.sleep(_AGAIN_S)
        self._run(f"PRAGMA busy_timeout={BUSY_MS}")
        return _HELD.format(path=self._path) if busy else None

    def _is_log_busy(self) -> bool:
        return bool(self._run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

    def _sweep(self) -> int:
        """Delete every chain node and content that no call reaches; return the number of contents."""
        for sql in _TABLES:
            self._run(sql)
        self._run("BEGIN")
        with self._connection:
            self._mark()
            dead = {
                table: [row[0] for row in self._run(f"SELECT id FROM {table} WHERE id NOT IN {live} ORDER BY id DESC")]
                for table, live in (("ctx", "live_ctx"), ("content", "live"))
            }
        return [self._delete_dead(table, ids) for table, ids in dead.items()][-1]

    def _delete_dead(self, table: str, ids: list[int]) -> int:
        """Delete newest first, so that no row refers to a deleted one in between."""
        live = {"ctx": "live_ctx", "content": "live"}[table]
        start = deleted = 0
        while start < len(ids):
            with self._transaction(marked=True):
                batch = ids[start : start + self._size]
                start += len(batch)
                sql = f"DELETE FROM {table} WHERE id = ? AND id NOT IN {live}"
                deleted += self._connection.executemany(sql, [(found,) for found in batch]).rowcount
        return deleted

    def _mark(self) -> None:
        """Mark the rows that calls written since the last mark refer to; at first, those of all calls."""
        version = self._run("PRAGMA data_version").fetchone()[0]
        if version == self._data_version:
            return
        self._data_version = version
        for table in ("new_calls", "new_ctx", "new_content"):
            self._run(f"DELETE FROM {table}")
        if not self._run(_NEW_CALLS).rowcount:
            return
        self._run(LIVE_CHAINS.format(nodes="new_ctx", calls="new_calls", no_parent="0"))
        self._run(LIVE_CONTENT.format(contents="new_content", nodes="new_ctx", calls="new_calls"))
        skeletons = self._run(SKELETONS.format(id="id", calls="new_calls")).fetchall()
        self._connection.executemany(
            "INSERT OR IGNORE INTO new_content SELECT id FROM content WHERE hash = ?",
            [(found,) for found in referred(skeletons, inflated)],
        )
        for known, new in (("seen", "new_calls"), ("live_ctx", "new_ctx"), ("live", "new_content")):
            self._run(f"INSERT OR REPLACE INTO {known} SELECT * FROM {new}")

    @contextmanager
    def _transaction(self, *, marked: bool = False) -> Iterator[None]:
        """Commit the block's writes, after marking if requested; sizes the next batch to take `_BATCH_S`."""
        self._run("BEGIN IMMEDIATE")
        with self._connection:
            if marked:
                self._mark()
            started = time.monotonic()
            yield
        took_s = time.monotonic() - started
        self._size = max(_LEAST, min(_MOST, 2 * self._size, int(self._size * _BATCH_S / max(took_s, 0.001))))
        time.sleep(min(took_s, _BATCH_S))
