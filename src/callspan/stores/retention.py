"""Retention: deleting sessions and what is old from a SQLite store, with all content nobody refers to any more."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from callspan.stores.base import StoreError
from callspan.stores.bodies import from_row, references
from callspan.stores.sqlite_file import open_for_writing

_CHILDREN: Final = ("calls", "timesteps", "events", "messages", "rewards")
_LIVE_CHAINS: Final = """
INSERT OR IGNORE INTO live_ctx
WITH RECURSIVE up (id) AS (
  SELECT ctx FROM calls WHERE ctx IS NOT NULL
  UNION SELECT x.parent FROM up JOIN ctx x ON x.id = up.id WHERE x.parent <> 0)
SELECT id FROM up
"""
_LIVE_CONTENT: Final = """
INSERT OR IGNORE INTO live
SELECT request FROM calls WHERE request IS NOT NULL
UNION SELECT system FROM calls WHERE system IS NOT NULL
UNION SELECT tools FROM calls WHERE tools IS NOT NULL
UNION SELECT output FROM calls WHERE output IS NOT NULL
UNION SELECT x.content FROM ctx x JOIN live_ctx l ON l.id = x.id
"""
_LENDERS: Final = """
INSERT OR IGNORE INTO live SELECT c.text_of FROM content c JOIN live l ON l.id = c.id WHERE c.text_of IS NOT NULL
"""


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What a deletion took away."""

    sessions: int = 0
    calls: int = 0
    others: int = 0
    """Timesteps, events, messages and rewards."""
    contents: int = 0
    """Stored values that nothing referred to any more."""


def delete_session(path: str | Path, session_id: str) -> Removed:
    """Delete a session with its calls, timesteps, events, messages, rewards and content, all or nothing.

    An unknown session removes nothing. Raises StoreError where there is no store at `path`.
    """
    return _remove(Path(path), "session_id = :value", "session_id = :value", session_id)


def prune(path: str | Path, older_than_ns: int) -> Removed:
    """Delete what happened before `older_than_ns` (Unix nanoseconds), all or nothing.

    Calls go by their start, sessions by their end (by their start where they have none), with all their
    children; other children by their own time. Raises StoreError where there is no store at `path`.
    """
    return _remove(Path(path), "start_ns < :value", "coalesce(end_ns, start_ns) < :value", older_than_ns)


def _remove(path: Path, which_calls: str, which_sessions: str, value: str | int) -> Removed:
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file; nothing was recorded there yet")
    connection = open_for_writing(path)
    try:
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            removed = _delete(connection, which_calls, which_sessions, {"value": value})
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    finally:
        connection.close()
    return removed


def _delete(
    connection: sqlite3.Connection, which_calls: str, which_sessions: str, values: dict[str, str | int]
) -> Removed:
    # Only fixed conditions of this module are put into the SQL; values are parameters.
    connection.execute("CREATE TEMP TABLE gone (session_id TEXT PRIMARY KEY)")
    connection.execute(f"INSERT INTO gone SELECT session_id FROM sessions WHERE {which_sessions}", values)  # noqa: S608
    calls = connection.execute(f"DELETE FROM calls WHERE {which_calls}", values).rowcount  # noqa: S608
    others = 0
    for table in _CHILDREN:
        condition = "session_id IN (SELECT session_id FROM gone)"
        if table != "calls":
            own = which_calls if table == "timesteps" else which_calls.replace("start_ns", "time_ns")
            condition += f" OR {own}"
        count = connection.execute(f"DELETE FROM {table} WHERE {condition}", values).rowcount  # noqa: S608
        calls, others = (calls + count, others) if table == "calls" else (calls, others + count)
    sessions = connection.execute("DELETE FROM sessions WHERE session_id IN (SELECT session_id FROM gone)").rowcount
    return Removed(sessions=sessions, calls=calls, others=others, contents=_sweep(connection))


def _sweep(connection: sqlite3.Connection) -> int:
    """Delete every chain node and content that no call reaches; return how many contents."""
    connection.execute("CREATE TEMP TABLE live_ctx (id INTEGER PRIMARY KEY)")
    connection.execute("CREATE TEMP TABLE live (id INTEGER PRIMARY KEY)")
    connection.execute(_LIVE_CHAINS)
    connection.execute(_LIVE_CONTENT)
    skeletons = "SELECT text, rest, enc, data FROM content WHERE id IN (SELECT request FROM calls)"
    for text, rest, enc, data in connection.execute(skeletons).fetchall():
        raw = data.encode() if isinstance(data, str) else data
        for found in references(from_row(text, rest, enc, raw)):
            connection.execute("INSERT OR IGNORE INTO live SELECT id FROM content WHERE hash = ?", (found,))
    connection.execute(_LENDERS)
    connection.execute("DELETE FROM ctx WHERE id NOT IN (SELECT id FROM live_ctx)")
    return connection.execute("DELETE FROM content WHERE id NOT IN (SELECT id FROM live)").rowcount
