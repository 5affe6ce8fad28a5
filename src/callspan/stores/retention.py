"""Retention: deletion of sessions and old records from a store, and how SQL stores do it."""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol, cast

import msgspec

from callspan.forks import late_import
from callspan.settings import SettingError
from callspan.stores.bodies import from_row, references
from callspan.stores.urls import StoreUrl, parse, safe_name

_REMOVERS: Final = {
    "sqlite": "sqlite.store",
    "jsonl": "jsonl.store",
    "postgresql": "postgres.store",
    "clickhouse": "clickhouse.store",
}
"""Modules with a function `remove`, by kind of store."""

_CALLS: Final = "calls"
_CHILDREN: Final = (_CALLS, "timesteps", "events", "messages", "rewards")
_BY_SESSION: Final = "session_id = :value"
_OLD: Final = {
    "calls": "start_ns < :value",
    "sessions": "coalesce(end_ns, start_ns) < :value",
    "timesteps": "start_ns < :value",
    "events": "time_ns < :value",
    "messages": "time_ns < :value",
    "rewards": "time_ns < :value",
}
_LIVE_CHAINS: Final = """
INSERT INTO live_ctx
WITH RECURSIVE up (id) AS (
  SELECT ctx FROM calls WHERE ctx IS NOT NULL
  UNION SELECT x.parent FROM up JOIN ctx x ON x.id = up.id WHERE x.parent <> {no_parent})
SELECT id FROM up
"""
_LIVE_CONTENT: Final = """
INSERT INTO live
SELECT request FROM calls WHERE request IS NOT NULL
UNION SELECT system FROM calls WHERE system IS NOT NULL
UNION SELECT tools FROM calls WHERE tools IS NOT NULL
UNION SELECT output FROM calls WHERE output IS NOT NULL
UNION SELECT x.content FROM ctx x JOIN live_ctx l ON l.id = x.id
"""
_SKELETONS: Final = "SELECT text, rest, enc, data FROM content_text WHERE id IN (SELECT request FROM calls)"


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """The number of deleted records of each kind."""

    sessions: int = 0
    calls: int = 0
    others: int = 0
    """Timesteps, events, messages and rewards."""
    contents: int = 0
    """Contents that no record referred to any more."""


class Choice(NamedTuple):
    """What to delete: one session, or everything before a time."""

    session_id: str | None = None
    older_than_ns: int | None = None


def delete_session(store: str | Path, session_id: str) -> Removed:
    """Delete a session with its calls, timesteps, events, messages, rewards and content.

    `store` is a URL, or the path of a SQLite file. An unknown session removes nothing. The deletion is atomic, except
    in ClickHouse: repeat it there after a failure. Raises StoreError if the store does not exist, SettingError for a
    store that cannot delete, else the exceptions of the store's driver.
    """
    return _remove(store, Choice(session_id=session_id))


def prune(store: str | Path, older_than_ns: int) -> Removed:
    """Delete the records from before `older_than_ns` (Unix nanoseconds).

    Calls are selected by their start, sessions by their end (their start if they have none) and deleted with all their
    children; other records are selected by their own time. Raises the same exceptions as `delete_session`.
    """
    return _remove(store, Choice(older_than_ns=older_than_ns))


def _remove(store: str | Path, choice: Choice) -> Removed:
    found = StoreUrl("sqlite", str(store), store, {}) if isinstance(store, Path) else parse(store)
    module = _REMOVERS.get(found.kind)
    if module is None:
        raise SettingError(f"{safe_name(found.url)} keeps no records, so none can be deleted")
    remove = late_import(f"callspan.stores.{module}").remove
    place = found.url if found.path is None else found.path
    return cast("Callable[[str | Path, Choice], Removed]", remove)(place, choice)


class Result(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """The number of deleted rows."""

    def fetchall(self) -> Sequence[Sequence[object]]:
        """Return all rows."""


class Dialect(NamedTuple):
    """The differences between SQLite and Postgres."""

    run: Callable[[str, Mapping[str, object]], Result]
    """Runs a statement with `:name` parameters."""
    id_type: str
    """SQL type of the ids of contents and chain nodes."""
    content_id: str
    """Column of `content` that other tables refer to."""
    no_parent: str
    """Parent of a chain's first node."""
    calls: str = "calls"
    """Table that holds the rows of calls."""
    same_hash: str = "hash = :hash"
    """Condition that a content has the hash `:hash`."""
    lends: bool = False
    """Whether a content may refer to the text of another content."""


def remove_by_sql(dialect: Dialect, choice: Choice) -> Removed:
    """Delete the chosen records within the open transaction."""
    conditions = _OLD if choice.session_id is None else dict.fromkeys(_OLD, _BY_SESSION)
    values = {"value": choice.older_than_ns if choice.session_id is None else choice.session_id}
    run = dialect.run
    run("CREATE TEMP TABLE gone (session_id text PRIMARY KEY)", {})
    run(f"INSERT INTO gone SELECT session_id FROM sessions WHERE {conditions['sessions']}", values)
    counts = {}
    for table in _CHILDREN:
        gone = f"session_id IN (SELECT session_id FROM gone) OR {conditions[table]}"
        place = dialect.calls if table == _CALLS else table
        counts[table] = run(f"DELETE FROM {place} WHERE {gone}", values).rowcount
    sessions = run("DELETE FROM sessions WHERE session_id IN (SELECT session_id FROM gone)", {}).rowcount
    calls = counts.pop(_CALLS)
    return Removed(sessions=sessions, calls=calls, others=sum(counts.values()), contents=_sweep(dialect))


def _sweep(dialect: Dialect) -> int:
    """Delete chain nodes and contents that no call refers to; return the number of contents."""
    run, key = dialect.run, dialect.content_id
    run(f"CREATE TEMP TABLE live_ctx (id {dialect.id_type} PRIMARY KEY)", {})
    run(f"CREATE TEMP TABLE live (id {dialect.id_type} PRIMARY KEY)", {})
    run(_LIVE_CHAINS.format(no_parent=dialect.no_parent), {})
    run(_LIVE_CONTENT, {})
    for text, rest, enc, data in run(_SKELETONS, {}).fetchall():
        raw = data.encode() if isinstance(data, str) else bytes(cast("bytes", data))
        for found in references(from_row(cast("str | None", text), cast("bytes | None", rest), cast("int", enc), raw)):
            refer = f"INSERT INTO live SELECT {key} FROM content WHERE {dialect.same_hash} ON CONFLICT DO NOTHING"
            run(refer, {"hash": found})
    if dialect.lends:
        lenders = "SELECT c.text_of FROM content c JOIN live l ON l.id = c.id WHERE c.text_of IS NOT NULL"
        run(f"INSERT INTO live {lenders} ON CONFLICT DO NOTHING", {})
    run("DELETE FROM ctx WHERE NOT EXISTS (SELECT 1 FROM live_ctx l WHERE l.id = ctx.id)", {})
    gone = f"DELETE FROM content WHERE NOT EXISTS (SELECT 1 FROM live l WHERE l.id = content.{key})"
    return run(gone, {}).rowcount
