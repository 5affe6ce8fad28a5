"""Owned: the SQL that finds a user's or a tenant's sessions and calls, for whoever erases them.

A call is theirs if it says so. A session is theirs as a whole if it or one of its calls says so, and no record in it
names another user or tenant: then what names nobody goes with it. In any other session, only what names them is theirs.
"""

# ruff: noqa: S608 - only our own table and column names are put into SQL; values are parameters

from __future__ import annotations

from typing import Final

from callspan.record.labels import USER
from callspan.stores.query.filters import no_list
from callspan.stores.tables.database import Database, Dialect
from callspan.stores.tables.facts import TABLES

OWNER: Final = ":owner"
"""The parameter with the user or the tenant."""
_WITH_COLUMN: Final = ("sessions", "calls")
"""Tables with a column `user_id`. It has the JSON of a list of users, which also a name may look like."""
IN_SESSIONS: Final = (*_WITH_COLUMN, "timesteps", "events", "messages")
"""Tables whose rows say who takes part in a session. A reward may be another person's judgement of it."""
_BEGAN: Final = {"sessions": "coalesce(x.start_ns, x.seen_ns)", "calls": "x.start_ns"}


def has_owner(dialect: Dialect, key: str) -> str:
    """Return whether the metadata of a row `x` names the owner under a key."""
    return dialect.has.format(at=f"x.metadata, '{key}'", value=OWNER)


def names_owner(dialect: Dialect, table: str, key: str, owner: str) -> str:
    """Return whether a row `x` names the owner, by its column if it has one."""
    has = f"(x.metadata IS NOT NULL AND {has_owner(dialect, key)})"
    if key != USER or table not in _WITH_COLUMN:
        return has
    is_text = f"(x.user_id = {OWNER}{no_list(owner, dialect, 'x')})"
    is_listed = f"(x.user_id >= '[' AND x.user_id < ']' AND {has})"
    return f"({is_text} OR {is_listed}{f' OR (x.user_id IS NULL AND {has})' if table == 'sessions' else ''})"


def names_nobody(dialect: Dialect, table: str, key: str = USER) -> str:
    """Return whether a row `x` names no user, or nobody under another key."""
    if key == USER and table == "calls":
        return "(x.user_id IS NULL)"
    value = dialect.label_at.format(at=f"x.metadata, '{key}'")
    has_no_column = key != USER or table not in _WITH_COLUMN
    return f"({value} IS NULL)" if has_no_column else f"(x.user_id IS NULL AND {value} IS NULL)"


def owned_calls(dialect: Dialect, key: str, owner: str) -> str:
    """Return the query for the calls that name an owner and began before `:erased`."""
    return f"SELECT x.call_id FROM calls x WHERE {_is_owned(dialect, 'calls', key, owner)}"


def owned_sessions(dialect: Dialect, key: str, owner: str) -> str:
    """Return the query for the sessions that are an owner's as a whole."""
    candidates = " UNION ".join(
        f"SELECT x.session_id FROM {table} x WHERE x.session_id IS NOT NULL AND {_is_owned(dialect, table, key, owner)}"
        for table in _WITH_COLUMN
    )
    others = " AND ".join(
        f"NOT EXISTS (SELECT 1 FROM {table} x WHERE x.session_id = h.session_id"
        f" AND {_names_another(dialect, table, key, owner)})"
        for table in IN_SESSIONS
    )
    return f"SELECT h.session_id FROM ({candidates}) h WHERE {others}"


def has_others(database: Database, session_id: str, user: str, own: tuple[str, str]) -> bool:
    """Return whether a record of a session names another user, but for the one of this kind and id."""
    kind, ident = own
    others = " UNION ALL ".join(
        f"SELECT 1 FROM {table.name} x WHERE x.session_id = :session"
        f" AND {_names_another(database.dialect, table.name, USER, user)}"
        f"{f' AND x.{table.key} <> :own' if table.kind == kind else ''}"
        for table in TABLES.values()
        if table.name in IN_SESSIONS
    )
    values = {"session": session_id, "owner": user, "own": ident}
    return next(database.tuples(f"{others} LIMIT 1", values), None) is not None


def _names_another(dialect: Dialect, table: str, key: str, owner: str) -> str:
    """Return whether a row `x` names somebody, but not the owner."""
    is_owner = names_owner(dialect, table, key, owner)
    return f"NOT {names_nobody(dialect, table, key)} AND NOT coalesce({is_owner}, false)"


def _is_owned(dialect: Dialect, table: str, key: str, owner: str) -> str:
    return f"{names_owner(dialect, table, key, owner)} AND {_BEGAN[table]} < :erased"
