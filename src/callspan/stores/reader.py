"""Reader: the query side of a store. Read-only; safe while others write."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import heapq
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, count, groupby, islice, repeat
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple, TypeVar

from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, TimestepRecord, start_id
from callspan.stores import aggregates, filters, rewards, session_summaries
from callspan.stores.base import (
    MOST_CALLS,
    CallIds,
    Content,
    Entry,
    Event,
    History,
    Run,
    SessionSummary,
    Summary,
    Times,
    start_of,
)
from callspan.stores.call_rows import call_of, read_calls, record_of
from callspan.stores.columns import EVENTS, MESSAGES, REWARDS, TABLES, TIMESTEPS, Table
from callspan.stores.database import Database, Dialect, Values, in_parts
from callspan.stores.erased import digest_of_id
from callspan.stores.filters import (
    TOKENS,
    CallFilter,
    SessionFilter,
    call_condition,
    of_calls,
    session_condition,
)
from callspan.stores.history import follow
from callspan.stores.sums import MODEL, checked_groupings, summed

_R = TypeVar("_R", bound=Record)
_EVERY: Final = CallFilter()
_BETWEEN: Final = {"since_ns": "s.start_ns >= :since_ns", "until_ns": "s.start_ns < :until_ns"}
_READ_AT_ONCE: Final = 500
"""Calls that are read together."""
_IDS_AT_ONCE: Final = 20_000
_SESSIONS_AT_ONCE: Final = 200
_STEP_ORDER: Final = "coalesce(start_ns, 0), timestep_id"
_ANNOUNCED: Final = f"coalesce(event_type, '') IN ({', '.join(map(repr, sorted(aggregates.ANNOUNCED)))})"
_KNOWN_BY: Final = (*rewards.CALL_IDS[1:], "trace_id")
"""Columns with ids that find a call."""


class _Query(NamedTuple):
    """A query for columns in an order: of keys that no two rows have in common and that are never NULL."""

    columns: str
    source: str
    where: str
    order: tuple[str, ...]
    descending: bool = True

    def sql(self, after: Mapping[str, str]) -> str:
        """Return the SQL for columns and keys behind the row whose keys are these parameters; all if there are none."""
        names, keys = ", ".join(f":{name}" for name in after), ", ".join(self.order)
        where = f"{self.where} AND ({keys}) {'<' if self.descending else '>'} ({names})" if after else self.where
        direction = "DESC" if self.descending else "ASC"
        order = ", ".join(f"{key} {direction}" for key in self.order)
        return f"SELECT {self.columns}, {keys} FROM {self.source} WHERE {where} ORDER BY {order}"


class Reader:
    """Reads a SQLite file or a Postgres database. Ids may be given by a unique prefix. Close it after use."""

    def __init__(self, database: Database) -> None:
        """The database is closed with this."""
        self._database = database
        self.name = database.name
        """The store's URL without its password."""

    def version(self) -> str:
        """Return a text that differs when something was written since."""
        return self._database.version()

    def close(self) -> None:
        """Close the store."""
        self._database.close()

    def calls(self, which: CallFilter = _EVERY) -> Iterator[CallRecord]:
        """Yield calls with their conversations, see `CallFilter.content`; only some of them are in memory at a time."""
        ids = self._listed_calls(which)
        while some := [one.call_id for one in islice(ids, _READ_AT_ONCE)]:
            yield from map(aggregates.as_read, read_calls(self._database, some, which.content))

    def call(self, call_id: str) -> CallRecord | None:
        """Return one call by its id or a unique prefix of it; None if there is none.

        Also accepts its span id, the provider's response id or request id, or its trace id (the first call of several).
        """
        if not call_id:
            return None
        row = self._by_prefix("calls", "call_id", call_id)
        for column in _KNOWN_BY:
            if row is None:
                sql = f"SELECT * FROM calls WHERE {column} = :id ORDER BY start_ns, call_id LIMIT 1"
                row = next(self._database.rows(sql, {"id": call_id}), None)
        return None if row is None else aggregates.as_read(call_of(self._database, row))

    def history(self, call: CallRecord, *, limit: int = MOST_CALLS) -> History:
        """Return the recorded calls before one that continues a response or a conversation, at most `limit`.

        `callspan.stores.history.whole_conversation` joins their messages.
        """
        return follow(self, call, limit)

    def count_calls(self, which: CallFilter = _EVERY) -> int:
        """Return how many calls `calls` would yield without its limit."""
        where, values = self._summed_where(which)
        return int(next(self._database.tuples(f"SELECT count(*) FROM calls c WHERE {where}", values))[0])

    def ids(self, which: CallFilter = _EVERY) -> Iterator[CallIds]:
        """Yield the ids of the calls, in any order, that `calls` would yield without its limit."""
        where, values = self._where(which)
        sql = f"SELECT c.call_id, c.session_id FROM calls c WHERE {where}"
        yield from map(CallIds._make, self._database.tuples(sql, values))

    def ids_in(self, session_ids: Collection[str]) -> Iterator[CallIds]:
        """Yield the ids of the calls of these sessions, in any order."""
        for chosen, names in in_parts([*session_ids]):
            sql = f"SELECT call_id, session_id FROM calls WHERE {chosen}"
            yield from map(CallIds._make, self._database.tuples(sql, names))

    def sessions(
        self,
        *,
        since_ns: int | None = None,
        limit: int | None = None,
        which: SessionFilter = _EVERY,
        offset: int = 0,
    ) -> Iterator[SessionSummary]:
        """Yield sessions, newest first unless sorted. Those known only from their calls match no filter of labels.

        Of a `CallFilter`, see there: sessions with such a call.
        """
        ids = self._listed_sessions(since_ns, limit, which, offset)
        while some := list(islice(ids, _SESSIONS_AT_ONCE)):
            yield from session_summaries.session_summaries(self._database, some)

    def _listed_calls(self, which: CallFilter) -> Iterator[CallIds]:
        """Yield the ids of the calls to read, in order."""
        where, values = self._where(which)
        order = filters.order_of(which.sort, self._database.dialect.cost)
        query = _Query("c.call_id, c.session_id", "calls c", where, order, descending=which.newest_first)
        return (CallIds(*row[:2]) for row in self._in_pages(query, values, which.limit, which.offset))

    def _listed_sessions(
        self, since_ns: int | None, limit: int | None, which: SessionFilter, offset: int
    ) -> Iterator[str]:
        """Yield the ids of the sessions to read, in order."""
        source = session_source(which, self._database.dialect)
        values = self._parameters(which) | ({} if since_ns is None else {"since_ns": since_ns})
        where = source.where if "since_ns" not in values else f"{source.where} AND at >= :since_ns"
        query = _Query("session_id", source.sql, where, source.order)
        return (row[0] for row in self._in_pages(query, values, limit, offset))

    def session(self, session_id: str) -> SessionSummary | None:
        """Return one session by its id or a unique prefix; None if there is none."""
        if not session_id:
            return None
        row = self._by_prefix("sessions", "session_id", session_id)
        if row is None:
            row = self._by_prefix("(SELECT DISTINCT session_id FROM calls) found", "session_id", session_id)
        if row is None:
            return None
        return next(session_summaries.session_summaries(self._database, [str(row["session_id"])]))

    def session_ids(self, which: CallFilter = _EVERY) -> Iterator[str]:
        """Yield the ids of the recorded sessions that have these labels and began between these times, in any order."""
        conditions = [text for name, text in _BETWEEN.items() if getattr(which, name) is not None]
        labels = filters.session_condition(which, self._database.dialect)
        where = " AND ".join([*conditions, *([] if labels is None else [labels])]) or "1 = 1"
        sql = f"SELECT s.session_id FROM sessions s WHERE {where}"
        yield from (row[0] for row in self._database.tuples(sql, self._parameters(which)))

    def first_words(self, session_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the first words of each of these sessions, on one line, where they are kept.

        It is the first message of type `question`, else the first text of a user in the first call.
        """
        return session_summaries.first_words(self._database, session_ids)

    def courses(self, session_ids: Sequence[str]) -> Mapping[str, Sequence[Run]]:
        """Return when the calls and tools of each of these sessions ran, in order; for sessions with few of them."""
        return session_summaries.courses(self._database, session_ids)

    def reward_curves(self, session_ids: Sequence[str]) -> Mapping[str, Sequence[tuple[int, float]]]:
        """Return the reward so far (objective `reward`) after each that was given, by session, with its time."""
        found: dict[str, Sequence[tuple[int, float]]] = {}
        for chosen, names in in_parts(session_ids):
            found |= rewards.reward_curve(self._database, chosen, names)
        return found

    def session_scores(self) -> Mapping[str, Mapping[str, float]]:
        """Return the scores of each session that has any, by objective, see `SessionSummary.score`."""
        every = "session_id IS NOT NULL"
        sums = rewards.sums_by_session(self._database, every, {}, rewards.given(self._database, every, {}))
        return {session_id: one.by_objective for session_id, one in sums.items()}

    def timestep(self, timestep_id: str) -> TimestepRecord | None:
        """Return one timestep by its id or the application's own id (the first of several); else None."""
        sql = "SELECT * FROM timesteps WHERE timestep_id = :id OR user_step_id = :id ORDER BY start_ns LIMIT 1"
        row = next(self._database.rows(sql, {"id": timestep_id}), None)
        return None if row is None else record_of(TIMESTEPS, row, TimestepRecord)

    def timesteps(self, session_id: str) -> Iterator[TimestepRecord]:
        """Yield the timesteps of a session by their start, then id: that of position 0 first."""
        nested = "SELECT timestep_id, parent_timestep_id FROM timesteps WHERE session_id = :id"
        nested += " AND parent_timestep_id IS NOT NULL"
        parents = dict(self._database.tuples(nested, {"id": session_id}))
        sums = rewards.sums_by_step(self._database, session_id, parents)
        sql = f"SELECT * FROM timesteps WHERE session_id = :id ORDER BY {_STEP_ORDER}"
        for row in self._database.rows(sql, {"id": session_id}):
            yield aggregates.with_rewards(record_of(TIMESTEPS, row, TimestepRecord), sums)

    def step_positions(self, session_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the position of each timestep of these sessions, by the timestep's id.

        It is the place among all timesteps of its session, by start, then id, from 0. `index` is that of its process.
        """
        found: dict[str, int] = {}
        for chosen, names in in_parts(session_ids):
            sql = f"SELECT session_id, timestep_id FROM timesteps WHERE {chosen} ORDER BY session_id, {_STEP_ORDER}"
            for _, steps in groupby(self._database.tuples(sql, names), itemgetter(0)):
                found.update(zip((step_id for _, step_id in steps), count(), strict=False))
        return found

    def events(self, session_id: str | None, *, since_ns: int | None = None) -> Iterator[Event]:
        """Yield events, messages and rewards of a session in the order they happened, without holding them.

        None: those outside of sessions. `since_ns`: only from this time on, Unix nanoseconds.
        """
        chosen, names = "session_id IS NULL", dict[str, object]()
        if session_id is not None:
            chosen, names = "session_id = :id", {"id": session_id}
        ended = self._database.tuples(f"SELECT event_id FROM events WHERE {chosen} AND {_ANNOUNCED}", names)
        announced = {start_id(event_id) for (event_id,) in ended}
        if since_ns is not None:
            chosen, names = f"{chosen} AND time_ns >= :since", names | {"since": since_ns}
        streams: tuple[Iterator[Event], ...] = (
            (record_of(EVENTS, row, EventRecord) for row in self._children(EVENTS, chosen, names)),
            (record_of(MESSAGES, row, MessageRecord) for row in self._children(MESSAGES, chosen, names)),
            (record_of(REWARDS, row, RewardRecord) for row in self._children(REWARDS, chosen, names)),
        )
        for record in heapq.merge(*streams, key=aggregates.event_order):
            if not isinstance(record, EventRecord) or record.event_id not in announced:
                yield record

    def entries(self, session_id: str, *, since_ns: int | None = None, content: Content = "all") -> Iterator[Entry]:
        """Yield the calls and events of a session by the time they began; the parameters are those of `CallFilter`."""
        which = CallFilter(session_id=session_id, newest_first=False, since_ns=since_ns, content=content)
        return heapq.merge(self.calls(which), self.events(session_id, since_ns=since_ns), key=start_of)

    def _children(self, table: Table, chosen: str, names: Values) -> Iterator[Values]:
        order = "time_ns, coalesce(sequence, 0)" if "sequence" in table.names else "time_ns"
        return self._database.rows(f"SELECT * FROM {table.name} WHERE {chosen} ORDER BY {order}, {table.key}", names)

    def rewards(self, call: CallRecord | None = None) -> Iterator[RewardRecord]:
        """Yield rewards and feedback, newest first. `call`: only those of this call."""
        where, names = ("", {}) if call is None else ("WHERE call_id = :id", {"id": call.call_id})
        sql = f"SELECT * FROM rewards {where} ORDER BY coalesce(time_ns, 0) DESC, reward_id DESC"
        return (record_of(REWARDS, row, RewardRecord) for row in self._database.rows(sql, names))

    def summary(
        self, by: str | Sequence[str], which: CallFilter = _EVERY, *, latencies: bool = True
    ) -> Iterator[Summary]:
        """Yield sums over calls, largest number of calls first. Percentiles are the slowest part and optional.

        `by` is a `Grouping` or `meta:KEY`, or several of them. Raises ValueError for anything else.
        """
        where, values = self._summed_where(which)
        yield from (one for one, _ in summed(self._database, checked_groupings(by), where, values, latencies=latencies))

    def times(self, which: CallFilter = _EVERY) -> Iterator[Times]:
        """Yield the times of the calls that succeeded, in any order."""
        where, values = self._summed_where(which)
        sql = f"SELECT {MODEL}, c.duration_ns, c.ttft_ns FROM calls c WHERE {where} AND c.outcome = 'success'"
        yield from map(Times._make, self._database.tuples(sql, values))

    def stored(self, kind: type[_R], ids: Sequence[str]) -> Iterator[_R]:
        """Yield the records of a type with one of these whole ids, without bodies, in any order."""
        table = TABLES[str(kind.__struct_config__.tag)]
        for chosen, names in in_parts(ids, table.key):
            for row in self._database.rows(f"SELECT * FROM {table.name} WHERE {chosen}", names):
                yield record_of(table, row, kind)

    def is_erased(self, kind: Literal["session", "call"], ident: str) -> bool:
        """Return whether the store remembers that the session or call of this whole id was erased."""
        sql = "SELECT 1 FROM erased WHERE id = :id"
        return next(self._database.tuples(sql, {"id": digest_of_id(kind, ident)}), None) is not None

    def _where(self, which: CallFilter) -> tuple[str, Values]:
        """Return the condition on calls `c`, and its parameters."""
        return filters.call_condition(which, self._database.dialect), self._parameters(which)

    _summed_where = _where
    """The same for the calls that are counted."""

    def _parameters(self, which: SessionFilter) -> dict[str, object]:
        values = filters.parameters(which)
        if filters.UNENDED & {which.session_outcome, getattr(which, "outcome", None)}:
            host = str(values["host"])
            unended = self._database.tuples(filters.PROCESSES, {"host": host})
            return filters.parameters(which, [pid for (pid,) in unended if aggregates.is_gone(host, pid)])
        return values

    def _in_pages(self, query: _Query, values: Values, limit: int | None, offset: int) -> Iterator[tuple[Any, ...]]:
        """Yield a query's rows in order.

        Each page begins where the one before it ended: drivers of servers hold all rows of a result.
        """
        names = {f"last{number}": key for number, key in enumerate(query.order)}
        last: dict[str, object] = {}
        # A limited query needs no quick first page.
        for size in chain((_READ_AT_ONCE if limit is None else _IDS_AT_ONCE,), repeat(_IDS_AT_ONCE)):
            number = size if limit is None else min(size, limit)
            sql = f"{query.sql(names if last else {})} LIMIT {number} OFFSET {offset}"
            found = list(self._database.tuples(sql, {**values, **last}))
            yield from found
            limit, offset = None if limit is None else limit - len(found), 0
            if len(found) < number or limit == 0:
                return
            last = dict(zip(names, found[-1][-len(names) :], strict=True))

    def _by_prefix(self, table: str, key: str, prefix: str) -> Values | None:
        sql = f"SELECT * FROM {table} WHERE {key} >= :low AND {key} < :high ORDER BY {key} LIMIT 2"
        found = list(self._database.rows(sql, {"low": prefix, "high": f"{prefix}{chr(sys.maxunicode)}"}))
        exact = [row for row in found if row[key] == prefix]
        return (exact or found)[0] if exact or len(found) == 1 else None


class SessionSource(NamedTuple):
    """The sessions `found` as a subquery, with `at` (their start) and the sort key; and their order."""

    sql: str
    where: str
    order: tuple[str, ...]


_NOTHING: Final = "CAST(NULL AS bigint)"
_LATEST: Final = (
    ("calls", "max(coalesce(t.end_ns, t.start_ns))"),
    ("timesteps", "max(coalesce(t.end_ns, t.start_ns))"),
    ("events", "max(t.time_ns)"),
    ("messages", "max(t.time_ns)"),
    ("rewards", "max(t.time_ns)"),
)
"""Tables of records in a session, and their time columns."""
_RUNS: Final = """
t.session_id IN (SELECT x.session_id FROM {table} x WHERE x.session_id IS NOT NULL GROUP BY x.session_id
  EXCEPT SELECT s.session_id FROM sessions s WHERE s.end_ns IS NOT NULL)
"""
"""Sessions without an end: the time of an ended one does not depend on its records. An index alone is enough."""
_ENDED: Final = "coalesce(max(ended), max(latest), max(recorded)) - coalesce(max(recorded), min(called))"
_MEASURES: Final = {
    "cost": "CAST(sum(spent) AS bigint)",
    "duration": f"CASE WHEN {_ENDED} < 0 THEN 0 ELSE {_ENDED} END",
    "tokens": "CAST(sum(used) AS bigint)",
    "retries": "CAST(sum(retried) AS bigint)",
}
_OF_CALLS: Final = {
    "cost": "CAST(sum({cost}) AS bigint)",
    "duration": _NOTHING,
    "tokens": f"CAST(sum({TOKENS}) AS bigint)",
    "retries": "CAST(sum(c.retries) AS bigint)",
}
"""Summed by session here already: an index has the calls in this order, and few rows are left to be joined."""
_COLUMN_OF: Final = {"cost": "spent", "duration": "latest", "tokens": "used", "retries": "retried"}


def session_source(which: SessionFilter, dialect: Dialect) -> SessionSource:
    """Return the sessions that fit and the ids of those that are known only from their calls."""
    sessions = session_condition(which, dialect)
    calls = "1 = 1" if sessions is None else dialect.in_sessions.format(condition=sessions)
    needed = {which.sort} - {"start"}
    found = list(_with_calls(which, dialect))
    if which.min_cost_usd is not None:
        needed.add("cost")
        found.append("cost >= :min_cost")
    if which.min_duration_ns is not None:
        needed.add("duration")
        found.append("duration >= :min_duration_ns")
    names = sorted(needed)
    own = ["s.session_id", "1 AS known", "s.start_ns AS recorded", f"{_NOTHING} AS called", "s.end_ns AS ended"]
    of_call = ["c.session_id", "1", _NOTHING, "min(c.start_ns)", _NOTHING]
    own += [f"{_NOTHING} AS {_COLUMN_OF[name]}" for name in names]
    of_call += [_OF_CALLS[name].format(cost=dialect.cost) for name in names]
    parts = [f"SELECT {', '.join(own)} FROM sessions s WHERE {sessions or '1 = 1'}"]
    of_calls = f"SELECT {', '.join(of_call)} FROM calls c WHERE c.session_id IS NOT NULL AND {calls}"
    parts.append(f"{of_calls} GROUP BY c.session_id")
    if "duration" in needed:
        for table, time in _LATEST:
            last = [time if name == "duration" else _NOTHING for name in names]
            columns = ", ".join(["t.session_id", "0", _NOTHING, _NOTHING, _NOTHING, *last])
            running = _RUNS.format(table=table)
            parts.append(f"SELECT {columns} FROM {table} t WHERE {running} GROUP BY t.session_id")
    measures = "".join(f", {_MEASURES[name]} AS {name}" for name in names)
    sql = f"""(SELECT session_id, coalesce(max(recorded), min(called), 0) AS at{measures} FROM (
      {" UNION ALL ".join(parts)}) starts GROUP BY session_id HAVING max(known) = 1) found"""
    first = () if which.sort == "start" else (f"coalesce({which.sort}, -1)",)
    return SessionSource(sql, " AND ".join(found) or "1 = 1", (*first, "at", "session_id"))


def _with_calls(which: SessionFilter, dialect: Dialect) -> Iterator[str]:
    """Yield the conditions on sessions `found` that are about their calls, their id and their start."""
    if not isinstance(which, CallFilter):
        return
    if which.session_id is not None:
        yield "session_id = :session_id"
    if which.until_ns is not None:
        yield "at > 0 AND at < :until_ns"
    of_sessions = "session_id {} (SELECT c.session_id FROM calls c WHERE c.session_id IS NOT NULL AND {})"
    if which.errors is False:
        yield of_sessions.format("NOT IN", call_condition(CallFilter(errors=True), dialect))
    if (of_one := of_calls(which)) is not None:
        yield of_sessions.format("IN", call_condition(of_one, dialect))
