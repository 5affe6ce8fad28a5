"""SQL rewards: reads timesteps, events and rewards, and the reward sums of sessions and timesteps."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count, groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar, cast

from callspan.record import reward_sums
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, TimestepRecord, start_id
from callspan.stores import aggregates
from callspan.stores.base import Event
from callspan.stores.columns import EVENTS, MESSAGES, REWARDS, TIMESTEPS, Table
from callspan.stores.rows import converted, to_tree

Values = Mapping[str, object]
_R = TypeVar("_R", bound=Record)
_REWARDED: Final = "event_id, session_id, timestep_id, event_type, time_ns, sequence, reward"
_STEP_ORDER: Final = "coalesce(start_ns, 0), timestep_id"
_AT_ONCE: Final = 200
"""Ids per query: what one has read of sessions the next one finds in SQLite's memory."""
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
_UNJOINED: Final = " AND ".join((
    "coalesce(session_id, timestep_id, call_id, event_id) IS NOT NULL",
    *(
        _UNKNOWN.format(column=target.column, table=target.table, known=one)
        for target in (*_SESSIONS, *_TARGETS)
        for one in target.ids
    ),
))  # fmt: skip
"""Rewards of which the store has nothing that they name."""
_ANNOUNCED: Final = f"coalesce(event_type, '') IN ({', '.join(map(repr, sorted(aggregates.ANNOUNCED)))})"


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
        for chosen, names in in_parts(session_ids):
            sql = f"SELECT session_id, timestep_id FROM timesteps WHERE {chosen} ORDER BY session_id, {_STEP_ORDER}"
            for _, steps in groupby(self._tuples(sql, **names), itemgetter(0)):
                found.update(zip((str(step_id) for _, step_id in steps), count(), strict=False))
        return found

    def rewards(self, call: CallRecord | None = None, *, unjoined: bool = False) -> Iterator[RewardRecord]:
        """Yield rewards, newest first: those of a call, by any of its ids, or for what the store does not have."""
        conditions, names = [_UNJOINED] if unjoined else [], dict[str, object]()
        if call is not None:
            ids = (call.call_id, call.response.id if call.response else None, call.request_id, call.span_id)
            known = [one for one in ids if one]
            first = self.calls_named(known)
            mine = [one for one in known if first.get(one, call.call_id) == call.call_id]
            of_call, names = one_of(mine, "call_id")
            conditions.append(of_call)
        where = " AND ".join(f"({one})" for one in conditions) or "1 = 1"
        sql = f"SELECT * FROM rewards WHERE {where} ORDER BY coalesce(time_ns, 0) DESC, reward_id DESC"
        return (record_of(REWARDS, row, RewardRecord) for row in self._rows(sql, **names))

    def events(self, session_id: str | None, *, since_ns: int | None = None) -> Iterator[Event]:
        """Yield events, messages and rewards of a session in the order they happened, without holding them.

        None: those outside of sessions.
        """
        chosen, names = "session_id IS NULL", dict[str, object]()
        if session_id is not None:
            chosen, names = "session_id = :id", {"id": session_id}
        since = -(2**63) if since_ns is None else since_ns
        shown, times = (
            (chosen, names) if since_ns is None else (f"{chosen} AND time_ns >= :since", names | {"since": since})
        )
        ended = self._rows(f"SELECT event_id FROM events WHERE {chosen} AND {_ANNOUNCED}", **names)
        announced = {start_id(str(row["event_id"])) for row in ended}
        given = [] if session_id is None else self._given_by_id(chosen, names)
        streams: tuple[Iterator[Event], ...] = (
            (record_of(EVENTS, row, EventRecord) for row in self._children(EVENTS, shown, times)),
            (record_of(MESSAGES, row, MessageRecord) for row in self._children(MESSAGES, shown, times)),
            (record_of(REWARDS, row, RewardRecord) for row in self._children(REWARDS, shown, times)),
            iter(sorted((one for one in given if one.time_ns >= since), key=aggregates.event_order)),
        )
        for record in heapq.merge(*streams, key=aggregates.event_order):
            if not isinstance(record, EventRecord) or record.event_id not in announced:
                yield record

    def _rewards(self, chosen: str, names: Values) -> dict[object, list[Event]]:
        """Return the records that count towards the rewards of the chosen sessions, by session; events in short."""
        found = cast("dict[object, list[Event]]", self._given(chosen, names))
        for values in self._own_rewards(_REWARDED, chosen, names):
            found[values[1]].append(_rewarded(*values))
        return found

    def _own_rewards(self, columns: str, chosen: str, names: Values, grouped: str = "") -> Iterator[tuple[Any, ...]]:
        """Yield columns of the events that have a reward themselves."""
        sql = f"SELECT {columns} FROM events WHERE {chosen} AND reward IS NOT NULL {grouped}"
        yield from cast("Iterator[tuple[Any, ...]]", self._tuples(sql, **names))

    def _rewarded_twice(
        self, chosen: str, names: Values, given: Mapping[object, Sequence[RewardRecord]]
    ) -> dict[object, set[str]]:
        """Return the events that have a reward themselves, of those that were given one, by session."""
        asked = {(key, one.event_id) for key, some in given.items() for one in some if one.event_id is not None}
        found: dict[object, set[str]] = defaultdict(set)
        if asked:
            for key, event_id in asked.intersection(self._own_rewards("session_id, event_id", chosen, names)):
                found[key].add(str(event_id))
        return found

    def _reward_sums(
        self, chosen: str, names: Values, given: Mapping[object, Sequence[RewardRecord]]
    ) -> dict[object, reward_sums.RewardSums]:
        """Return the sums of the chosen sessions, which were given these: equal rewards of events are one row each."""
        twice = self._rewarded_twice(chosen, names, given)
        found: dict[object, reward_sums.RewardSums] = defaultdict(lambda: reward_sums.NO_REWARD)
        for key, some in given.items():
            found[key] = aggregates.rewards_of(some, of_calls=True, rewarded=twice[key])
        equal = "GROUP BY session_id, reward"
        for key, value, number in self._own_rewards("session_id, reward, count(*)", chosen, names, equal):
            found[key] = found[key].plus(reward_sums.times(value, number))
        return found

    def _given(self, chosen: str, names: Values) -> dict[object, list[RewardRecord]]:
        """Return the rewards that the chosen sessions, and what is in them, were given, by session."""
        found: dict[object, list[RewardRecord]] = defaultdict(list)
        for row in self._rows(f"SELECT * FROM rewards WHERE {chosen}", **names):
            found[row["session_id"]].append(record_of(REWARDS, row, RewardRecord))
        for record in self._given_by_id(chosen, names):
            found[record.session_id].append(record)
        return found

    def _given_by_id(self, chosen: str, names: Values) -> list[RewardRecord]:
        """Return rewards without a session that name something of the chosen sessions, with that session."""
        found = dict[str, RewardRecord]()
        for number, target in enumerate(_TARGETS):
            for record in self._given_to(target, chosen, names):
                if record.reward_id not in found and not self._is_of(_TARGETS[:number], record):
                    found[record.reward_id] = record
        return [*found.values()]

    def _is_of(self, targets: Sequence[_Target], record: RewardRecord) -> bool:
        """Return whether a reward is of another session, in which is one of these targets that it names, too."""
        for target in targets:
            ident = getattr(record, target.column)
            if ident is not None and target.column == "call_id":
                ident = self.calls_named([ident]).get(ident)
            sql = f"SELECT 1 FROM {target.table} WHERE {target.ids[0]} = :id AND session_id IS NOT NULL LIMIT 1"
            if ident is not None and next(self._tuples(sql, id=ident), None) is not None:
                return True
        return False

    def _given_to(self, target: _Target, chosen: str, names: Values) -> Iterator[RewardRecord]:
        """Yield those that name one kind of thing."""
        loose = f"SELECT 1 FROM rewards WHERE session_id IS NULL AND {target.column} IS NOT NULL"
        # Where the index of the column has only such rewards, its order is what has SQLite use it.
        order = "" if target.column == "call_id" else f" ORDER BY {target.column}"
        if next(self._tuples(f"{loose}{order} LIMIT 1"), None) is None:
            return
        columns = ", ".join(f"{one} AS of_{one}" for one in dict.fromkeys((*target.ids, *target.taken)))
        found = f"SELECT {columns} FROM {target.table} WHERE {chosen}"
        taken = ", ".join(f"t.of_{one}" for one in target.taken)
        # In this order SQLite reads the rewards of what was found, not all that have no session.
        sql = f"SELECT r.*, {taken} FROM ({found}) t CROSS JOIN rewards r WHERE r.session_id IS NULL AND"
        rows = [row for one in target.ids for row in self._rows(f"{sql} r.{target.column} = t.of_{one}", **names)]
        first = self.calls_named({str(row["call_id"]) for row in rows}) if target.column == "call_id" else {}
        for row in rows:
            of = {one: row[f"of_{one}"] for one in target.taken if row[f"of_{one}"] is not None}
            if target.column != "call_id" or first.get(str(row["call_id"])) == of["call_id"]:
                yield record_of(REWARDS, {**row, **of}, RewardRecord)

    def calls_named(self, ids: Collection[str]) -> dict[str, str]:
        """Return which call each of these ids names, if any: of several with it, the first that began."""
        found = dict[str, str]()
        for column in CALL_IDS:
            for chosen, names in in_parts([one for one in ids if one not in found], column):
                sql = f"SELECT {column}, call_id FROM calls WHERE {chosen} ORDER BY start_ns, call_id"
                for ident, call_id in self._tuples(sql, **names):
                    found.setdefault(str(ident), str(call_id))
        return found

    def _children(self, table: Table, chosen: str, names: Values) -> Iterator[Values]:
        order = "time_ns, coalesce(sequence, 0)" if "sequence" in table.names else "time_ns"
        sql = f"SELECT * FROM {table.name} WHERE {chosen} ORDER BY {order}, {table.key}"
        return self._rows(sql, **names)


def in_parts(ids: Sequence[object], key: str = "session_id") -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the condition that a column has one of some ids, with its parameters, until there were all."""
    for start in range(0, len(ids), _AT_ONCE):
        yield one_of(ids[start : start + _AT_ONCE], key)


def one_of(ids: Sequence[object], key: str = "session_id") -> tuple[str, dict[str, object]]:
    """Return the condition that a column has one of these ids, and its parameters."""
    names: dict[str, object] = {f"id{number}": one for number, one in enumerate(ids)}
    return f"{key} IN ({', '.join(f':{name}' for name in names)})", names


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
    return converted(to_tree(table, row), kind)
