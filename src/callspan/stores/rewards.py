"""Rewards: joins rewards with their targets when either is written, and reads the rewards of sessions and their sums.

A reward may name its call by an id of the provider, without a session. Its row then gets the call's own id and the
session and timestep of its target, whichever of the two is stored first.
"""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from callspan.record import reward_sums
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, Record, RewardRecord, SessionRecord, TimestepRecord, record_key
from callspan.stores.call_rows import record_of
from callspan.stores.columns import CALL_IDS, REWARDS
from callspan.stores.database import Database, Values, items

_Summed = TypeVar("_Summed", SessionRecord, TimestepRecord)
_NAMING: Final = """
SELECT reward_id FROM rewards WHERE call_id IN ({items})
UNION SELECT reward_id FROM rewards WHERE session_id IS NULL AND event_id IN ({items})
UNION SELECT reward_id FROM rewards WHERE session_id IS NULL AND timestep_id IN ({items})"""
_ORIGIN: Final = (
    "coalesce(c.provider, '') || ' ' || coalesce(c.model_resp, '') || ' ' || coalesce(c.response_created, 0)"
)
"""What tells an answer from another one with its id."""
_NAMED: Final = ", ".join(
    f"""(SELECT CASE WHEN count(DISTINCT {_ORIGIN}) = 1 THEN (SELECT c.call_id FROM calls c
        WHERE c.{name} = rewards.call_id ORDER BY c.cached IS NOT NULL, c.start_ns, c.call_id LIMIT 1) END
      FROM calls c WHERE c.{name} = rewards.call_id)"""
    for name in CALL_IDS
)
"""Of several calls with an id, as after a replay or from a cache, the first one that was bought. If these are several
answers, because the server repeats its ids, it is unknown which one is meant."""
_EVENT: Final = "(SELECT e.{column} FROM events e WHERE e.event_id = rewards.event_id)"
_CALL: Final = "(SELECT c.{column} FROM calls c WHERE c.call_id = rewards.call_id)"
_TIMESTEP: Final = "(SELECT t.session_id FROM timesteps t WHERE t.timestep_id = rewards.timestep_id)"
_SESSION_OF: Final = ", ".join((_EVENT.format(column="session_id"), _CALL.format(column="session_id"), _TIMESTEP))
_TIMESTEP_OF: Final = ", ".join((_EVENT.format(column="timestep_id"), _CALL.format(column="timestep_id")))
_JOIN: Final = (
    f"UPDATE rewards SET call_id = coalesce({_NAMED}, call_id) WHERE call_id IS NOT NULL AND reward_id IN ({{items}})",
    f"""UPDATE rewards SET session_id = coalesce({_SESSION_OF}), timestep_id = coalesce({_TIMESTEP_OF}, timestep_id)
      WHERE session_id IS NULL AND reward_id IN ({{items}})""",
)
"""The session of a reward is that of its narrowest target:
event, call, timestep."""
_STEP: Final = "event_id, session_id, timestep_id, event_type, time_ns, sequence, reward"


def needs_join(record: Record) -> bool:
    """Return whether a record is a reward that takes its session from its target."""
    return isinstance(record, RewardRecord) and record.session_id is None


def join(database: Database, records: Sequence[Record]) -> None:
    """Set the call, session and timestep of rewards that are, or whose targets are, among these new records."""
    if next(database.tuples("SELECT 1 FROM rewards LIMIT 1"), None) is None:
        return
    given = {one.reward_id for one in records if isinstance(one, RewardRecord)}
    if named := {ident for one in records for ident in _ids_of(one) if ident is not None}:
        sql = _NAMING.format(items=database.dialect.items)
        given.update(row[0] for row in database.tuples(sql, items(named)))
    for sql in _JOIN if given else ():
        database.run(sql.format(items=database.dialect.items), items(given))


def _ids_of(record: Record) -> tuple[str | None, ...]:
    """Return the ids by which rewards may name a record."""
    match record:
        case CallRecord():
            response_id = None if record.response is None else record.response.id
            return record.call_id, response_id, record.request_id, record.span_id
        case EventRecord():
            return (record.event_id,)
        case TimestepRecord():
            return (record.timestep_id,)
        case _:
            return ()


def records_by_session(database: Database, chosen: str, names: Values) -> dict[str, list[RewardRecord]]:
    """Return the rewards of the chosen sessions and everything in them, in order, by session."""
    found: dict[str, list[RewardRecord]] = defaultdict(list)
    for row in database.rows(f"SELECT * FROM rewards WHERE {chosen} ORDER BY time_ns, reward_id", names):
        found[str(row["session_id"])].append(record_of(REWARDS, row, RewardRecord))
    return found


def _event_rewards(
    database: Database, columns: str, chosen: str, names: Values, grouped: str = ""
) -> Iterator[tuple[Any, ...]]:
    """Yield columns of the events with a reward of their own."""
    yield from database.tuples(f"SELECT {columns} FROM events WHERE {chosen} AND reward IS NOT NULL {grouped}", names)


def _rewarded_twice(
    database: Database, chosen: str, names: Values, records: Mapping[str, Sequence[RewardRecord]]
) -> dict[str, set[str]]:
    """Return the events that have both a reward of their own and a reward record, by session."""
    asked = {(key, one.event_id) for key, some in records.items() for one in some if one.event_id is not None}
    found: dict[str, set[str]] = defaultdict(set)
    if asked:
        for key, event_id in asked.intersection(_event_rewards(database, "session_id, event_id", chosen, names)):
            found[key].add(str(event_id))
    return found


def sums_by_session(
    database: Database, chosen: str, names: Values, records: Mapping[str, Sequence[RewardRecord]]
) -> dict[str, reward_sums.RewardSums]:
    """Return the sums of the chosen sessions, given their reward records. Reads equal rewards of events as one row."""
    twice = _rewarded_twice(database, chosen, names, records)
    found: dict[str, reward_sums.RewardSums] = defaultdict(lambda: reward_sums.NO_REWARD)
    for key, some in records.items():
        found[key] = reward_sums.total(reward_sums.counted(some, twice[key]), of_calls=True)
    equal = "GROUP BY session_id, reward"
    for key, value, number in _event_rewards(database, "session_id, reward, count(*)", chosen, names, equal):
        found[key] = found[key].plus(reward_sums.times(value, number))
    return found


def sums_by_step(
    database: Database, session_id: str, parents: Mapping[str, str | None]
) -> dict[str, reward_sums.RewardSums]:
    """Return the sums of a session by timestep, including late rewards.

    `parents` has the parent of each nested step. Rewards of a nested step also count in the steps around it.
    """
    chosen, names = "session_id = :id", {"id": session_id}
    records: list[EventRecord | RewardRecord] = [*records_by_session(database, chosen, names)[session_id]]
    # There may be very many: this takes a fifth of the time of `record_of`.
    fields = _STEP.split(", ")
    own = _event_rewards(database, _STEP, chosen, names)
    records += (EventRecord(**dict(zip(fields, row, strict=True))) for row in own)
    found: dict[str, list[EventRecord | RewardRecord]] = defaultdict(list)
    for record in reward_sums.counted(records):
        timestep_id = None if isinstance(record, RewardRecord) and record.scope == "session" else record.timestep_id
        seen: set[str] = set()
        while timestep_id is not None and timestep_id not in seen:
            seen.add(timestep_id)
            found[timestep_id].append(record)
            timestep_id = parents.get(timestep_id)
    return {timestep_id: reward_sums.total(some) for timestep_id, some in found.items()}


def with_sums(record: _Summed, sums: reward_sums.RewardSums) -> _Summed:
    """Return a session or timestep with these sums; unchanged if its totals are unknown."""
    if record.totals is None:
        return record
    totals = msgspec.structs.replace(record.totals, reward=sums.reward, rewards=sums.means)
    return msgspec.structs.replace(record, totals=totals)


def reward_curve(database: Database, chosen: str, names: Values) -> dict[str, list[tuple[int, float]]]:
    """Return the cumulative reward after each reward of the chosen sessions, with its time, by session."""
    records = records_by_session(database, chosen, names)
    twice = _rewarded_twice(database, chosen, names, records)
    found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    own = "session_id, time_ns, coalesce(sequence, 0), 'event', event_id, reward"
    for session_id, *order, value in _event_rewards(database, own, chosen, names):
        found[session_id].append((*order, value))
    for session_id, some in records.items():
        for one in reward_sums.counted(some, twice[session_id]):
            if isinstance(one, RewardRecord) and reward_sums.sums_of(one).events is not None:
                found[session_id].append((one.time_ns, 0, *record_key(one), one.value))
    return {
        session_id: list(reward_sums.running((time_ns, value) for time_ns, *_, value in sorted(some)))
        for session_id, some in found.items()
    }
