"""Removal: deletes records from SQLite and Postgres, by id or by age, with their contents.

What a deletion selects is the same in ClickHouse; `callspan.stores.clickhouse.removal` deletes it there.
"""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain, islice
from typing import Final, NamedTuple

from callspan.record.content_level import at_level
from callspan.record.events import Record
from callspan.record.labels import USER
from callspan.record.merging import order_key
from callspan.record.plain_json import clean
from callspan.stores.base import DeletionScope
from callspan.stores.owners import without_users
from callspan.stores.query.interrupted import HAS_EXITED, IS_HERE, exited_processes, processes_of
from callspan.stores.query.owned import (
    IN_SESSIONS,
    has_owner,
    names_nobody,
    names_owner,
    owned_calls,
    owned_sessions,
)
from callspan.stores.runs import Runs, anonymous
from callspan.stores.tables.call_rows import keyed_records
from callspan.stores.tables.contents import trim
from callspan.stores.tables.database import NO_VALUES, Database, Dialect, SqlDatabase, Values, in_batches, items
from callspan.stores.tables.erased import TARGET, Refused, as_number, digest_of_id, digests, of_user
from callspan.stores.tables.facts import (
    CALL_IDS,
    CALLS,
    CONTENTS,
    EVENTS,
    MESSAGES,
    REFERENCES,
    REWARDS,
    SESSIONS,
    TABLES,
    TIMESTEPS,
    Table,
)
from callspan.stores.tables.payloads import owner_of, row_of
from callspan.stores.tables.score_tables import refresh, scored, scored_by

SESSIONS_AT_ONCE, CALLS_AT_ONCE, _ROWS_AT_ONCE = 100, 2_000, 100
"""Limits per transaction: sessions and calls to delete, rows to delete contents from."""
_GONE: Final = ("gone_sessions", "gone_calls")
"""Temporary tables with the ids of the current transaction: to delete the records, or only their contents."""
_SESSION: Final = "session_id IN (SELECT id FROM gone_sessions)"
_CALL: Final = "call_id IN (SELECT id FROM gone_calls)"
_OTHER_IDS: Final = " UNION ".join(
    f"""SELECT c.{name} FROM calls c WHERE c.{_CALL} AND c.{name} IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM calls o
        WHERE o.{name} = c.{name} AND (o.start_ns, o.call_id) < (c.start_ns, c.call_id))"""
    for name in CALL_IDS[1:]
)
"""The other ids of the calls that late rewards may name, unless an earlier call has the same id."""
_REWARDS: Final = f"""{_SESSION} OR {_CALL}
  OR timestep_id IN (SELECT t.timestep_id FROM timesteps t WHERE t.{_SESSION})
  OR event_id IN (SELECT e.event_id FROM events e WHERE e.{_SESSION} OR e.{_CALL})"""
_TARGETS: Final = f"""SELECT timestep_id FROM timesteps WHERE {_SESSION}
UNION SELECT event_id FROM events WHERE {_SESSION} OR {_CALL}"""
"""Timesteps and events, the other targets of rewards."""
REMEMBERED: Final = (
    ("session", "SELECT id FROM gone_sessions"), ("call", "SELECT id FROM gone_calls"), ("call", _OTHER_IDS),
    (TARGET, _TARGETS),
)  # fmt: skip
"""Queries for the ids that late records may name, with their kinds."""
CONDITIONS: Final = {
    "rewards": _REWARDS,
    "events": f"{_SESSION} OR {_CALL}",
    "messages": f"{_SESSION} OR {_CALL}",
    "timesteps": _SESSION,
    "calls": f"{_SESSION} OR {_CALL}",
    "sessions": _SESSION,
}
"""Conditions by table. Sessions and calls go last, so that an interrupted deletion finds the rest by them."""
VERSIONED: Final = {SESSIONS: _SESSION, CALLS: _CALL, TIMESTEPS: _SESSION}
"""Conditions on records with several versions."""
_WITH_USERS: Final = (REWARDS, EVENTS, TIMESTEPS, MESSAGES)
"""Tables that have a user only in the metadata of their rows, in the order of deletion."""
_REFUSED: Final = {
    "session": ":refused_sessions",
    "call": ":refused_calls",
    "timestep": ":refused_targets",
    "event": ":refused_targets",
}
"""Parameters with the ids of refused records, by kind."""
_HAS_USER: Final = "SELECT x.{key} FROM {table} x WHERE {has}"
_CALLS_OF_SESSIONS: Final = f"SELECT call_id FROM calls WHERE {_SESSION}"
LAST_OF_SESSIONS: Final = "ORDER BY user_id IS NOT NULL"
"""How calls of sessions are deleted in batches: those last that say whose the session is."""
_RUNS: Final = "c.outcome = 'in_progress'"
_ENDED: Final = "coalesce(s.end_ns, s.start_ns)"
_IS_ALIVE: Final = f"{IS_HERE.format('s')} AND NOT {HAS_EXITED.format('s')}"
_PROCESSES: Final = processes_of("sessions", "p.end_ns IS NULL OR (p.end_ns < :before AND p.seen_ns >= :before)")
"""Of the sessions whose age depends on their process: without an end, or in the past (`at=`) but seen since."""
_IS_RECENT: Final = f"coalesce(c.seen_ns, 0) >= :before OR c.start_ns >= CASE WHEN {_RUNS} THEN :quiet ELSE :before END"
_SINCE: Final = "CASE WHEN s.end_ns IS NULL AND :quiet < :before THEN :quiet ELSE :before END"
"""A session that was active since this time is kept, also if it continues one that ended before."""
_IS_ACTIVE: Final = " OR ".join(
    f"EXISTS (SELECT 1 FROM {table} x WHERE x.session_id = s.session_id AND x.{time} >= {_SINCE})"
    for table, time in (("timesteps", "start_ns"), ("events", "time_ns"), ("messages", "time_ns"))
)
_OLD_SESSIONS: Final = f"""
SELECT s.session_id FROM sessions s
 WHERE (s.start_ns < :before OR s.start_ns IS NULL) AND {_ENDED} < :before
   AND NOT ({_IS_ACTIVE})
   AND CASE WHEN s.end_ns IS NULL THEN s.seen_ns < :quiet AND ({_IS_ALIVE}) IS NOT TRUE
     ELSE s.seen_ns < :before OR ({_IS_ALIVE}) IS NOT TRUE END
   AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.session_id = s.session_id AND ({_IS_RECENT}))"""
"""Ended or interrupted sessions without activity since `:before`."""
_BY_ITSELF: Final = """NOT EXISTS (
  SELECT 1 FROM sessions s WHERE s.session_id = {table}.session_id AND s.end_ns IS NOT NULL)"""
"""Whether a record expires by itself, because it has no session or one without an end."""
_OLD_CALLS: Final = f"SELECT call_id FROM calls c WHERE NOT ({_IS_RECENT}) AND {_BY_ITSELF.format(table='c')}"
_HAS_ENDED: Final = """(end_ns IS NOT NULL OR NOT EXISTS (
  SELECT 1 FROM sessions s WHERE s.session_id = timesteps.session_id))"""
_OLD_OTHERS: Final = {
    table: f"{time} < :before AND {_BY_ITSELF.format(table=table.name)}"
    for table, time in (
        (TIMESTEPS, f"{_HAS_ENDED} AND coalesce(end_ns, start_ns)"),
        *((table, "time_ns") for table in (EVENTS, MESSAGES, REWARDS)),
    )
}
"""Conditions on expired rows of the other tables."""
_CONTENTS: Final = (
    "DELETE FROM contents WHERE owner IN (SELECT 's:' || id FROM gone_sessions)",
    """DELETE FROM contents WHERE owner IN (SELECT 'c:' || id FROM gone_calls)
      AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.owner = contents.owner)""",
)
"""Contents of which no call is left; others of a run share those of its first call."""
_IN_RUNS: Final = f"SELECT DISTINCT {{}} FROM calls WHERE ({_SESSION} OR {_CALL}) AND {{}}"
_RENAMED: Final = tuple(f"UPDATE {table} SET owner = :name WHERE owner = :owner" for table in ("contents", "calls"))
_JOINTS: Final = f"DELETE FROM joints WHERE {_CALL}"
_RUN_IDS: Final = """
DELETE FROM run_ids WHERE NOT EXISTS (SELECT 1 FROM calls c WHERE c.session_id = run_ids.session_id)"""
_NAMED_RUNS: Final = " UNION SELECT r.session_id FROM run_ids r WHERE r.id IN ({items})"
"""Runs that have another id by now."""
_REDUCED_SESSIONS: Final = f"SELECT DISTINCT session_id FROM calls WHERE {_CALL} AND session_id IS NOT NULL"
"""Sessions that remain but lose calls."""
_NEXT: Final = (
    f"{{}} AND s.session_id > :after ORDER BY s.session_id LIMIT {CALLS_AT_ONCE}",
    f"{{}} AND c.call_id > :after ORDER BY c.call_id LIMIT {CALLS_AT_ONCE}",
)
"""Queries for the ids of the next old sessions and calls behind the id `:after`."""
_TO_REDUCE: Final = """
SELECT * FROM {table} WHERE {key} IN (
  SELECT {key} FROM {table} WHERE {key} > :last AND ({full}) AND ({condition}) ORDER BY {key} LIMIT :most)
 ORDER BY {key}"""


class RetentionTimes(NamedTuple):
    """The ends of retention: records and contents from before these Unix times are deleted."""

    quiet_ns: int
    """A session without an end is deleted only if its process has exited and it had no activity since this time."""
    before_ns: int | None = None
    """Delete sessions that ended before this time; None: no session."""
    content_before_ns: int | None = None
    """Delete the content of sessions that ended before this time; None: of no session."""
    waiting_ids: Set[str] = frozenset()
    """Sessions, calls and timesteps that may have a newer version in the spool: they stay, with everything in them."""


class _OldRecords(NamedTuple):
    """Queries for the records from before a time."""

    sessions: str
    calls: str
    others: Mapping[Table, str]
    """Conditions by table."""
    values: Values


class Selection(NamedTuple):
    """The records to delete."""

    sessions: str
    """Query for the ids of sessions, which are deleted with all their records."""
    calls: str
    """Query for the ids of calls, which are deleted with the records that name them."""
    conditions: Mapping[Table, str]
    """Conditions on records that are deleted individually, by table."""
    values: Values
    """Parameters of the queries and conditions."""
    named_ids: tuple[set[str], set[str]]
    """The named sessions and calls that are left; the queries find the next of them in the parameter `:items`."""
    erased_ns: int | None = None
    """Unix time of the decision, stored with the ids; None: the ids are not remembered."""
    is_for_user: bool = False
    """Whether everything belongs to one user; false: it was selected by other conditions."""


def remove(
    database: SqlDatabase, scope: DeletionScope, *, dry_run: bool = False, vacuum: bool = False
) -> tuple[Counter[str], str | None]:
    """Delete the records of a scope in batches; remember their ids unless it is by age. `dry_run`: only count them.

    Return the number of records by table, and the reason why deleted bytes may still be on disk, if any.
    """
    selection = selection_of(database, scope)
    if dry_run:
        return _counted(database, selection), None
    with database.transaction(exclusive=True):
        remember_scope(database, scope)
    counts = sum(_deleted(database, selection), Counter[str]())
    if scope.user is not None:
        _delete_names(database, scope.user, scope.erased_ns)
    return counts, database.finish(vacuum=vacuum)


def selection_of(database: Database, scope: DeletionScope) -> Selection:
    """Return the records of a scope."""
    if scope.older_than_ns is not None:
        return _old_selection(database, scope.older_than_ns, scope.older_than_ns)
    return _scope_selection(database, scope)


def remember_scope(database: Database, scope: DeletionScope) -> None:
    """Remember the ids of a scope, before anything is deleted."""
    database.remember(dict.fromkeys(digests(scope), scope.erased_ns))
    database.forget([of_user("session", ident) for ident in scope.sessions])
    database.forget([of_user("call", ident) for ident in scope.calls])


def remove_refused(database: SqlDatabase, refused: Iterable[Refused]) -> None:
    """Delete what was stored of refused records, and in them, before an erasure that covers their newest versions.

    Nothing that began after the erasure is deleted.
    """
    numbers = [_deleted(database, selection) for selection in refused_selections(database, refused)]
    if sum(chain.from_iterable(numbers), Counter[str]()).total():
        database.finish()


def refused_selections(database: Database, refused: Iterable[Refused]) -> Iterator[Selection]:
    """Yield the stored records of refused ones, those of each erasure by themselves."""
    erasures = defaultdict[tuple[int, bool], list[Refused]](list)
    for record in refused:
        erasures[record.erased_ns, record.is_for_user].append(record)
    for records in erasures.values():
        yield _refused_selection(database, records)


def _refused_selection(database: Database, refused: Sequence[Refused]) -> Selection:
    """Return the stored records of those that one erasure covers.

    In a session that was erased for its user, records that name a user are not taken: they are refused themselves, or
    another user's.
    """
    ids = {name: [record.ident for record in refused if _REFUSED[record.kind] == name] for name in _REFUSED.values()}
    sessions, calls, targets = (database.dialect.items.replace(":items", name) for name in ids)
    first = refused[0]
    of_session = f"x.session_id IN ({sessions})"
    in_sessions = dict.fromkeys(IN_SESSIONS, of_session)
    if first.is_for_user:
        in_sessions = {
            table: f"({of_session} AND {names_nobody(database.dialect, table)})" for table in IN_SESSIONS[1:]
        }
    of_calls = f"call_id IN ({calls})"
    steps = f"{in_sessions['timesteps']} OR timestep_id IN ({targets})"
    events = f"{in_sessions['events']} OR {of_calls}"
    of_rewards = (
        f"{of_session} OR {of_calls}"
        f" OR timestep_id IN ({targets} UNION SELECT x.timestep_id FROM timesteps x WHERE {steps})"
        f" OR event_id IN ({targets} UNION SELECT x.event_id FROM events x WHERE {events})"
    )
    began = {TIMESTEPS: "coalesce(start_ns, seen_ns)", SESSIONS: "coalesce(start_ns, seen_ns)"}
    of_tables = {
        REWARDS: of_rewards, EVENTS: events, MESSAGES: f"{in_sessions['messages']} OR {of_calls}", TIMESTEPS: steps,
        SESSIONS: of_session,
    }  # fmt: skip
    conditions = {
        table: f"{table.key} IN (SELECT x.{table.key} FROM {table.name} x WHERE {condition})"
        f" AND {began.get(table, 'coalesce(time_ns, 0)')} < :erased"
        for table, condition in of_tables.items()
    }
    values = {name[1:]: items(of_kind)["items"] for name, of_kind in ids.items()}
    return Selection(
        "SELECT session_id FROM sessions WHERE 1 = 0",
        f"SELECT x.call_id FROM calls x WHERE ({in_sessions['calls']} OR {of_calls}) AND x.start_ns < :erased",
        conditions,
        {**values, "erased": first.erased_ns},
        (set(), set()),
        first.erased_ns,
        first.is_for_user,
    )


def _scope_selection(database: Database, scope: DeletionScope) -> Selection:
    """Return the records of a scope of ids and a user."""
    listed, user = database.dialect.items, scope.user
    sessions, calls = listed + _NAMED_RUNS.format(items=listed), listed
    if user is not None:
        # Also what was delivered since these ids were selected.
        sessions += f" UNION {owned_sessions(database.dialect, USER, user)}"
        calls += f" UNION {owned_calls(database.dialect, USER, user)}"
    values = {"owner": user, "erased": scope.erased_ns}
    # Not in a temporary table: behind a pooler, the next transaction may not see it.
    named_ids = {*map(clean, scope.sessions)}, {*map(clean, scope.calls)}
    conditions = {} if user is None else _of_user(database)
    return Selection(sessions, calls, conditions, values, named_ids, scope.erased_ns, user is not None)


def _of_user(database: Database) -> dict[Table, str]:
    """Return the conditions on records with the user in their metadata, and on rewards of such records."""
    has = has_owner(database.dialect, USER)
    conditions = {
        table: f"{table.key} IN ({_HAS_USER.format(table=table.name, key=table.key, has=has)})" for table in _WITH_USERS
    }
    return conditions | {REWARDS: " OR ".join(conditions[table] for table in (REWARDS, EVENTS, TIMESTEPS))}


def _old_selection(database: Database, before_ns: int, quiet_ns: int, waiting_ids: Set[str] = frozenset()) -> Selection:
    """Return the records from before a time."""
    old = _old_records(database, before_ns, quiet_ns, waiting_ids)
    return Selection(f"{old.sessions} ORDER BY s.start_ns", old.calls, old.others, old.values, (set(), set()))


def _old_records(database: Database, before_ns: int, quiet_ns: int, waiting_ids: Set[str]) -> _OldRecords:
    times = {"before": before_ns, "quiet": min(before_ns, quiet_ns)}
    values = exited_processes(database, [_PROCESSES], times)
    if not waiting_ids:
        return _OldRecords(_OLD_SESSIONS, _OLD_CALLS, _OLD_OTHERS, values)
    waiting = database.dialect.items.replace(":items", ":waiting")
    in_no_waiting_session = f"coalesce(session_id, '') NOT IN ({waiting})"
    return _OldRecords(
        f"{_OLD_SESSIONS} AND s.session_id NOT IN ({waiting})",
        f"{_OLD_CALLS} AND {in_no_waiting_session} AND call_id NOT IN ({waiting})",
        {
            table: f"{condition} AND {in_no_waiting_session} AND {table.key} NOT IN ({waiting})"
            for table, condition in _OLD_OTHERS.items()
        },
        {**values, "waiting": items(waiting_ids)["items"]},
    )


def _counted(database: SqlDatabase, selection: Selection) -> Counter[str]:
    """Return the number of selected records by table, as a user who may only read finds it."""
    tables = {table.name: table for table in TABLES.values()}
    wheres = {
        name: f"({CONDITIONS[name]}) OR ({selection.conditions.get(table, '1 = 0')})" for name, table in tables.items()
    }
    counts = ", ".join(f"(SELECT count(*) FROM {name} WHERE {where})" for name, where in wheres.items())
    calls = selection.calls.replace(":items", ":call_items")
    # In place of the temporary tables, which may not be created without a right to.
    sql = f"""WITH gone_sessions (id) AS ({selection.sessions}),
      gone_calls (id) AS ({calls} UNION {_CALLS_OF_SESSIONS}) SELECT {counts}"""
    of_sessions, of_calls = map(items, selection.named_ids)
    values = {**selection.values, **of_sessions, "call_items": of_calls["items"]}
    return Counter(dict(zip(wheres, next(database.tuples(sql, values)), strict=True)))


def _deleted(database: SqlDatabase, selection: Selection) -> Iterator[Counter[str]]:
    """Delete the selected records in several transactions; yield the counts of each."""
    for delete in (_delete_sessions, _delete_calls, _delete_others):
        has_more = True
        while has_more:
            with database.transaction(exclusive=True):
                counts = delete(database, selection)
            has_more = counts is not None
            yield counts or Counter()


def _delete_sessions(database: SqlDatabase, selection: Selection) -> Counter[str] | None:
    """Delete a batch of sessions, each together with the last of its calls; return the counts, None if none is left."""
    _temporary(database)
    if not _choose_sessions(database, selection, SESSIONS_AT_ONCE):
        return None
    sql = f"INSERT INTO gone_calls {_CALLS_OF_SESSIONS} {LAST_OF_SESSIONS} LIMIT {CALLS_AT_ONCE}"
    if database.run(sql) >= CALLS_AT_ONCE:
        database.run("DELETE FROM gone_sessions")
    return _delete_chosen(database, selection)


def _delete_calls(database: SqlDatabase, selection: Selection) -> Counter[str] | None:
    """Delete a batch of calls; return the counts, None if none is left."""
    _temporary(database)
    if not _choose_calls(database, selection, CALLS_AT_ONCE):
        return None
    session_ids = [str(row[0]) for row in database.tuples(_REDUCED_SESSIONS)]
    counts = _delete_chosen(database, selection)
    for session_id in session_ids:
        trim(database, owner_of("", session_id))
    return counts


def _delete_chosen(database: SqlDatabase, selection: Selection) -> Counter[str]:
    """Delete the records of the ids in the temporary tables."""
    if selection.erased_ns is not None:
        erased = {digest_of_id(kind, str(row[0])) for kind, sql in REMEMBERED for row in database.tuples(sql)}
        database.remember(dict.fromkeys(erased, selection.erased_ns))
        remember_orders(database, VERSIONED, is_for_user=selection.is_for_user)
    changed = scored(database, CONDITIONS["rewards"], CONDITIONS["events"])
    owners, runs = (
        [str(row[0]) for row in database.tuples(_IN_RUNS.format(column, condition))]
        for column, condition in (("owner", "owner IS NOT NULL"), ("session_id", "inferred"))
    )
    counts = Counter(
        {table: database.run(f"DELETE FROM {table} WHERE {condition}") for table, condition in CONDITIONS.items()}
    )
    refresh(database, changed)
    for sql in (*_CONTENTS, _JOINTS):
        database.run(sql)
    for owner in owners:
        trim(database, owner)
        database.forget_numbers(owner)
    names = [{"owner": owner, "name": anonymous(owner)} for owner in owners if _is_gone(database, owner)]
    for sql in _RENAMED if names else ():
        database.run_many(sql, names)
    if runs:
        Runs(database).mend(runs)
        database.run(_RUN_IDS)
    for ids, table in zip(selection.named_ids, _GONE, strict=True):
        ids.difference_update(str(row[0]) for row in database.tuples(f"SELECT id FROM {table}"))
    return counts


def _is_gone(database: Database, owner: str) -> bool:
    """Return whether the call that contents are named by is being deleted."""
    return next(database.tuples("SELECT 1 FROM gone_calls WHERE id = :id", {"id": owner[2:]}), None) is not None


def remember_orders(
    database: Database, conditions: Mapping[Table, str], values: Values = NO_VALUES, *, is_for_user: bool
) -> None:
    """Remember the order of the versions that decide that these records are the user's.

    Otherwise forget the orders: records deleted by other conditions do not come back with a later version.
    """
    orders = dict[bytes, int]()
    for table, condition in conditions.items():
        stage = "part" if table is CALLS else "NULL"
        sql = f"SELECT {table.key}, {stage}, seen_ns FROM {table.name} WHERE {condition}"
        for key, part, seen_ns in database.tuples(sql, values):
            # A call that the erasure itself stored is 1 ns older than the same version from its process.
            later_ns = (seen_ns or 0) + (table is CALLS)
            orders[of_user(table.kind, str(key))] = as_number(order_key(part or "ended", later_ns))
    if is_for_user:
        database.remember(orders)
    else:
        database.forget(orders)


def names(dialect: Dialect, user: str) -> str:
    """Return whether a session `x` names a user, as its own or in its metadata."""
    in_metadata = f"x.metadata IS NOT NULL AND {has_owner(dialect, USER)}"
    return f"({names_owner(dialect, 'sessions', USER, user)} OR ({in_metadata}))"


def _delete_names(database: SqlDatabase, user: str, erased_ns: int) -> None:
    """Delete a user from the sessions that stay, since they are another user's too."""
    sql = f"""SELECT * FROM sessions x WHERE session_id > :last AND {names(database.dialect, user)}
        AND coalesce(start_ns, seen_ns) < :erased ORDER BY session_id LIMIT {_ROWS_AT_ONCE}"""
    last_key: str | None = ""
    while last_key is not None:
        with database.transaction(exclusive=True):
            values = {"last": last_key, "owner": user, "erased": erased_ns}
            rows = list(keyed_records(database, SESSIONS, sql, values))
            for key, record in rows:
                if record is not None:
                    _update(
                        database, SESSIONS, key, dict.fromkeys(SESSIONS.names) | row_of(without_users(record, [user]))
                    )
        last_key = rows[-1][0] if rows else None


def _delete_others(database: SqlDatabase, selection: Selection) -> Counter[str] | None:
    """Delete a batch of other records from the first table that has any; return its count, None if none is left."""
    for table, condition in selection.conditions.items():
        sql = f"SELECT {table.key} FROM {table.name} WHERE {condition} LIMIT {CALLS_AT_ONCE}"
        keys = [str(row[0]) for row in database.tuples(sql, selection.values)]
        if selection.erased_ns is not None and table in (EVENTS, TIMESTEPS):
            database.remember({digest_of_id(TARGET, key): selection.erased_ns for key in keys})
        changed = scored_by(database, keys)
        for batch_condition, parameters in in_batches(keys, table.key):
            if selection.erased_ns is not None and table is TIMESTEPS:
                remember_orders(database, {table: batch_condition}, parameters, is_for_user=selection.is_for_user)
            database.run(f"DELETE FROM {table.name} WHERE {batch_condition}", parameters)
        refresh(database, changed)
        if keys:
            return Counter({table.name: len(keys)})
    return None


def _choose_sessions(database: SqlDatabase, selection: Selection, max_number: int | None = None) -> int:
    """Choose selected sessions, at most `max_number`; return their number."""
    return _choose(database, "gone_sessions", selection.sessions, selection.values, selection.named_ids[0], max_number)


def _choose_calls(database: SqlDatabase, selection: Selection, max_number: int | None = None) -> int:
    """Choose selected calls, at most `max_number`; return their number."""
    return _choose(database, "gone_calls", selection.calls, selection.values, selection.named_ids[1], max_number)


def _choose(
    database: SqlDatabase, table: str, query: str, values: Values, named_ids: Iterable[str], max_number: int | None
) -> int:
    limit = "" if max_number is None else f" LIMIT {max_number}"
    return database.run(f"INSERT INTO {table} {query}{limit}", {**values, **items(islice(named_ids, max_number))})


def retain(database: SqlDatabase, times: RetentionTimes) -> Iterator[int]:
    """Delete expired records, then expired contents; yield the number of changed records of each transaction.

    Only one process at a time does this; any other yields nothing.
    """
    if not database.try_lock("retain"):
        return
    total = 0
    for number in chain(_removed(database, times), _reduced(database, times)):
        total += number
        yield number
    if total:
        database.finish()


def _removed(database: SqlDatabase, times: RetentionTimes) -> Iterator[int]:
    if times.before_ns is not None:
        selection = _old_selection(database, times.before_ns, times.quiet_ns, times.waiting_ids)
        for counts in _deleted(database, selection):
            yield counts.total()


def _temporary(database: SqlDatabase) -> None:
    """Make the temporary tables, empty, for the current transaction."""
    for name in _GONE:
        database.run(database.dialect.temporary.format(name=name))
        database.run(f"DELETE FROM {name}")


def _reduced(database: SqlDatabase, times: RetentionTimes) -> Iterator[int]:
    """Delete expired contents; yield the number of changed records of each transaction."""
    if times.content_before_ns is None:
        return
    old = _old_records(database, times.content_before_ns, times.quiet_ns, times.waiting_ids)
    conditions = {table: CONDITIONS[table.name] for table in TABLES.values()}
    for name, query, of_old in zip(_GONE, _NEXT, (old.sessions, old.calls), strict=True):
        last_id = ""
        while ids := [str(row[0]) for row in database.tuples(query.format(of_old), {**old.values, "after": last_id})]:
            yield from _reduce_rows(database, conditions, {**old.values, **items(ids)}, f"INSERT INTO {name} {{items}}")
            last_id = ids[-1]
    yield from _reduce_rows(database, old.others, old.values)


def _reduce_rows(
    database: SqlDatabase, conditions: Mapping[Table, str], values: Values, insertion: str | None = None
) -> Iterator[int]:
    """Delete the contents of the rows that match the conditions; yield the number of changed ones by transaction.

    `insertion` fills one of the temporary tables with the `items` of the values.
    """
    tables, last_key = [*conditions], ""
    while tables:
        number, remaining = 0, _ROWS_AT_ONCE
        with database.transaction(exclusive=True):
            _temporary(database)
            if insertion is not None:
                database.run(insertion.format(items=database.dialect.items), values)
            while tables and remaining:
                table = tables[0]
                sql = _TO_REDUCE.format(table=table.name, key=table.key, full=_full(table), condition=conditions[table])
                rows = list(keyed_records(database, table, sql, {**values, "last": last_key, "most": remaining}))
                number += sum(_reduce(database, table, key, record) for key, record in rows)
                if table.kind == "call":
                    _trim(database, [key for key, _ in rows])
                remaining -= len(rows)
                last_key = rows[-1][0] if rows and not remaining else ""
                tables = tables[bool(remaining) :]
        yield number


def _full(table: Table) -> str:
    """Return the condition that a row may have contents."""
    columns = " OR ".join(f"{name} IS NOT NULL" for name in CONTENTS[table.name])
    return f"{columns} OR content_level = 'full'" if table.kind == "call" else columns


def _trim(database: SqlDatabase, calls: Sequence[str]) -> None:
    """Delete the contents that these calls no longer refer to."""
    for condition, parameters in in_batches(calls, "call_id"):
        owners = database.tuples(f"SELECT owner, call_id, session_id FROM calls WHERE {condition}", parameters)
        for owner in {owner or owner_of(*ids) for owner, *ids in owners}:
            trim(database, owner)
        database.run(f"UPDATE calls SET offer = NULL WHERE {condition} AND offer IS NOT NULL", parameters)
        database.run(f"DELETE FROM joints WHERE {condition}", parameters)


def _reduce(database: SqlDatabase, table: Table, key: str, record: Record | None) -> bool:
    """Remove the content of a record, from a damaged one all text and JSON; return whether it had any."""
    reduced = None if record is None else at_level(record, "metadata", why="retention")
    if reduced is None:
        cells: dict[str, object] = dict.fromkeys(
            ("extra", *CONTENTS[table.name], *(column.name for column in table.columns if column.form == "json"))
        )
    elif reduced is record:
        return False
    else:
        cells = dict.fromkeys(table.names) | row_of(reduced)
    if table.kind == "call":
        cells |= {"content_level": getattr(reduced, "content_level", "metadata"), **dict.fromkeys(REFERENCES)}
    _update(database, table, key, cells)
    return True


def _update(database: SqlDatabase, table: Table, key: str, cells: Mapping[str, object]) -> None:
    """Change the cells of a row, except its key."""
    sets = ", ".join(f"{name} = :{name}" for name in cells if name != table.key)
    database.run(f"UPDATE {table.name} SET {sets} WHERE {table.key} = :key", {**cells, "key": key})
