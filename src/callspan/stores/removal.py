"""Removal: deletes records from SQLite and Postgres, by id or by age, with their contents."""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from callspan.record.content_level import at_level
from callspan.record.events import Record
from callspan.stores.aggregates import is_gone
from callspan.stores.base import DeletionResult, DeletionScope
from callspan.stores.call_rows import keyed_records
from callspan.stores.columns import CONTENTS, EVENTS, MESSAGES, REFERENCES, REWARDS, TABLES, TIMESTEPS, Table
from callspan.stores.contents import owner_of, trim
from callspan.stores.database import Database, Values, in_parts
from callspan.stores.erased import TARGET, digest_of_id, digests
from callspan.stores.payloads import row_of
from callspan.stores.rewards import CALL_IDS

_SESSIONS_AT_ONCE, _CALLS_AT_ONCE, _ROWS_AT_ONCE = 100, 2_000, 100
"""Maximum numbers of sessions and calls in a transaction that deletes them, of rows in one that deletes contents."""
_CONTENT: Final = "contents"
_GONE: Final = ("gone_sessions", "gone_calls")
"""Temporary tables with the ids to delete."""
_SESSION: Final = "session_id IN (SELECT id FROM gone_sessions)"
_CALL: Final = "call_id IN (SELECT id FROM gone_calls)"
_OTHER_IDS: Final = " UNION ".join(
    f"""SELECT c.{name} FROM calls c WHERE c.{_CALL} AND c.{name} IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM calls o
        WHERE o.{name} = c.{name} AND (o.start_ns, o.call_id) < (c.start_ns, c.call_id))"""
    for name in CALL_IDS[1:]
)
"""The other ids by which a late reward may name the calls; of several calls with an id it is that of the first."""
_REWARDS: Final = f"""{_SESSION} OR {_CALL}
  OR timestep_id IN (SELECT t.timestep_id FROM timesteps t WHERE t.{_SESSION})
  OR event_id IN (SELECT e.event_id FROM events e WHERE e.{_SESSION} OR e.{_CALL})"""
_TARGETS: Final = f"""SELECT timestep_id FROM timesteps WHERE {_SESSION}
UNION SELECT event_id FROM events WHERE {_SESSION} OR {_CALL}"""
"""Other targets of rewards: timesteps and events."""
_CHOSEN: Final = {
    "rewards": _REWARDS,
    "events": f"{_SESSION} OR {_CALL}",
    "messages": f"{_SESSION} OR {_CALL}",
    "timesteps": _SESSION,
    "calls": f"{_SESSION} OR {_CALL}",
    "sessions": _SESSION,
}
"""Conditions by table, in the order of deletion: who is killed finds the rest by the rows of sessions and calls."""
_WITH_USERS: Final = (REWARDS, EVENTS, TIMESTEPS, MESSAGES)
"""Tables whose rows may carry a user in their metadata alone, in the order of deletion."""
_HAS_USER: Final = "SELECT x.{key} FROM {table} x WHERE {has}"
_ADD_CALLS: Final = f"INSERT INTO gone_calls SELECT call_id FROM calls WHERE {_SESSION} ON CONFLICT DO NOTHING"
_RUNS: Final = "c.outcome = 'in_progress'"
_ENDED: Final = "coalesce(s.end_ns, s.start_ns)"
_LIVES: Final = "s.host = :host AND replace(:living, ',' || s.pid || ',', '') <> :living"
_STAYS: Final = f"coalesce(c.seen_ns, 0) >= :before OR c.start_ns >= CASE WHEN {_RUNS} THEN :quiet ELSE :before END"
_OLD_SESSIONS: Final = f"""
SELECT s.session_id FROM sessions s
 WHERE {_ENDED} < :before AND s.seen_ns < :before
   AND (s.end_ns IS NOT NULL OR (s.seen_ns < :quiet AND ({_LIVES}) IS NOT TRUE))
   AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.session_id = s.session_id AND ({_STAYS}))"""
"""Sessions in which nothing has happened since `:before`, and that have ended or are interrupted."""
_BY_ITSELF: Final = """NOT EXISTS (
  SELECT 1 FROM sessions s WHERE s.session_id = {table}.session_id AND s.end_ns IS NOT NULL)"""
"""The condition of a record that does not wait for the end of its session: it is of none, or of one without an end."""
_OLD_CALLS: Final = f"SELECT call_id FROM calls c WHERE NOT ({_STAYS}) AND {_BY_ITSELF.format(table='c')}"
_IS_OVER: Final = """(end_ns IS NOT NULL OR NOT EXISTS (
  SELECT 1 FROM sessions s WHERE s.session_id = timesteps.session_id))"""
_OLD_OTHERS: Final = {
    table.name: f"{time} < :before AND {_BY_ITSELF.format(table=table.name)}"
    for table, time in (
        (TIMESTEPS, f"{_IS_OVER} AND coalesce(end_ns, start_ns)"),
        *((one, "time_ns") for one in (EVENTS, MESSAGES, REWARDS)),
    )
}
"""Conditions on old rows in the other tables."""
_RUNNING: Final = "SELECT DISTINCT host, pid FROM sessions WHERE end_ns IS NULL AND host = :host"
_CONTENTS: Final = (
    "DELETE FROM contents WHERE owner IN (SELECT 's:' || id FROM gone_sessions)",
    "DELETE FROM contents WHERE owner IN (SELECT 'c:' || id FROM gone_calls)",
)
_BESIDE: Final = f"""
SELECT DISTINCT session_id FROM calls WHERE {_CALL} AND session_id IS NOT NULL
   AND session_id NOT IN (SELECT id FROM gone_sessions)"""
"""Sessions that stay, or go later, and lose calls."""
_TO_REDUCE: Final = """
SELECT * FROM {table} WHERE {key} IN (
  SELECT {key} FROM {table} WHERE {key} > :last AND ({full}) AND ({chosen}) ORDER BY {key} LIMIT :most)
 ORDER BY {key}"""


class Keep(NamedTuple):
    """How long a store keeps what."""

    quiet_ns: int
    """A session without an end is deleted only if its process is gone and it has no activity since this Unix time."""
    before_ns: int | None = None
    """Delete sessions that ended before this Unix time; None: no session."""
    content_before_ns: int | None = None
    """Delete the content of sessions that ended before this Unix time; None: of no session."""


def remove(database: Database, scope: DeletionScope, *, dry_run: bool = False, vacuum: bool = False) -> DeletionResult:
    """Delete the chosen records and remember their ids; or delete all old ones, in batches. `dry_run`: only count."""
    if scope.older_than_ns is not None:
        parts = _old(database, scope.older_than_ns, scope.older_than_ns, dry_run=dry_run)
    else:
        parts = chain(
            _counted(database, scope) if dry_run else _chosen(database, scope),
            _of_user_alone(database, scope, dry_run=dry_run),
        )
    counts = sum(parts, Counter[str]())
    numbers: dict[str, Any] = {table.name: counts[table.name] for table in TABLES.values()}
    if dry_run:
        return DeletionResult(**numbers)
    return DeletionResult(**numbers, contents=counts[_CONTENT], left=database.finish(vacuum=vacuum))


def _counted(database: Database, scope: DeletionScope) -> Iterator[Counter[str]]:
    """Yield the counts of the chosen records."""
    with database.transaction(alone=True):
        _choose(database, scope.sessions, scope.calls)
        database.run(_ADD_CALLS)
        yield _take(database, dry_run=True)


def _chosen(database: Database, scope: DeletionScope) -> Iterator[Counter[str]]:
    """Delete the chosen records, in transactions of some calls each; yield the counts of each."""
    with database.transaction(alone=True):
        _choose(database, ())
        _remember(database, digests(scope), scope.erased_ns)
    parts: list[tuple[Sequence[str], Sequence[str]]]
    parts = [((), some) for some in _in_lists(scope.calls, _CALLS_AT_ONCE)]
    parts += [(some, ()) for some in _in_lists(scope.sessions, _SESSIONS_AT_ONCE)]
    for sessions, calls in parts:
        has_more = True
        while has_more:
            with database.transaction(alone=True):
                _choose(database, sessions, calls)
                has_more = _add_calls_of_sessions(database)
                _remember_others(database, scope.erased_ns)
                some = _take(database, finally_sessions=not has_more)
            yield some


def _in_lists(ids: Collection[str], most: int) -> list[Sequence[str]]:
    known = sorted(ids)
    return [known[start : start + most] for start in range(0, len(known), most)]


def _of_user(database: Database) -> dict[str, str]:
    """Return, by table, the conditions on records with `:user` in their own metadata, and on the rewards of these."""
    has = database.dialect.has.format(at="x.metadata, 'user_id'", value=":user")
    found = {table: _HAS_USER.format(table=table.name, key=table.key, has=has) for table in _WITH_USERS}
    targets = [f"{table.key} IN ({found[table]})" for table in (EVENTS, TIMESTEPS)]
    return {table.name: f"{table.key} IN ({sql})" for table, sql in found.items()} | {
        "rewards": " OR ".join((f"reward_id IN ({found[REWARDS]})", *targets))
    }


def _of_user_alone(database: Database, scope: DeletionScope, *, dry_run: bool) -> Iterator[Counter[str]]:
    """Delete, or count, a user's records that are not among the chosen ones, in small transactions."""
    for name, of_user in () if scope.user is None else _of_user(database).items():
        table = next(table for table in _WITH_USERS if table.name == name)
        sql = f"SELECT {table.key} FROM {name} WHERE ({of_user}) AND ({_CHOSEN[name]}) IS NOT TRUE"
        keys = [row[0] for row in database.tuples(sql, {"user": scope.user})]
        for chosen, names in in_parts(keys, table.key):
            if dry_run:
                yield Counter({name: len(names)})
                continue
            with database.transaction(alone=True):
                if table in (EVENTS, TIMESTEPS):
                    _remember(database, [digest_of_id(TARGET, str(key)) for key in names.values()], scope.erased_ns)
                some = Counter({name: database.run(f"DELETE FROM {name} WHERE {chosen}", names)})
            yield some


def _choose(database: Database, sessions: Collection[str], calls: Collection[str] = ()) -> None:
    _temporary(database, *_GONE)
    for name, ids in zip(_GONE, (sessions, calls), strict=True):
        database.many(f"INSERT INTO {name} VALUES (:id)", [{"id": one} for one in ids])


def retain(database: Database, keep: Keep) -> Iterator[int]:
    """Delete old records, then the content of less old ones; yield the number of changed records of each transaction.

    One process at a time does this; in any other nothing is yielded.
    """
    if not database.try_lock("retain"):
        return
    changed = 0
    if keep.before_ns is not None:
        for some in _old(database, keep.before_ns, keep.quiet_ns):
            changed += some.total()
            yield some.total()
    if keep.content_before_ns is not None:
        for number in _reduced(database, keep.content_before_ns, keep.quiet_ns):
            changed += number
            yield number
    if changed:
        database.finish()


def _old(database: Database, before_ns: int, quiet_ns: int, *, dry_run: bool = False) -> Iterator[Counter[str]]:
    """Delete old records, in transactions of some sessions and calls each; yield the counts of each."""
    values = _ages(database, before_ns, quiet_ns)
    yield from _take_others(database, values, dry_run=dry_run)
    limits = ("", "") if dry_run else (f" ORDER BY {_ENDED} LIMIT {_SESSIONS_AT_ONCE}", f" LIMIT {_CALLS_AT_ONCE}")
    while True:
        with database.transaction(alone=True):
            _temporary(database, *_GONE)
            found = 0
            for name, sql, limit in zip(_GONE, (_OLD_SESSIONS, _OLD_CALLS), limits, strict=True):
                found += database.run(f"INSERT INTO {name} {sql}{limit}", values)
            has_more = not dry_run and _add_calls_of_sessions(database)
            if dry_run:
                database.run(_ADD_CALLS)
            counts = _take(database, dry_run=dry_run, finally_sessions=not has_more)
        yield counts
        if not found or dry_run:
            return


def _take_others(database: Database, values: Values, *, dry_run: bool) -> Iterator[Counter[str]]:
    for table in (TIMESTEPS, EVENTS, MESSAGES, REWARDS):
        condition, number = _OLD_OTHERS[table.name], _CALLS_AT_ONCE
        if not dry_run:
            some = f"SELECT {table.key} FROM {table.name} WHERE {condition} LIMIT {_CALLS_AT_ONCE}"
            condition = f"{table.key} IN ({some})"
        while number == _CALLS_AT_ONCE:
            with database.transaction(alone=True):
                number = _delete(database, table.name, condition, values, dry_run=dry_run)
            yield Counter({table.name: number})


def _ages(database: Database, before_ns: int, quiet_ns: int) -> dict[str, object]:
    """Return the parameters of the conditions on old records."""
    host = socket.gethostname()
    living = {pid for _, pid in database.tuples(_RUNNING, {"host": host}) if not is_gone(host, pid)}
    texts = {"host": host, "living": "".join(f",{pid}," for pid in living)}
    return {"before": before_ns, "quiet": min(before_ns, quiet_ns), **texts}


def _take(database: Database, *, dry_run: bool = False, finally_sessions: bool = True) -> Counter[str]:
    """Delete, or count, the records with the ids in the temporary tables; a session with the last of its calls."""
    beside = [] if dry_run else [str(row[0]) for row in database.tuples(_BESIDE)]
    if not finally_sessions:
        # Their contents go with the sessions.
        beside = []
        database.run("DELETE FROM gone_sessions")
    counts = Counter({
        table: _delete(database, table, chosen, {}, dry_run=dry_run) for table, chosen in _CHOSEN.items()
    })  # fmt: skip
    if not dry_run:
        counts[_CONTENT] = sum(database.run(sql) for sql in _CONTENTS)
        counts[_CONTENT] += sum(trim(database, owner_of("", session_id)) for session_id in beside)
    return counts


def _add_calls_of_sessions(database: Database) -> bool:
    """Add the next calls of the chosen sessions to the ids to delete; return whether there are more."""
    found = database.run(f"{_ADD_CALLS.replace(' ON CONFLICT', f' LIMIT {_CALLS_AT_ONCE} ON CONFLICT')}")
    return found >= _CALLS_AT_ONCE


def _delete(database: Database, table: str, condition: str, values: Values, *, dry_run: bool) -> int:
    if dry_run:
        return int(next(database.tuples(f"SELECT count(*) FROM {table} WHERE {condition}", values))[0])
    return database.run(f"DELETE FROM {table} WHERE {condition}", values)


def _temporary(database: Database, *tables: str) -> None:
    for name in tables:
        database.run(f"CREATE TEMP TABLE IF NOT EXISTS {name} (id text PRIMARY KEY)")
        database.run(f"DELETE FROM {name}")


def _remember_others(database: Database, erased_ns: int) -> None:
    """Remember the other ids of erased records."""
    others = [digest_of_id("call", str(row[0])) for row in database.tuples(_OTHER_IDS)]
    others += [digest_of_id(TARGET, str(row[0])) for row in database.tuples(_TARGETS)]
    calls = [digest_of_id("call", str(row[0])) for row in database.tuples("SELECT id FROM gone_calls")]
    _remember(database, {*others, *calls}, erased_ns)


def _remember(database: Database, erased: Collection[bytes], erased_ns: int) -> None:
    sql = "INSERT INTO erased (id, time_ns) VALUES (:id, :time_ns) ON CONFLICT (id) DO UPDATE SET time_ns = :time_ns"
    database.many(sql, [{"id": found, "time_ns": erased_ns} for found in erased])


def _reduced(database: Database, before_ns: int, quiet_ns: int) -> Iterator[int]:
    """Delete the content of old records; yield the number of changed records of each transaction."""
    values = {**_ages(database, before_ns, quiet_ns), "most": _ROWS_AT_ONCE}
    with database.transaction(alone=True):
        _temporary(database, *_GONE)
        for name, sql in zip(_GONE, (_OLD_SESSIONS, _OLD_CALLS), strict=True):
            database.run(f"INSERT INTO {name} {sql}", values)
    for table in TABLES.values():
        chosen = " OR ".join(filter(None, (_CHOSEN[table.name], _OLD_OTHERS.get(table.name))))
        full = " OR ".join(f"{name} IS NOT NULL" for name in CONTENTS[table.name])
        full += " OR content_level = 'full'" if table.kind == "call" else ""
        sql = _TO_REDUCE.format(table=table.name, key=table.key, full=full, chosen=chosen)
        last: str | None = ""
        while last is not None:
            with database.transaction(alone=True):
                rows = list(keyed_records(database, table, sql, {**values, "last": last}))
                number = sum(_reduce(database, table, key, record) for key, record in rows)
                if table.kind == "call":
                    _trim(database, [key for key, _ in rows])
            yield number
            last = rows[-1][0] if rows else None


def _trim(database: Database, calls: Collection[str]) -> None:
    """Delete the contents of calls that do not refer to them any more."""
    owners = set[str]()
    for call_id in calls:
        row = next(database.tuples("SELECT session_id FROM calls WHERE call_id = :id", {"id": call_id}))
        owners.add(owner_of(call_id, row[0]))
    for owner in owners:
        trim(database, owner)


def _reduce(database: Database, table: Table, key: str, record: Record | None) -> bool:
    """Write a record without its content, return whether it had any; of a damaged one all texts and all JSON go."""
    reduced = None if record is None else at_level(record, "metadata", why="retention")
    if reduced is None:
        cells: dict[str, object] = dict.fromkeys(
            ("extra", *CONTENTS[table.name], *(one.name for one in table.columns if one.form == "json"))
        )
    elif reduced is record:
        return False
    else:
        cells = dict.fromkeys(table.names) | row_of(reduced)
        cells.pop(table.key)
    if table.kind == "call":
        cells |= {"content_level": getattr(reduced, "content_level", "metadata"), **dict.fromkeys(REFERENCES)}
    sets = ", ".join(f"{name} = :{name}" for name in cells)
    database.run(f"UPDATE {table.name} SET {sets} WHERE {table.key} = :key", {**cells, "key": key})
    return True
