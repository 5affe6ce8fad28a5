"""Retention: deleting sessions and what is old from a store, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, cast

import msgspec

from callspan.config import SettingError
from callspan.forks import late_import
from callspan.stores.opening import StoreUrl, parse, safe_name

_REMOVERS: Final = {
    "sqlite": "sqlite_retention",
    "jsonl": "jsonl_retention",
    "postgresql": "postgres_retention",
    "clickhouse": "clickhouse_retention",
}
"""Modules with a function `remove`, by kind of store."""


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What a deletion took away."""

    sessions: int = 0
    calls: int = 0
    others: int = 0
    """Timesteps, events, messages and rewards."""
    contents: int = 0
    """Stored values that nothing referred to any more."""


class Choice(NamedTuple):
    """What to delete: one session, or what is from before a time."""

    session_id: str | None = None
    older_than_ns: int | None = None


def delete_session(store: str | Path, session_id: str) -> Removed:
    """Delete a session with its calls, timesteps, events, messages, rewards and content.

    `store` is a URL, or the path of a SQLite file. An unknown session removes nothing. All or nothing, but for
    ClickHouse, where a deletion that failed is to be repeated. Raises StoreError where there is no store,
    SettingError for one that cannot delete, else what the store raises.
    """
    return _remove(store, Choice(session_id=session_id))


def prune(store: str | Path, older_than_ns: int) -> Removed:
    """Delete what happened before `older_than_ns` (Unix nanoseconds).

    Calls go by their start, sessions by their end (by their start where they have none), with all their
    children; other children by their own time. Raises as `delete_session` does.
    """
    return _remove(store, Choice(older_than_ns=older_than_ns))


def _remove(store: str | Path, choice: Choice) -> Removed:
    found = StoreUrl("sqlite", str(store), store, {}) if isinstance(store, Path) else parse(store)
    module = _REMOVERS.get(found.kind)
    if module is None:
        raise SettingError(f"{safe_name(found.url)} keeps nothing, so nothing can be deleted there")
    remove = late_import(f"callspan.stores.{module}").remove
    place = found.url if found.path is None else found.path
    return cast("Callable[[str | Path, Choice], Removed]", remove)(place, choice)
