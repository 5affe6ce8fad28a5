"""Retention: deletion of sessions and old records from a store, and what SQL stores share of it."""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, cast

from callspan.fail_open import ours
from callspan.formatting import plural
from callspan.settings import SettingError
from callspan.stores.base import REWARDED, DeletionResult, DeletionScope
from callspan.stores.bodies import DAMAGE, from_row, references
from callspan.stores.erased import digests, names
from callspan.stores.protocol import Erasable
from callspan.stores.urls import find_store

_LOGGER: Final = logging.getLogger("callspan")
_CALLS: Final = "calls"
ABOUT_CALLS: Final = ("events", "messages", "rewards")
"""The tables whose rows may name a call."""
CHILDREN: Final = (_CALLS, "timesteps", *ABOUT_CALLS)
OLD: Final = {
    "calls": "start_ns < :value",
    "sessions": "coalesce(end_ns, start_ns) < :value",
    "timesteps": "start_ns < :value",
    "events": "time_ns < :value",
    "messages": "time_ns < :value",
    "rewards": "time_ns < :value",
}
LIVE_CHAINS: Final = """
INSERT INTO {nodes}
WITH RECURSIVE up (id) AS (
  SELECT ctx FROM {calls} WHERE ctx IS NOT NULL
  UNION SELECT x.parent FROM up JOIN ctx x ON x.id = up.id WHERE x.parent <> {no_parent} {and_only})
SELECT id FROM up WHERE 1 = 1 ON CONFLICT DO NOTHING
"""
"""SQL that marks in the table `nodes` the chain nodes of calls in the table `calls`; first nodes have `no_parent`.

`and_only` is another condition for going on to a parent `x.parent`."""
LIVE_CONTENT: Final = """
INSERT INTO {contents}
SELECT request FROM {calls} WHERE request IS NOT NULL
UNION SELECT system FROM {calls} WHERE system IS NOT NULL
UNION SELECT tools FROM {calls} WHERE tools IS NOT NULL
UNION SELECT output FROM {calls} WHERE output IS NOT NULL
UNION SELECT x.content FROM ctx x JOIN {nodes} l ON l.id = x.id WHERE 1 = 1
ON CONFLICT DO NOTHING
"""
"""SQL that marks in the table `contents` the contents of these calls and nodes."""
SKELETONS: Final = "SELECT role, text, data FROM content WHERE {id} IN (SELECT request FROM {calls})"
"""SQL that reads the skeletons of the requests of these calls."""
Run: TypeAlias = "Callable[[str, Mapping[str, object]], Result]"
"""Runs a statement with `:name` parameters."""


def prune(store: str | Path, older_than_ns: int) -> DeletionResult:
    """Delete the records from before `older_than_ns` (Unix nanoseconds).

    Calls are selected by their start, sessions by their end (their start if they have none) and deleted with all their
    children; other records are selected by their own time. Raises StoreError if the store does not exist, SettingError
    for one that cannot delete, else the exceptions of the store's driver.
    """
    return erasable(store).remove(DeletionScope(older_than_ns=older_than_ns))


def erasable(store: str | Path) -> Erasable:
    """Return the store if records can be deleted from it, opening nothing. Raises SettingError if they cannot."""
    found = find_store(str(store))
    if not isinstance(found, Erasable):
        raise SettingError(f"records cannot be deleted from {found.name}")
    return found


class Result(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """The number of deleted rows."""

    def fetchall(self) -> Sequence[Sequence[object]]:
        """Return all rows."""


def remove_by_sql(run: Run, scope: DeletionScope) -> DeletionResult:
    """Delete the chosen records from Postgres within the open transaction."""
    run("CREATE TEMP TABLE gone (session_id text PRIMARY KEY)", {})
    run("CREATE TEMP TABLE gone_calls (call_id text PRIMARY KEY)", {})
    run("CREATE TEMP TABLE gone_targets (id text PRIMARY KEY)", {})
    values = {"value": scope.older_than_ns}
    if scope.older_than_ns is None:
        _remember(run, scope)
        conditions = dict.fromkeys(("calls", *ABOUT_CALLS), "call_id IN (SELECT call_id FROM gone_calls)")
        conditions["rewards"] += "".join(f" OR {column} IN (SELECT id FROM gone_targets)" for column in REWARDED)
    else:
        run(f"INSERT INTO gone SELECT session_id FROM sessions WHERE {OLD['sessions']}", values)
        conditions = OLD
    counts: dict[str, Any] = {}
    for table in CHILDREN:
        gone = f"session_id IN (SELECT session_id FROM gone) OR {conditions.get(table, 'false')}"
        counts[table] = run(f"DELETE FROM {table} WHERE {gone}", values).rowcount
    counts["sessions"] = run("DELETE FROM sessions WHERE session_id IN (SELECT session_id FROM gone)", {}).rowcount
    return DeletionResult(**counts, contents=sweep(run))


def _remember(run: Run, scope: DeletionScope) -> None:
    """Remember what is to be erased, in the tables of this transaction and for good; erase what was rejected of it."""
    run("INSERT INTO gone SELECT unnest(:ids::text[])", {"ids": sorted(scope.sessions)})
    run("INSERT INTO gone_calls SELECT unnest(:ids::text[])", {"ids": sorted(scope.calls)})
    run("INSERT INTO gone_targets SELECT unnest(:ids::text[])", {"ids": sorted(scope.targets)})
    remembered = {"ids": digests(scope), "time_ns": scope.erased_ns}
    sql = "INSERT INTO erased SELECT unnest(:ids::bytea[]), :time_ns ON CONFLICT (id) DO UPDATE SET"
    run(f"{sql} time_ns = excluded.time_ns", remembered)
    rows = cast("Sequence[tuple[str, bytes]]", run("SELECT key, frame FROM dead_letter", {}).fetchall())
    rejected = [key for key, frame in rows if names(bytes(frame), scope)]
    run("DELETE FROM dead_letter WHERE key = ANY(:keys)", {"keys": rejected})


def _unchanged(data: bytes | None) -> bytes | None:
    return data


def sweep(run: Run) -> int:
    """Delete chain nodes and contents that no call refers to, in a transaction; return the number of contents."""
    run("CREATE TEMP TABLE live_ctx (id bytea PRIMARY KEY) ON COMMIT DROP", {})
    run("CREATE TEMP TABLE live (id bytea PRIMARY KEY) ON COMMIT DROP", {})
    run(LIVE_CHAINS.format(nodes="live_ctx", calls=_CALLS, no_parent="''::bytea", and_only=""), {})
    run(LIVE_CONTENT.format(contents="live", nodes="live_ctx", calls=_CALLS), {})
    for found in referred(run(SKELETONS.format(id="hash", calls=_CALLS), {}).fetchall()):
        run("INSERT INTO live SELECT hash FROM content WHERE hash = :hash ON CONFLICT DO NOTHING", {"hash": found})
    # May be left by a process that died; a retention that looks through the contents now gives up.
    run("DELETE FROM in_use", {})
    run("DELETE FROM ctx WHERE NOT EXISTS (SELECT 1 FROM live_ctx l WHERE l.id = ctx.id)", {})
    return run("DELETE FROM content WHERE NOT EXISTS (SELECT 1 FROM live l WHERE l.id = content.hash)", {}).rowcount


def referred(skeletons: Sequence[Sequence[object]], left: Callable[[Any], bytes | None] = _unchanged) -> set[bytes]:
    """Return the hashes of the contents that skeletons refer to; `left` decodes the column `data`.

    A skeleton that is damaged refers to none: no reader can read its request any more. It is logged.
    """
    found, damaged = set(), 0
    for role, text, data in cast("Sequence[tuple[str | None, str | None, object]]", skeletons):
        try:
            found.update(references(from_row(role, text, left(data))))
        except ours(*DAMAGE):  # noqa: PERF203 - of each its own
            damaged += 1
    if damaged:
        _LOGGER.warning(
            "%s cannot be read: damaged; the contents that only they refer to are deleted", plural(damaged, "request")
        )
    return found
