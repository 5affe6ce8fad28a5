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
        for start in range(0, len(session_ids), _AT_ONCE):
            names = {f"id{number}": one for number, one in enumerate(session_ids[start : start + _AT_ONCE])}
            chosen = ", ".join(f":{name}" for name in names)
            sql = f"SELECT session_id, timestep_id FROM timesteps WHERE session_id IN ({chosen})"
            sql += f" ORDER BY session_id, {_STEP_ORDER}"
            for _, steps in groupby(self._tuples(sql, **names), itemgetter(0)):
                found.update(zip((str(step_id) for _, step_id in steps), count(), strict=False))
        return found

    def events(self, session_id: str) -> Iterator[Event]:
        """Yield events, messages and rewards of a session in the order they happened, without holding them."""
        ended = self._rows(f"SELECT event_id FROM events WHERE session_id = :id AND {_ANNOUNCED}", id=session_id)
        announced = {start_id(str(row["event_id"])) for row in ended}
        given = self._given_to_steps("session_id = :id", {"id": session_id})
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
        for record in self._given_to_steps(chosen, names):
            found[record.session_id].append(record)
        return found

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
