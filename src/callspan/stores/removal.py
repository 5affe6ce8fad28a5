"""Removal: deletes records from SQLite and Postgres, by id or by age, with their contents."""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from callspan.record.content_level import at_level
from callspan.record.events import Record
from callspan.stores.aggregates import is_gone
from callspan.stores.base import DeletionScope
from callspan.stores.call_rows import keyed_records
from callspan.stores.columns import CONTENTS, EVENTS, MESSAGES, REFERENCES, REWARDS, TABLES, TIMESTEPS, Table
from callspan.stores.contents import trim
from callspan.stores.database import Database, Values, in_parts
from callspan.stores.erased import TARGET, digest_of_id, digests
from callspan.stores.payloads import owner_of, row_of
from callspan.stores.rewards import CALL_IDS

_SESSIONS_AT_ONCE, _CALLS_AT_ONCE, _ROWS_AT_ONCE = 100, 2_000, 100
"""Maximum numbers of sessions and calls in a transaction that deletes them, of rows in one that deletes contents."""
_WANTED: Final = ("wanted_sessions", "wanted_calls")
"""Temporary tables with the ids to delete at some time."""
_GONE: Final = ("gone_sessions", "gone_calls")
"""Temporary tables with the ids to delete in this transaction."""
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
_REMEMBERED: Final = (("call", "SELECT id FROM gone_calls"), ("call", _OTHER_IDS), (TARGET, _TARGETS))
"""Queries for the ids of records that go, which late records may name, with their kinds."""
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
_CALLS_OF_SESSIONS: Final = f"SELECT call_id FROM calls WHERE {_SESSION}"
_RUNS: Final = "c.outcome = 'in_progress'"
_ENDED: Final = "coalesce(s.end_ns, s.start_ns)"
_LIVES: Final = "s.host = :host AND replace(:living, ',' || s.pid || ',', '') <> :living"
_STAYS: Final = f"coalesce(c.seen_ns, 0) >= :before OR c.start_ns >= CASE WHEN {_RUNS} THEN :quiet ELSE :before END"
_OLD_SESSIONS: Final = f"""
SELECT s.session_id FROM sessions s
 WHERE {_ENDED} < :before AND s.seen_ns < :before
   AND (s.end_ns IS NOT NULL OR (s.seen_ns < :quiet AND ({_LIVES}) IS NOT TRUE))
   AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.session_id = s.session_id AND ({_STAYS}))
 ORDER BY {_ENDED}"""
"""Sessions in which nothing has happened since `:before`, and that have ended or are interrupted."""
_BY_ITSELF: Final = """NOT EXISTS (
  SELECT 1 FROM sessions s WHERE s.session_id = {table}.session_id AND s.end_ns IS NOT NULL)"""
"""The condition of a record that does not wait for the end of its session: it is of none, or of one without an end."""
_OLD_CALLS: Final = f"SELECT call_id FROM calls c WHERE NOT ({_STAYS}) AND {_BY_ITSELF.format(table='c')}"
_IS_OVER: Final = """(end_ns IS NOT NULL OR NOT EXISTS (
  SELECT 1 FROM sessions s WHERE s.session_id = timesteps.session_id))"""
_OLD_OTHERS: Final = {
    table: f"{time} < :before AND {_BY_ITSELF.format(table=table.name)}"
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
_BESIDE: Final = f"SELECT DISTINCT session_id FROM calls WHERE {_CALL} AND session_id IS NOT NULL"
"""Sessions that stay and lose calls."""
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


class _Wanted(NamedTuple):
    """What to delete."""

    sessions: str
    """The query for the ids of sessions, which go with all that is in them."""
    calls: str
    """The query for the ids of calls, which go with what names them."""
    others: Mapping[Table, str]
    """The conditions on records that go by themselves."""
    values: Values
    """The parameters of these."""
    after: Sequence[str] = ()
    """Statements to run in each transaction, after its ids were deleted."""
    erased_ns: int | None = None
    """When this was decided, Unix time: the store remembers the ids; None: it does not."""


def remove(
    database: Database, scope: DeletionScope, *, dry_run: bool = False, vacuum: bool = False
) -> tuple[Counter[str], str | None]:
    """Delete the chosen records and remember their ids; or delete all old ones, in batches. `dry_run`: only count.

    Return the number of records by table, and why deleted bytes may still be on disk; None if they are not, or only the
    server can know.
    """
    if scope.older_than_ns is not None:
        wanted = _old(database, scope.older_than_ns, scope.older_than_ns)
    else:
        wanted = _named(database, scope)
    if dry_run:
        return _counted(database, wanted), None
    with database.transaction(alone=True):
        _remember(database, digests(scope), scope.erased_ns)
    counts = sum(_deleted(database, wanted), Counter[str]())
    return counts, database.finish(vacuum=vacuum)


def _named(database: Database, scope: DeletionScope) -> _Wanted:
    """Return what a scope names by ids and a user."""
    with database.transaction():
        for name, ids in zip(_WANTED, (scope.sessions, scope.calls), strict=True):
            _temporary(database, name)
            database.many(f"INSERT INTO {name} VALUES (:id)", [{"id": one} for one in sorted(ids)])
    sessions, calls = (f"SELECT id FROM {name}" for name in _WANTED)
    after = [
        f"DELETE FROM {wanted} WHERE id IN (SELECT id FROM {gone})" for wanted, gone in zip(_WANTED, _GONE, strict=True)
    ]
    others = {} if scope.user is None else _of_user(database)
    return _Wanted(sessions, calls, others, {"user": scope.user}, after, scope.erased_ns)


def _of_user(database: Database) -> dict[Table, str]:
    """Return the conditions on records with `:user` in their own metadata, and on the rewards of these."""
    has = database.dialect.has.format(at="x.metadata, 'user_id'", value=":user")
    found = {
        table: f"{table.key} IN ({_HAS_USER.format(table=table.name, key=table.key, has=has)})" for table in _WITH_USERS
    }
    return found | {REWARDS: " OR ".join(found[table] for table in (REWARDS, EVENTS, TIMESTEPS))}


def _old(database: Database, before_ns: int, quiet_ns: int) -> _Wanted:
    """Return what is from before a time."""
    host = socket.gethostname()
    living = {pid for _, pid in database.tuples(_RUNNING, {"host": host}) if not is_gone(host, pid)}
    texts = {"host": host, "living": "".join(f",{pid}," for pid in living)}
    values = {"before": before_ns, "quiet": min(before_ns, quiet_ns), **texts}
    return _Wanted(_OLD_SESSIONS, _OLD_CALLS, _OLD_OTHERS, values)


def _counted(database: Database, wanted: _Wanted) -> Counter[str]:
    """Return the numbers of wanted records, by table."""
    found = Counter[str]()
    with database.transaction(alone=True):
        _choose_all(database, wanted)
        database.run(f"INSERT INTO gone_calls {_CALLS_OF_SESSIONS} ON CONFLICT DO NOTHING")
        for table in TABLES.values():
            where = f"({_CHOSEN[table.name]}) OR ({wanted.others.get(table, '1 = 0')})"
            found[table.name] = next(
                database.tuples(f"SELECT count(*) FROM {table.name} WHERE {where}", wanted.values)
            )[0]
    return found


def _deleted(database: Database, wanted: _Wanted) -> Iterator[Counter[str]]:
    """Delete wanted records, in transactions of some each; yield the counts of each."""
    has_more = True
    while has_more:
        with database.transaction(alone=True):
            counts = _delete_sessions(database, wanted) or _delete_calls(database, wanted)
            has_more = counts is not None
            counts = counts or _delete_others(database, wanted)
        yield counts
        has_more = has_more or counts.total() > 0


def _delete_sessions(database: Database, wanted: _Wanted) -> Counter[str] | None:
    """Delete some sessions, each with the last of its calls; return the counts, None if there are none."""
    _temporary(database, *_GONE)
    if not database.run(f"INSERT INTO gone_sessions {wanted.sessions} LIMIT {_SESSIONS_AT_ONCE}", wanted.values):
        return None
    some = f"INSERT INTO gone_calls {_CALLS_OF_SESSIONS} LIMIT {_CALLS_AT_ONCE}"
    if database.run(some) >= _CALLS_AT_ONCE:
        database.run("DELETE FROM gone_sessions")
    return _delete_chosen(database, wanted)


def _delete_calls(database: Database, wanted: _Wanted) -> Counter[str] | None:
    """Delete some calls; return the counts, None if there are none."""
    if not database.run(f"INSERT INTO gone_calls {wanted.calls} LIMIT {_CALLS_AT_ONCE}", wanted.values):
        return None
    beside = [str(row[0]) for row in database.tuples(_BESIDE)]
    counts = _delete_chosen(database, wanted)
    for session_id in beside:
        trim(database, owner_of("", session_id))
    return counts


def _delete_chosen(database: Database, wanted: _Wanted) -> Counter[str]:
    """Delete the records with the ids in the temporary tables."""
    if wanted.erased_ns is not None:
        erased = {digest_of_id(kind, str(row[0])) for kind, sql in _REMEMBERED for row in database.tuples(sql)}
        _remember(database, erased, wanted.erased_ns)
    counts = Counter({table: database.run(f"DELETE FROM {table} WHERE {chosen}") for table, chosen in _CHOSEN.items()})
    for sql in (*_CONTENTS, *wanted.after):
        database.run(sql)
    return counts


def _delete_others(database: Database, wanted: _Wanted) -> Counter[str]:
    """Delete some of the records that go by themselves, of the first table that has any."""
    for table, condition in wanted.others.items():
        sql = f"SELECT {table.key} FROM {table.name} WHERE {condition} LIMIT {_CALLS_AT_ONCE}"
        keys = [str(row[0]) for row in database.tuples(sql, wanted.values)]
        if wanted.erased_ns is not None and table in (EVENTS, TIMESTEPS):
            _remember(database, [digest_of_id(TARGET, key) for key in keys], wanted.erased_ns)
        for chosen, names in in_parts(keys, table.key):
            database.run(f"DELETE FROM {table.name} WHERE {chosen}", names)
        if keys:
            return Counter({table.name: len(keys)})
    return Counter()


def _choose_all(database: Database, wanted: _Wanted) -> None:
    _temporary(database, *_GONE)
    for name, sql in zip(_GONE, (wanted.sessions, wanted.calls), strict=True):
        database.run(f"INSERT INTO {name} {sql}", wanted.values)


def retain(database: Database, keep: Keep) -> Iterator[int]:
    """Delete old records, then the content of less old ones; yield the number of changed records of each transaction.

    One process at a time does this; in any other nothing is yielded.
    """
    if not database.try_lock("retain"):
        return
    changed = 0
    for number in chain(_removed(database, keep), _reduced(database, keep)):
        changed += number
        yield number
    if changed:
        database.finish()


def _removed(database: Database, keep: Keep) -> Iterator[int]:
    if keep.before_ns is not None:
        for counts in _deleted(database, _old(database, keep.before_ns, keep.quiet_ns)):
            yield counts.total()


def _temporary(database: Database, *tables: str) -> None:
    for name in tables:
        database.run(f"CREATE TEMP TABLE IF NOT EXISTS {name} (id text PRIMARY KEY)")
        database.run(f"DELETE FROM {name}")


def _remember(database: Database, erased: Collection[bytes], erased_ns: int) -> None:
    sql = "INSERT INTO erased (id, time_ns) VALUES (:id, :time_ns) ON CONFLICT (id) DO UPDATE SET time_ns = :time_ns"
    database.many(sql, [{"id": found, "time_ns": erased_ns} for found in erased])


def _reduced(database: Database, keep: Keep) -> Iterator[int]:
    """Delete the content of old records; yield the number of changed records of each transaction."""
    if keep.content_before_ns is None:
        return
    wanted = _old(database, keep.content_before_ns, keep.quiet_ns)
    values = {**wanted.values, "most": _ROWS_AT_ONCE}
    with database.transaction(alone=True):
        _choose_all(database, wanted)
    for table in TABLES.values():
        chosen = " OR ".join(filter(None, (_CHOSEN[table.name], wanted.others.get(table))))
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


def _trim(database: Database, calls: Sequence[str]) -> None:
    """Delete the contents of calls that do not refer to them any more."""
    for chosen, names in in_parts(calls, "call_id"):
        owners = database.tuples(f"SELECT call_id, session_id FROM calls WHERE {chosen}", names)
        for owner in {owner_of(*ids) for ids in owners}:
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
