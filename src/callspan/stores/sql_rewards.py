"""SQL rewards: reads timesteps, events and rewards, and the reward sums of sessions and timesteps."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, groupby
from operator import itemgetter
from typing import Any, Final, TypeVar, cast

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, TimestepRecord, start_id
from callspan.stores import aggregates
from callspan.stores.base import Event
from callspan.stores.columns import EVENTS, MESSAGES, REWARDS, TIMESTEPS, Table
from callspan.stores.rows import to_tree

Values = Mapping[str, object]
_R = TypeVar("_R", bound=Record)
_REWARDED: Final = "event_id, session_id, timestep_id, event_type, time_ns, sequence, reward"
_STEP_ORDER: Final = "coalesce(start_ns, 0), timestep_id"
_AT_ONCE: Final = 500
"""Sessions per query."""
CALL_IDS: Final = ("call_id", "response_id", "request_id", "span_id")
"""By which a reward may name a call: what its process does not know is kept as it was given."""
_OF_CALL: Final = ("call_id", "session_id", "timestep_id")
"""What a reward without a session takes from its call."""
_LOOSE: Final = "session_id IS NULL AND call_id IS NOT NULL"
"""Of rewards: they name a call, and no session."""
_OF_NO_CALL: Final = " AND ".join(
    f"call_id NOT IN (SELECT {one} FROM calls WHERE {one} IN (SELECT call_id FROM rewards WHERE {_LOOSE}))"
    for one in CALL_IDS
)
_UNKNOWN: Final = """
    {column} IS NOT NULL AND {column} NOT IN (SELECT {column} FROM {table} WHERE {column} IN (
      SELECT {column} FROM rewards WHERE {column} IS NOT NULL))"""
_UNJOINED: Final = f"""
({_LOOSE} AND {_OF_NO_CALL})
OR (session_id IS NULL AND ({_UNKNOWN.format(column="timestep_id", table="timesteps")}))
OR (session_id IS NULL AND ({_UNKNOWN.format(column="event_id", table="events")}))
OR ({_UNKNOWN.format(column="session_id", table="sessions")}
    AND {_UNKNOWN.format(column="session_id", table="calls").strip()})
"""
"""Rewards for what the store does not have."""
_ANNOUNCED: Final = f"event_type IN ({', '.join(map(repr, sorted(aggregates.ANNOUNCED)))})"


class SqlRewards(ABC):
    """Reads the timesteps, events and rewards of sessions; subclasses run queries."""

    @abstractmethod
    def _rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""

    @abstractmethod
    def _tuples(self, sql: str, **values: object) -> Iterator[tuple[object, ...]]:
        """Yield the same rows as plain tuples, for queries that return very many."""

    def timesteps(self, session_id: str) -> Iterator[TimestepRecord]:
        """Yield the timesteps of a session by their start, then id: that of position 0 first."""
        nested = "SELECT timestep_id, parent_timestep_id FROM timesteps WHERE session_id = :id"
        nested += " AND parent_timestep_id IS NOT NULL"
        parents = {str(row["timestep_id"]): str(row["parent_timestep_id"]) for row in self._rows(nested, id=session_id)}
        given = self._rewards("session_id = :id", {"id": session_id})[session_id]
        rewards = aggregates.rewards_by_step(given, parents)
        del given
        sql = f"SELECT * FROM timesteps WHERE session_id = :id ORDER BY {_STEP_ORDER}"
        for row in self._rows(sql, id=session_id):
            yield aggregates.with_rewards(record_of(TIMESTEPS, row, TimestepRecord), rewards)

    def step_positions(self, session_ids: Sequence[str]) -> dict[str, int]:
        """Return the position of each timestep of these sessions, by the timestep's id."""
        found: dict[str, int] = {}
        for names in _in_parts(session_ids):
            chosen = ", ".join(f":{name}" for name in names)
            sql = f"SELECT session_id, timestep_id FROM timesteps WHERE session_id IN ({chosen})"
            sql += f" ORDER BY session_id, {_STEP_ORDER}"
            for _, steps in groupby(self._tuples(sql, **names), itemgetter(0)):
                found.update(zip((str(step_id) for _, step_id in steps), count(), strict=False))
        return found

    def rewards(self, call: CallRecord | None = None, *, unjoined: bool = False) -> Iterator[RewardRecord]:
        """Yield rewards, newest first: those of a call, by any of its ids, or for what the store does not have."""
        conditions, names = [_UNJOINED] if unjoined else [], dict[str, str]()
        if call is not None:
            known = (call.call_id, call.response.id if call.response else None, call.request_id, call.span_id)
            names = {f"id{number}": one for number, one in enumerate(filter(None, known))}
            conditions.append(f"call_id IN ({', '.join(f':{name}' for name in names)})")
        where = " AND ".join(f"({one})" for one in conditions) or "1 = 1"
        sql = f"SELECT * FROM rewards WHERE {where} ORDER BY coalesce(time_ns, 0) DESC, reward_id DESC"
        return (record_of(REWARDS, row, RewardRecord) for row in self._rows(sql, **names))

    def events(self, session_id: str) -> Iterator[Event]:
        """Yield events, messages and rewards of a session in the order they happened, without holding them."""
        ended = self._rows(f"SELECT event_id FROM events WHERE session_id = :id AND {_ANNOUNCED}", id=session_id)
        announced = {start_id(str(row["event_id"])) for row in ended}
        given = self._given_by_id("session_id = :id", {"id": session_id})
        streams: tuple[Iterator[Event], ...] = (
            (record_of(EVENTS, row, EventRecord) for row in self._children(EVENTS, session_id)),
            (record_of(MESSAGES, row, MessageRecord) for row in self._children(MESSAGES, session_id)),
            (record_of(REWARDS, row, RewardRecord) for row in self._children(REWARDS, session_id)),
            iter(sorted(given, key=aggregates.event_order)),
        )
        for record in heapq.merge(*streams, key=aggregates.event_order):
            if not isinstance(record, EventRecord) or record.event_id not in announced:
                yield record

    def _rewards(self, chosen: str, names: Values) -> dict[object, list[Event]]:
        """Return the records that count towards the rewards of the chosen sessions, by session; events in short."""
        found: dict[object, list[Event]] = defaultdict(list)
        rewarded = f"SELECT {_REWARDED} FROM events WHERE {chosen} AND reward IS NOT NULL"
        for values in cast("Iterator[tuple[Any, ...]]", self._tuples(rewarded, **names)):
            found[values[1]].append(_rewarded(*values))
        for row in self._rows(f"SELECT * FROM rewards WHERE {chosen}", **names):
            found[row["session_id"]].append(record_of(REWARDS, row, RewardRecord))
        for record in self._given_by_id(chosen, names):
            found[record.session_id].append(record)
        return found

    def _given_by_id(self, chosen: str, names: Values) -> list[RewardRecord]:
        """Return rewards without a session whose call or timestep is of the chosen sessions, with that session."""
        given = (*self._given_to_steps(chosen, names), *self._given_to_calls(chosen, names))
        return [*{one.reward_id: one for one in given}.values()]

    def _given_to_calls(self, chosen: str, names: Values) -> list[RewardRecord]:
        """Return rewards that have only an id of a call, with the session, timestep and id of that call."""
        if next(self._tuples(f"SELECT 1 FROM rewards WHERE {_LOOSE} LIMIT 1"), None) is None:
            return []
        found = dict[object, RewardRecord]()
        calls = f"SELECT {', '.join(CALL_IDS)}, session_id, timestep_id FROM calls WHERE {chosen}"
        of_call = ", ".join(f"c.{one} AS of_{one}" for one in _OF_CALL)
        for column in CALL_IDS:
            # In this order SQLite reads the rewards of these calls, not all that have no session.
            sql = f"SELECT r.*, {of_call} FROM ({calls}) c CROSS JOIN rewards r"
            for row in self._rows(f"{sql} WHERE r.call_id = c.{column} AND r.session_id IS NULL", **names):
                of = {one: row[f"of_{one}"] for one in _OF_CALL}
                found[row["reward_id"]] = record_of(REWARDS, {**row, **of}, RewardRecord)
        return [*found.values()]

    def _given_to_steps(self, chosen: str, names: Values) -> list[RewardRecord]:
        """Return rewards that have only a timestep's id, with the session of that timestep."""
        steps = f"SELECT timestep_id FROM timesteps WHERE {chosen}"
        sql = f"SELECT * FROM rewards WHERE session_id IS NULL AND timestep_id IN ({steps})"
        rows = list(self._rows(sql, **names))
        if not rows:
            return []
        sql = f"SELECT timestep_id, session_id FROM timesteps WHERE {chosen}"
        sessions = {row["timestep_id"]: row["session_id"] for row in self._rows(sql, **names)}
        return [record_of(REWARDS, {**row, "session_id": sessions[row["timestep_id"]]}, RewardRecord) for row in rows]

    def _children(self, table: Table, session_id: str) -> Iterator[Values]:
        order = "time_ns, coalesce(sequence, 0)" if "sequence" in table.names else "time_ns"
        sql = f"SELECT * FROM {table.name} WHERE session_id = :id ORDER BY {order}, {table.key}"
        return self._rows(sql, id=session_id)


def _in_parts(values: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the values as parameters by name, some at once."""
    for start in range(0, len(values), _AT_ONCE):
        yield {f"id{number}": one for number, one in enumerate(values[start : start + _AT_ONCE])}


def _rewarded(
    event_id: str,
    session_id: str | None,
    timestep_id: str | None,
    event_type: str,
    time_ns: int,
    sequence: int | None,
    reward: float,
) -> EventRecord:
    """Return an event with what counts for rewards. There may be very many: this takes a fifth of `record_of`."""
    return EventRecord(
        event_id=event_id,
        session_id=session_id,
        timestep_id=timestep_id,
        event_type=event_type,
        time_ns=time_ns,
        sequence=sequence,
        reward=reward,
    )


def record_of(table: Table, row: Values, kind: type[_R]) -> _R:
    """Return the record of a row."""
    return msgspec.convert(to_tree(table, row), kind, strict=False)
