"""Rewards: reads what sessions and what is in them were given, also by rewards that name no session, and its sums."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from callspan.record import reward_sums
from callspan.record.events import EventRecord, RewardRecord, record_key
from callspan.stores import aggregates
from callspan.stores.base import Event
from callspan.stores.call_rows import record_of
from callspan.stores.columns import REWARDS
from callspan.stores.database import Database, Values, in_parts

CALL_IDS: Final = ("call_id", "response_id", "request_id", "span_id")
"""By which a reward may name a call: what its process does not know is kept as it was given."""


class _Target(NamedTuple):
    """What a reward without a session may name."""

    table: str
    column: str
    """The column of `rewards` that names it."""
    ids: tuple[str, ...]
    """The columns of its table with an id by which it is named."""
    taken: tuple[str, ...]
    """What the reward takes from it."""


_TARGETS: Final = (
    _Target("events", "event_id", ("event_id",), ("session_id", "timestep_id")),
    _Target("calls", "call_id", CALL_IDS, ("call_id", "session_id", "timestep_id")),
    _Target("timesteps", "timestep_id", ("timestep_id",), ("session_id",)),
)
"""The narrowest first: a reward that names several is of that one's session and timestep."""
_SESSIONS: Final = tuple(_Target(table, "session_id", ("session_id",), ()) for table in ("sessions", "calls"))
_UNKNOWN: Final = """({column} IS NULL OR {column} NOT IN (SELECT {known} FROM {table} WHERE {known} IN (
  SELECT {column} FROM rewards WHERE {column} IS NOT NULL)))"""
UNJOINED: Final = " AND ".join((
    "coalesce(session_id, timestep_id, call_id, event_id) IS NOT NULL",
    *(
        _UNKNOWN.format(column=target.column, table=target.table, known=one)
        for target in (*_SESSIONS, *_TARGETS)
        for one in target.ids
    ),
))  # fmt: skip
"""The condition on rewards of which the store has nothing that they name."""
_STEP: Final = "event_id, session_id, timestep_id, event_type, time_ns, sequence, reward"


def calls_named(database: Database, ids: Collection[str]) -> dict[str, str]:
    """Return which call each of these ids names, if any: of several with it, the first that began."""
    found = dict[str, str]()
    for column in CALL_IDS:
        for chosen, names in in_parts([one for one in ids if one not in found], column):
            sql = f"SELECT {column}, call_id FROM calls WHERE {chosen} ORDER BY start_ns, call_id"
            for ident, call_id in database.tuples(sql, names):
                found.setdefault(ident, call_id)
    return found


def given(database: Database, chosen: str, names: Values) -> dict[str, list[RewardRecord]]:
    """Return the rewards that the chosen sessions, and what is in them, were given, by session."""
    found: dict[str, list[RewardRecord]] = defaultdict(list)
    for row in database.rows(f"SELECT * FROM rewards WHERE {chosen}", names):
        found[str(row["session_id"])].append(record_of(REWARDS, row, RewardRecord))
    for record in given_by_id(database, chosen, names):
        found[str(record.session_id)].append(record)
    return found


def given_by_id(database: Database, chosen: str, names: Values) -> list[RewardRecord]:
    """Return rewards without a session that name something of the chosen sessions, with that session."""
    found = dict[str, RewardRecord]()
    for number, target in enumerate(_TARGETS):
        for record in _given_to(database, target, chosen, names):
            if record.reward_id not in found and not _is_of(database, _TARGETS[:number], record):
                found[record.reward_id] = record
    return [*found.values()]


def _is_of(database: Database, targets: Sequence[_Target], record: RewardRecord) -> bool:
    """Return whether a reward is of another session, in which is one of these targets that it names, too."""
    for target in targets:
        ident = getattr(record, target.column)
        if ident is not None and target.column == "call_id":
            ident = calls_named(database, [ident]).get(ident)
        sql = f"SELECT 1 FROM {target.table} WHERE {target.ids[0]} = :id AND session_id IS NOT NULL LIMIT 1"
        if ident is not None and next(database.tuples(sql, {"id": ident}), None) is not None:
            return True
    return False


def _given_to(database: Database, target: _Target, chosen: str, names: Values) -> Iterator[RewardRecord]:
    """Yield those that name one kind of thing."""
    loose = f"SELECT 1 FROM rewards WHERE session_id IS NULL AND {target.column} IS NOT NULL"
    # Where the index of the column has only such rewards, its order is what has SQLite use it.
    order = "" if target.column == "call_id" else f" ORDER BY {target.column}"
    if next(database.tuples(f"{loose}{order} LIMIT 1"), None) is None:
        return
    columns = ", ".join(f"{one} AS of_{one}" for one in dict.fromkeys((*target.ids, *target.taken)))
    taken = ", ".join(f"t.of_{one}" for one in target.taken)
    # In this order SQLite reads the rewards of what was found, not all that have no session.
    sql = f"""SELECT r.*, {taken} FROM (SELECT {columns} FROM {target.table} WHERE {chosen}) t CROSS JOIN rewards r
      WHERE r.session_id IS NULL AND"""
    rows = [row for one in target.ids for row in database.rows(f"{sql} r.{target.column} = t.of_{one}", names)]
    first = calls_named(database, {str(row["call_id"]) for row in rows}) if target.column == "call_id" else {}
    for row in rows:
        of = {one: row[f"of_{one}"] for one in target.taken if row[f"of_{one}"] is not None}
        if target.column != "call_id" or first.get(str(row["call_id"])) == of["call_id"]:
            yield record_of(REWARDS, {**row, **of}, RewardRecord)


def _own_rewards(
    database: Database, columns: str, chosen: str, names: Values, grouped: str = ""
) -> Iterator[tuple[Any, ...]]:
    """Yield columns of the events that have a reward themselves."""
    yield from database.tuples(f"SELECT {columns} FROM events WHERE {chosen} AND reward IS NOT NULL {grouped}", names)


def _rewarded_twice(
    database: Database, chosen: str, names: Values, records: Mapping[str, Sequence[RewardRecord]]
) -> dict[str, set[str]]:
    """Return the events that have a reward themselves, of those that were given one, by session."""
    asked = {(key, one.event_id) for key, some in records.items() for one in some if one.event_id is not None}
    found: dict[str, set[str]] = defaultdict(set)
    if asked:
        for key, event_id in asked.intersection(_own_rewards(database, "session_id, event_id", chosen, names)):
            found[key].add(str(event_id))
    return found


def sums_by_session(
    database: Database, chosen: str, names: Values, records: Mapping[str, Sequence[RewardRecord]]
) -> dict[str, reward_sums.RewardSums]:
    """Return the sums of the chosen sessions, which were given these: equal rewards of events are one row each."""
    twice = _rewarded_twice(database, chosen, names, records)
    found: dict[str, reward_sums.RewardSums] = defaultdict(lambda: reward_sums.NO_REWARD)
    for key, some in records.items():
        found[key] = aggregates.rewards_of(some, of_calls=True, rewarded=twice[key])
    equal = "GROUP BY session_id, reward"
    for key, value, number in _own_rewards(database, "session_id, reward, count(*)", chosen, names, equal):
        found[key] = found[key].plus(reward_sums.times(value, number))
    return found


def sums_by_step(
    database: Database, session_id: str, parents: Mapping[str, str | None]
) -> dict[str, reward_sums.RewardSums]:
    """Return the sums of a session by timestep, see `aggregates.rewards_by_step`."""
    chosen, names = "session_id = :id", {"id": session_id}
    records: list[Event] = [*given(database, chosen, names)[session_id]]
    # There may be very many: this takes a fifth of `record_of`.
    fields = _STEP.split(", ")
    own = _own_rewards(database, _STEP, chosen, names)
    records += (EventRecord(**dict(zip(fields, row, strict=True))) for row in own)
    return aggregates.rewards_by_step(records, parents)


def reward_curve(database: Database, chosen: str, names: Values) -> dict[str, list[tuple[int, float]]]:
    """Return the reward so far after each that was given to the chosen sessions, by session, with its time."""
    records = given(database, chosen, names)
    twice = _rewarded_twice(database, chosen, names, records)
    found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    own = "session_id, time_ns, coalesce(sequence, 0), 'event', event_id, reward"
    for session_id, *order, value in _own_rewards(database, own, chosen, names):
        found[session_id].append((*order, value))
    for session_id, some in records.items():
        for one in aggregates.counted(some, twice[session_id]):
            if isinstance(one, RewardRecord) and reward_sums.sums_of(one).events is not None:
                found[session_id].append((one.time_ns, 0, *record_key(one), one.value))
    return {
        session_id: list(reward_sums.running((time_ns, value) for time_ns, *_, value in sorted(some)))
        for session_id, some in found.items()
    }
