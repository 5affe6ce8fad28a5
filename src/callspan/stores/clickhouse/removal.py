"""Removal from ClickHouse: by the selections of `callspan.stores.removal`, from the tables that writers insert into.

There are no transactions. Ids are remembered before anything is deleted, and a writer looks for them again after it has
written. Contents go before the rows by which an interrupted deletion finds them.
"""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from callspan.record.events import SessionRecord, TimestepRecord
from callspan.record.labels import USER
from callspan.stores.base import DeletionScope
from callspan.stores.clickhouse.database import CLICKHOUSE, ClickHouseDatabase
from callspan.stores.clickhouse.superseded import delete_references, references_of
from callspan.stores.owners import without_users
from callspan.stores.query.owned import has_owner
from callspan.stores.removal import (
    CALLS_AT_ONCE,
    CONDITIONS,
    LAST_OF_SESSIONS,
    REMEMBERED,
    SESSIONS_AT_ONCE,
    VERSIONED,
    Selection,
    names,
    refused_selections,
    remember_orders,
    remember_scope,
    selection_of,
)
from callspan.stores.tables.call_rows import record_of
from callspan.stores.tables.database import Values, items
from callspan.stores.tables.erased import TARGET, Refused, digest_of_id
from callspan.stores.tables.facts import EVENTS, SESSIONS, TABLES, TIMESTEPS, Table
from callspan.stores.tables.payloads import owner_of, row_of

_Batch = tuple[Sequence[str], Sequence[str]]
"""Ids of sessions and of calls."""
_IDS: Final = CLICKHOUSE.items.replace(":items", ":{}")
_GONE: Final = {f"SELECT id FROM {name}": _IDS.format(name) for name in ("gone_sessions", "gone_calls")}
"""What stands for the temporary tables of ids."""
_NAMED: Final = """
SELECT * FROM {kind}_versions AS x FINAL WHERE {named} AND coalesce(start_ns, seen_ns) < :erased"""


def remove(database: ClickHouseDatabase, scope: DeletionScope, *, dry_run: bool = False) -> Counter[str]:
    """Delete the records of a scope, or only count them; return their number by table."""
    selection = selection_of(database, scope)
    if not dry_run:
        remember_scope(database, scope)
    counts = _delete(database, selection, dry_run=dry_run)
    if scope.user is not None and not dry_run:
        _delete_names(database, scope.user, scope.erased_ns)
    return counts


def remove_refused(database: ClickHouseDatabase, refused: Iterable[Refused]) -> None:
    """Delete what was stored of refused records before the erasure that covers them."""
    for selection in refused_selections(database, refused):
        _delete(database, selection)


def _delete(database: ClickHouseDatabase, selection: Selection, *, dry_run: bool = False) -> Counter[str]:
    """Delete the selected records, or only count them; return their number by table."""
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for batch in _batches(database, selection):
        chosen = {table: _keys(database, table, CONDITIONS[table.name], _values(batch)) for table in _in_order()}
        for table, of_table in chosen.items():
            keys[table.name].update(of_table)
        if not dry_run:
            _remember(database, selection, batch)
            _delete_contents(database, batch)
            for table, of_table in chosen.items():
                _delete_rows(database, table, of_table)
    for table, condition in selection.conditions.items():
        others = _keys(database, table, condition, selection.values)
        keys[table.name].update(others)
        if not dry_run:
            _delete_others(database, selection, table, others)
    return Counter({name: len(of_table) for name, of_table in keys.items()})


def _in_order() -> list[Table]:
    """Return the tables, sessions and calls last."""
    by_name = {table.name: table for table in TABLES.values()}
    return [by_name[name] for name in CONDITIONS]


def _batches(database: ClickHouseDatabase, selection: Selection) -> Iterator[_Batch]:
    """Yield the selected sessions with their calls, then the other calls."""
    sessions, calls = (
        _selected(database, query, selection.values, sorted(named))
        for query, named in zip((selection.sessions, selection.calls), selection.named_ids, strict=True)
    )
    for some in _batched(sessions, SESSIONS_AT_ONCE):
        sql = f"SELECT call_id FROM calls WHERE session_id IN ({_IDS.format('gone_sessions')}) {LAST_OF_SESSIONS}"
        of_sessions = [str(row[0]) for row in database.tuples(sql, _values((some, ())))]
        # A session without calls, too.
        for first in range(0, max(1, len(of_sessions)), CALLS_AT_ONCE):
            yield some, of_sessions[first : first + CALLS_AT_ONCE]
    for some in _batched(calls, CALLS_AT_ONCE):
        yield (), some


def _selected(database: ClickHouseDatabase, query: str, values: Values, named: Sequence[str]) -> list[str]:
    """Return the ids that a query selects, which may also be by other conditions than by these names."""
    batches = [*_batched(named, CALLS_AT_ONCE)] or [()]
    return sorted({str(row[0]) for batch in batches for row in database.tuples(query, {**values, **items(batch)})})


def _batched(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(ids), size):
        yield ids[first : first + size]


def _values(batch: _Batch) -> Values:
    return {name: items(ids)["items"] for name, ids in zip(("gone_sessions", "gone_calls"), batch, strict=True)}


def _with_ids(sql: str) -> str:
    for table, ids in _GONE.items():
        sql = sql.replace(table, ids)
    return sql


def _keys(database: ClickHouseDatabase, table: Table, condition: str, values: Values) -> list[str]:
    sql = f"SELECT {table.key} FROM {table.name} WHERE {_with_ids(condition)}"
    return [str(row[0]) for row in database.tuples(sql, values)]


def _remember(database: ClickHouseDatabase, selection: Selection, batch: _Batch) -> None:
    """Remember the ids that late records may name, and for whom they were erased."""
    if selection.erased_ns is None:
        return
    values = _values(batch)
    erased = {
        digest_of_id(kind, str(row[0])) for kind, sql in REMEMBERED for row in database.tuples(_with_ids(sql), values)
    }
    database.remember(dict.fromkeys(erased, selection.erased_ns))
    conditions = {table: _with_ids(condition) for table, condition in VERSIONED.items()}
    remember_orders(database, conditions, values, is_for_user=selection.is_for_user)


def _delete_contents(database: ClickHouseDatabase, batch: _Batch) -> None:
    """Delete the contents of these sessions and calls, and what only these calls refer to in other sessions."""
    sessions, calls = batch
    sql = f"SELECT DISTINCT call_id, session_id FROM call_versions WHERE call_id IN ({_IDS.format('gone_calls')})"
    owners = {owner_of(call_id, session_id) for call_id, session_id in database.tuples(sql, _values(batch))}
    gone = {owner_of("", session_id) for session_id in sessions} | {owner_of(call_id, None) for call_id in calls}
    delete_references(database, references_of(database, calls, owners - gone))
    database.note_deletion()
    for table in ("content_versions", "call_contents"):
        database.delete(table, f"owner IN ({CLICKHOUSE.items})", items(gone))


def _delete_rows(database: ClickHouseDatabase, table: Table, keys: Sequence[str]) -> None:
    for some in _batched(keys, CALLS_AT_ONCE):
        database.delete(f"{table.kind}_versions", f"{table.key} IN ({CLICKHOUSE.items})", items(some))


def _delete_others(database: ClickHouseDatabase, selection: Selection, table: Table, keys: Sequence[str]) -> None:
    """Delete records of a table by themselves."""
    if selection.erased_ns is not None and table in (EVENTS, TIMESTEPS):
        database.remember({digest_of_id(TARGET, key): selection.erased_ns for key in keys})
    if selection.erased_ns is not None and table is TIMESTEPS:
        for some in _batched(keys, CALLS_AT_ONCE):
            condition = {table: f"{table.key} IN ({CLICKHOUSE.items})"}
            remember_orders(database, condition, items(some), is_for_user=selection.is_for_user)
    _delete_rows(database, table, keys)


def _delete_names(database: ClickHouseDatabase, user: str, erased_ns: int) -> None:
    """Delete a user from all versions of sessions and timesteps that are another user's."""
    of_timestep = f"x.metadata IS NOT NULL AND {has_owner(CLICKHOUSE, USER)}"
    for table, kind, named in (
        (SESSIONS, SessionRecord, names(CLICKHOUSE, user)), (TIMESTEPS, TimestepRecord, of_timestep),
    ):  # fmt: skip
        sql = _NAMED.format(kind=table.kind, named=named)
        for row in list(database.rows(sql, {"owner": user, "erased": erased_ns})):
            record = row_of(without_users(record_of(table, row, kind), [user]))
            cells: dict[str, object] = {
                name: record.get(name) for name in ("user_id", "metadata") if name in table.names
            }
            keys = {name: row[name] for name in (table.key, "seen_ns")}
            database.update(f"{table.kind}_versions", cells, keys)
