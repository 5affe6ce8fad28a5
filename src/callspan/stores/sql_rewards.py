"""SQL rewards: reads timesteps, events and rewards, and the reward sums of sessions and timesteps."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, TimestepRecord
from callspan.stores import aggregates
from callspan.stores.base import Event
from callspan.stores.columns import EVENTS, MESSAGES, REWARDS, TIMESTEPS, Table
from callspan.stores.rows import to_tree

Values = Mapping[str, object]
_R = TypeVar("_R", bound=Record)


class SqlRewards(ABC):
    """Reads the timesteps, events and rewards of sessions; subclasses run queries."""

    @abstractmethod
    def rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""

    def timesteps(self, session_id: str) -> Iterator[TimestepRecord]:
        """Yield the timesteps of a session by their start."""
        sql = "SELECT * FROM timesteps WHERE session_id = :id ORDER BY coalesce(start_ns, 0), timestep, timestep_id"
        steps = (record_of(TIMESTEPS, row, TimestepRecord) for row in self.rows(sql, id=session_id))
        rewards = self.rewards("session_id = :id", {"id": session_id})
        yield from aggregates.with_rewards(steps, rewards[session_id])

    def events(self, session_id: str) -> Iterator[Event]:
        """Yield events, messages and rewards of a session in the order they happened."""
        found: list[Event] = [
            *(record_of(EVENTS, row, EventRecord) for row in self._children("events", session_id)),
            *(record_of(MESSAGES, row, MessageRecord) for row in self._children("messages", session_id)),
            *(record_of(REWARDS, row, RewardRecord) for row in self._children("rewards", session_id)),
            *self.given_to_steps("session_id = :id", {"id": session_id}),
        ]
        yield from aggregates.in_order(found)

    def rewards(self, chosen: str, names: Values) -> dict[object, list[Event]]:
        """Return the records that count towards the rewards of the chosen sessions, by session."""
        found: dict[object, list[Event]] = defaultdict(list)
        for row in self.rows(f"SELECT * FROM events WHERE {chosen} AND reward IS NOT NULL", **names):
            found[row["session_id"]].append(record_of(EVENTS, row, EventRecord))
        for row in self.rows(f"SELECT * FROM rewards WHERE {chosen}", **names):
            found[row["session_id"]].append(record_of(REWARDS, row, RewardRecord))
        for record in self.given_to_steps(chosen, names):
            found[record.session_id].append(record)
        return found

    def given_to_steps(self, chosen: str, names: Values) -> list[RewardRecord]:
        """Return rewards that have only a timestep's id, with the session of that timestep."""
        steps = f"SELECT timestep_id FROM timesteps WHERE {chosen}"
        sql = f"SELECT * FROM rewards WHERE session_id IS NULL AND timestep_id IN ({steps})"
        rows = list(self.rows(sql, **names))
        if not rows:
            return []
        sql = f"SELECT timestep_id, session_id FROM timesteps WHERE {chosen}"
        sessions = {row["timestep_id"]: row["session_id"] for row in self.rows(sql, **names)}
        return [record_of(REWARDS, {**row, "session_id": sessions[row["timestep_id"]]}, RewardRecord) for row in rows]

    def _children(self, table: str, session_id: str) -> Iterator[Values]:
        return self.rows(f"SELECT * FROM {table} WHERE session_id = :id", id=session_id)


def record_of(table: Table, row: Values, kind: type[_R]) -> _R:
    """Return the record of a row."""
    return msgspec.convert(to_tree(table, row), kind, strict=False)
