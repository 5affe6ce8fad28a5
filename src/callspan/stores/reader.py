"""Reader: the query side of a store. Read-only; safe while others write."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, count, groupby, islice, repeat
from operator import ge, itemgetter, le
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from msgspec.structs import replace

from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, TimestepRecord, start_id
from callspan.stores import aggregates, filters, rewards, scores, session_summaries
from callspan.stores.base import (
    MAX_CALLS,
    CallAggregates,
    CallIds,
    Content,
    Entry,
    Event,
    History,
    Run,
    SessionSummary,
    StepSums,
    Summary,
    start_of,
)
from callspan.stores.call_rows import call_of, read_calls, record_of
from callspan.stores.database import NO_VALUES, Database, Dialect, Values, in_batches
from callspan.stores.erased import digest_of_id
from callspan.stores.facts import EVENTS, MESSAGES, OTHER_IDS, REWARDS, TABLES, TIMESTEPS, Table
from callspan.stores.filters import (
    BOUNDS,
    TOKENS,
    CallFilter,
    Candidates,
    call_condition,
    calls_from,
    lowest_first,
    scores_joined,
    session_condition,
)
from callspan.stores.history import follow
from callspan.stores.interrupted import exited_processes, mark_unended
from callspan.stores.rewards import Labels, Scores
from callspan.stores.sums import TIMESTEP, WITHOUT_COST, WITHOUT_USAGE, checked_groupings, summed

_R = TypeVar("_R", bound=Record)
_EVERY: Final = CallFilter()
_BETWEEN: Final = {"since_ns": "s.start_ns >= :since_ns", "until_ns": "s.start_ns < :until_ns"}
_READ_AT_ONCE: Final = 500
"""Calls read together."""
_IDS_AT_ONCE: Final = 20_000
_CANDIDATES: Final = (200, 2000)
"""How many calls or sessions are searched for a page by their scores, before all are."""
_MANY: Final = 100_000
"""So many calls with a low value that looking at all takes no longer."""
_SESSIONS_AT_ONCE: Final = 200
_STEP_ORDER: Final = "coalesce(start_ns, 0), timestep_id"


class _Query(NamedTuple):
    """A sorted query. No two rows have the same sort keys, and none is NULL."""

    columns: str
    source: str
    where: str
    order: tuple[str, ...]
    descending: bool = True

    def sql(self, after: Mapping[str, str]) -> str:
        """Return the SQL for columns and keys of the rows after the one with these key parameters, or of all rows."""
        names, keys = ", ".join(f":{name}" for name in after), ", ".join(self.order)
        where = f"{self.where} AND ({keys}) {'<' if self.descending else '>'} ({names})" if after else self.where
        direction = "DESC" if self.descending else "ASC"
        order = ", ".join(f"{key} {direction}" for key in self.order)
        return f"SELECT {self.columns}, {keys} FROM {self.source} WHERE {where} ORDER BY {order}"


class _QueryOf(Protocol):
    """Returns the query for the ids of calls or sessions, each with that of its session, among these candidates."""

    def __call__(self, selection: CallFilter, dialect: Dialect, candidates: Candidates | None = None) -> _Query: ...


_Rows: TypeAlias = Iterator[tuple[Any, ...]]
_Way: TypeAlias = Callable[[_QueryOf, CallFilter], "_Rows | None"]


class Reader:
    """Reads a SQLite file or a Postgres database. Sessions and calls are also found by a unique prefix of their id.

    Close it after use.
    """

    def __init__(self, database: Database) -> None:
        """The database is closed with this."""
        self._database = database
        self.name = database.name
        """The store's URL without its password."""

    def version(self) -> str:
        """Return a text that changes with every write."""
        return self._database.version()

    def close(self) -> None:
        """Close the store."""
        self._database.close()

    def calls(self, selection: CallFilter = _EVERY) -> Iterator[CallRecord]:
        """Yield calls with their conversations, see `CallFilter.content`. Few are in memory at a time."""
        ids = self._listed_calls(selection)
        while call_ids := [call.call_id for call in islice(ids, _READ_AT_ONCE)]:
            yield from map(mark_unended, read_calls(self._database, call_ids, selection.content))

    def call(self, call_id: str) -> CallRecord | None:
        """Return the call with this id or unique prefix, or None.

        Also accepts its span id, response id, request id or trace id; of several calls it returns the first.
        """
        if not call_id:
            return None
        call_ids = self.ids_like("call", call_id)
        columns = {"call_id": call_ids[0]} if len(call_ids) == 1 else dict.fromkeys(OTHER_IDS, call_id)
        for column, ident in columns.items():
            sql = f"SELECT * FROM calls WHERE {column} = :id ORDER BY start_ns, call_id LIMIT 1"
            row = next(self._database.rows(sql, {"id": ident}), None)
            if row is not None:
                return mark_unended(call_of(self._database, row))
        return None

    def history(self, call: CallRecord, *, limit: int = MAX_CALLS) -> History:
        """Return the recorded calls before a call that continues a response or a conversation, at most `limit`.

        `callspan.stores.history.whole_conversation` joins their messages.
        """
        return follow(self, call, limit)

    def count_calls(self, selection: CallFilter = _EVERY) -> int:
        """Return the number of calls that `calls` yields without a limit."""
        where, values = self._where(selection)
        sql = f"SELECT count(*) FROM calls c WHERE {where}"
        return int(next(self._database.tuples(sql, values))[0])

    def count_sessions(self, selection: CallFilter = _EVERY) -> int:
        """Return the number of sessions that `sessions` yields without a limit."""
        query, values = self._sessions_query(selection)
        sql = f"SELECT count(*) FROM {query.source} WHERE {query.where}"
        return int(next(self._database.tuples(sql, values))[0])

    def count_grouped_sessions(self, group_ids: Collection[str], selection: CallFilter = _EVERY) -> dict[str, int]:
        """Return the number of sessions of each of these groups that `sessions` yields without limit, by `group_id`."""
        (query, values), counts = self._sessions_query(selection), dict[str, int]()
        for condition, parameters in in_batches([*group_ids], "g.group_id"):
            sql = f"""SELECT g.group_id, count(*) FROM {query.source} JOIN sessions g ON g.session_id = found.session_id
              WHERE {query.where} AND {condition} GROUP BY g.group_id"""
            counts.update(self._database.tuples(sql, {**values, **parameters}))
        return counts

    def ids(self, selection: CallFilter = _EVERY) -> Iterator[CallIds]:
        """Yield the ids of the calls that `calls` yields without a limit, in any order."""
        where, values = self._where(selection)
        sql = f"SELECT c.call_id, c.session_id FROM calls c WHERE {where}"
        yield from map(CallIds._make, self._database.tuples(sql, values))

    def ids_in(self, session_ids: Collection[str]) -> Iterator[CallIds]:
        """Yield the ids of the calls of these sessions, in any order."""
        for condition, parameters in in_batches([*session_ids]):
            sql = f"SELECT call_id, session_id FROM calls WHERE {condition}"
            yield from map(CallIds._make, self._database.tuples(sql, parameters))

    def sessions(self, selection: CallFilter = _EVERY) -> Iterator[SessionSummary]:
        """Yield sessions, newest first by default. Those known only from their calls match no condition on labels."""
        ids = self._listed_sessions(selection)
        while batch := list(islice(ids, _SESSIONS_AT_ONCE)):
            yield from session_summaries.session_summaries(self._database, batch)

    def _listed_calls(self, selection: CallFilter) -> Iterator[CallIds]:
        """Yield the ids of the calls to read, in order."""
        ways = (self._page_of_newest, self._among_few, self._page_in_order_of_scores)
        return (CallIds(*row[:2]) for row in self._listed(_query_of_calls, selection, ways))

    def _listed_sessions(self, selection: CallFilter) -> Iterator[str]:
        """Yield the ids of the sessions to read, in order."""
        ways = (self._page_of_newest, self._among_few, self._page_in_order_of_scores)
        is_of_some = selection.ids or selection.session_id is not None
        if not is_of_some and session_condition(selection, self._database.dialect) is None:
            # To find the newest of all sessions, all calls are grouped.
            ways = (*ways[1:], ways[0])
        return (row[0] for row in self._listed(_query_of_sessions, selection, ways))

    def _listed(self, query_of: _QueryOf, selection: CallFilter, ways: Sequence[_Way]) -> _Rows:
        """Return the rows of a query in order, without the scores of all sessions and calls if one of the ways can.

        These take most of a second in a store of a million.
        """
        for way in ways if selection.sort == "score" or _has_minimum(selection) else ():
            if (rows := way(query_of, selection)) is not None:
                return rows
        return self._in_pages(query_of(selection, self._database.dialect), selection)

    def _page_of_newest(self, query_of: _QueryOf, selection: CallFilter) -> _Rows | None:
        """Return the page if it lies among the newest that meet the other conditions; None if it may not."""
        is_by_score = selection.sort == "score"
        if not selection.limit or selection.sort not in ("score", "start_ns"):
            return None
        others = replace(selection, min_score=None, min_reward=None, sort="start_ns", limit=_CANDIDATES[-1], offset=0)
        rows = [*self._in_pages(query_of(others, self._database.dialect), others)]
        are_all = len(rows) < _CANDIDATES[-1]
        if is_by_score and not are_all:
            return None
        for number in _CANDIDATES:
            candidates = Candidates.of([row[0] for row in rows[:number]], _sessions_of(rows[:number]))
            page = [*self._among(candidates, query_of, selection)]
            if number >= len(rows) if are_all else len(page) == selection.limit:
                return iter(page)
        return None

    def _among_few(self, query_of: _QueryOf, selection: CallFilter) -> _Rows | None:
        """Return the rows if few calls and sessions can have the score; None if many can."""
        few = self._few(selection, of_calls=query_of is _query_of_calls)
        if few is None or (few.are_calls is None and selection.sort == "score"):
            return None
        return self._among(few, query_of, selection)

    def _few(self, selection: CallFilter, *, of_calls: bool = True) -> Candidates | None:
        """Return the calls and sessions that can have the score, by their values; None if these are many.

        No mean is more than its largest value, but for its rounding. To look at the values takes a third of the time of
        all means; and where few are as high, few calls need to be looked at. Where many are, but none was given to a
        call, return all calls with the score of their session: to look for that of each takes most of the time.
        """
        if not _has_minimum(selection) or selection.session_id is not None or selection.ids:
            return None
        parameters, most = filters.parameters(selection), _CANDIDATES[-1]
        values = None
        if of_calls and selection.min_reward is None:
            if len(selection.judged) > 1:
                return None  # a call with its own score for one may inherit another, from any session
            values = scores.OF_CALLS_ABOVE
            if self._counted(values, parameters, most + 1) > most:
                return None
        limited = f"{filters.sessions_above(selection)} LIMIT {most + 1}"
        session_ids = [session_id for (session_id,) in self._database.tuples(limited, parameters)]
        if len(session_ids) <= most:
            return self._with_sessions(values, session_ids)
        if values is None or self._counted(scores.OF_CALLS, parameters, 1):
            return None
        return Candidates(None, None, {}, have_own_scores=False)

    def _counted(self, query: str, parameters: Values, most: int) -> int:
        """Return the number of rows of a query, at most `most`."""
        return int(next(self._database.tuples(f"SELECT count(*) FROM ({query} LIMIT {most}) x", parameters))[0])

    def _with_sessions(
        self, calls: str | None, session_ids: Sequence[str], parameters: Values = NO_VALUES
    ) -> Candidates:
        """Return the calls whose ids a query returns, and those of these sessions."""
        few = Candidates.of([], session_ids)
        are_calls = f"c.session_id IN {few.sessions}"
        if calls is not None:
            are_calls = self._database.dialect.is_among.format(query=calls, sessions=few.sessions)
        return Candidates(are_calls, few.sessions, {**few.parameters, **parameters})

    def _among(self, candidates: Candidates, query_of: _QueryOf, selection: CallFilter) -> _Rows:
        """Return the rows of a query among these candidates."""
        query = query_of(selection, self._database.dialect, candidates)
        return self._in_pages(query, selection, candidates.parameters)

    def _page_in_order_of_scores(self, query_of: _QueryOf, selection: CallFilter) -> _Rows | None:
        """Return a page in the order of scores, if few sessions or calls can be on it; None if many can.

        Those with the lowest scores and values fill a page. No score on the true page is above the last one of theirs,
        so that only sessions with a score as low can be on it, and calls with a value as low or of such a session. The
        other way round if the best come first.
        """
        if not selection.limit or selection.sort != "score":
            return None
        has_others = selection.min_score is not None and len(selection.judged) > 1
        if query_of is _query_of_calls and (selection.min_reward is not None or has_others):
            return None  # a call with a low value of its own may have these from any session
        order, low = ("ASC", "<=") if selection.newest_first else ("DESC", ">=")
        few, most = _CANDIDATES
        objective = {"objective0": selection.judged[0]}
        rows = [*self._database.tuples(f"{scores.OF_SESSIONS} ORDER BY score {order} LIMIT {most + 1}", objective)]
        if query_of is _query_of_sessions:
            candidates = Candidates.of([], [session_id for session_id, _ in rows[:most]])
        else:
            lowest = f"{scores.OF_CALLS} ORDER BY r.value {order} LIMIT {most}"
            candidates = self._with_sessions(
                f"SELECT * FROM ({lowest}) x", [ident for ident, _ in rows[:few]], objective
            )
        page = [*self._among(candidates, query_of, selection)]
        if len(page) < selection.limit:
            return None
        score = -page[-1][2]
        is_low = partial(ge if selection.newest_first else le, score)
        if len(rows) > most and is_low(rows[most][1]):
            return None
        if query_of is _query_of_sessions:
            return iter(page)
        session_ids = [session_id for session_id, value in rows if is_low(value)]
        value = scores.most_value(score) if selection.newest_first else scores.least_value(score)
        values = f"{scores.OF_CALLS} AND r.value {low} :value"
        candidates = self._with_sessions(values, session_ids, {**objective, "value": value})
        of_sessions = f"SELECT 1 FROM calls c WHERE c.session_id IN {candidates.sessions}"
        if any(self._counted(query, candidates.parameters, _MANY) == _MANY for query in (values, of_sessions)):
            return None
        page = [*self._among(candidates, query_of, selection)]
        return iter(page) if len(page) == selection.limit else None

    def session(self, session_id: str) -> SessionSummary | None:
        """Return the session with this id or unique prefix, or None."""
        matching_ids = self.ids_like("session", session_id)
        return (
            next(session_summaries.session_summaries(self._database, matching_ids)) if len(matching_ids) == 1 else None
        )

    def ids_like(self, kind: Literal["session", "call"], ident: str) -> list[str]:
        """Return the id itself if there is such a session or call, else all ids that begin with it, the last first."""
        if not ident:
            return []
        tables = ("sessions", "calls") if kind == "session" else ("calls",)
        key = f"{kind}_id"
        selects = (f"SELECT {key} FROM {table} WHERE {key} >= :low AND {key} < :high" for table in tables)
        values = {"low": ident, "high": f"{ident}{chr(sys.maxunicode)}"}
        matching_ids = [
            stored_id for (stored_id,) in self._database.tuples(f"{' UNION '.join(selects)} ORDER BY 1 DESC", values)
        ]
        return [ident] if ident in matching_ids else matching_ids

    def session_ids(self, selection: CallFilter = _EVERY) -> Iterator[str]:
        """Yield the ids of the recorded sessions with these labels and start times, in any order."""
        conditions = [text for name, text in _BETWEEN.items() if getattr(selection, name) is not None]
        labels = filters.session_condition(selection, self._database.dialect)
        where = " AND ".join([*conditions, *([] if labels is None else [labels])]) or "1 = 1"
        sql = f"SELECT s.session_id FROM sessions s WHERE {where}"
        yield from (row[0] for row in self._database.tuples(sql, self._parameters(selection)))

    def first_words(self, session_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the first words of each of these sessions on one line, if recorded.

        They are from the first message of type `question`, else from the user's first text in the first call.
        """
        return session_summaries.first_words(self._database, session_ids)

    def courses(self, session_ids: Sequence[str]) -> Mapping[str, Sequence[Run]]:
        """Return the runs of calls and tools of each of these sessions, in order."""
        return session_summaries.courses(self._database, session_ids)

    def reward_curves(self, session_ids: Sequence[str]) -> Mapping[str, Sequence[tuple[int, float]]]:
        """Return the cumulative reward (objective `reward`) after each reward, with its time, by session."""
        curves: dict[str, Sequence[tuple[int, float]]] = {}
        for condition, parameters in in_batches(session_ids):
            curves |= rewards.reward_curve(self._database, condition, parameters)
        return curves

    def timestep(self, timestep_id: str) -> TimestepRecord | None:
        """Return the timestep with this id or the application's own id (the first of several), or None."""
        sql = "SELECT * FROM timesteps WHERE timestep_id = :id OR user_step_id = :id ORDER BY start_ns LIMIT 1"
        row = next(self._database.rows(sql, {"id": timestep_id}), None)
        return None if row is None else record_of(TIMESTEPS, row, TimestepRecord)

    def timesteps(self, session_id: str) -> Iterator[TimestepRecord]:
        """Yield the timesteps of a session in the order of their positions."""
        scores = self.timestep_scores(session_id)
        sql = f"SELECT * FROM timesteps WHERE session_id = :id ORDER BY {_STEP_ORDER}"
        for row in self._database.rows(sql, {"id": session_id}):
            step = record_of(TIMESTEPS, row, TimestepRecord)
            yield rewards.with_scores(step, scores.get(step.timestep_id, {}))

    def call_scores(self, calls: Sequence[CallIds], objectives: Sequence[str]) -> Mapping[str, Scores]:
        """Return the scores of each of these calls: its own, else those of its session; without others.

        A call also has the reward of its session.
        """
        return rewards.scores_of_calls(self._database, calls, objectives)

    def call_labels(self, calls: Sequence[CallIds], objectives: Sequence[str]) -> Mapping[str, Labels]:
        """Return the labels of each of these calls by objective: its own, else those of its session."""
        return rewards.labels_of_calls(self._database, calls, objectives)

    def score_labels(self, session_ids: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Return, by session and objective, the label of its values, those of calls included, if all have the same."""
        return rewards.labels_of_scores(self._database, session_ids)

    def timestep_scores(self, session_id: str, *, excluding: Collection[str | None] = ()) -> Mapping[str, Scores]:
        """Return the scores of each timestep that has any, including those of the timesteps inside it.

        Rewards of the timesteps in `excluding` do not count in their ancestors.
        """
        return rewards.scores_of_steps(
            self._database, session_id, [timestep_id for timestep_id in excluding if timestep_id is not None]
        )

    def step_positions(self, session_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the position of each timestep of these sessions, by the timestep's id.

        Positions count all timesteps of a session from 0, by start, then id; `index` counts those of one process.
        """
        positions: dict[str, int] = {}
        for condition, parameters in in_batches(session_ids):
            sql = f"SELECT session_id, timestep_id FROM timesteps WHERE {condition} ORDER BY session_id, {_STEP_ORDER}"
            for _, steps in groupby(self._database.tuples(sql, parameters), itemgetter(0)):
                positions.update(zip((step_id for _, step_id in steps), count(), strict=False))
        return positions

    def events(self, session_id: str | None, *, since_ns: int | None = None) -> Iterator[Event]:
        """Yield events, messages and rewards of a session in the order in which they happened, unbuffered.

        None: those outside of sessions. `since_ns`: only at this Unix time or later, in nanoseconds.
        """
        condition, parameters = "session_id IS NULL", dict[str, object]()
        if session_id is not None:
            condition, parameters = "session_id = :id", {"id": session_id}
        run_ids = self._database.tuples(
            f"SELECT event_id FROM events WHERE {condition} AND {aggregates.ANNOUNCED}", parameters
        )
        announced = {start_id(event_id) for (event_id,) in run_ids}
        if since_ns is not None:
            condition, parameters = f"{condition} AND time_ns >= :since", parameters | {"since": since_ns}
        streams: tuple[Iterator[Event], ...] = (
            (record_of(EVENTS, row, EventRecord) for row in self._children(EVENTS, condition, parameters)),
            (record_of(MESSAGES, row, MessageRecord) for row in self._children(MESSAGES, condition, parameters)),
            (record_of(REWARDS, row, RewardRecord) for row in self._children(REWARDS, condition, parameters)),
        )
        for record in heapq.merge(*streams, key=aggregates.event_order):
            if not isinstance(record, EventRecord) or record.event_id not in announced:
                yield record

    def entries(self, session_id: str, *, since_ns: int | None = None, content: Content = "all") -> Iterator[Entry]:
        """Yield the calls and events of a session in the order of their start. For the parameters see `CallFilter`."""
        selection = CallFilter(session_id=session_id, newest_first=False, since_ns=since_ns, content=content)
        return heapq.merge(self.calls(selection), self.events(session_id, since_ns=since_ns), key=start_of)

    def _children(self, table: Table, condition: str, parameters: Values) -> Iterator[Values]:
        order = "time_ns, coalesce(sequence, 0)" if "sequence" in table.names else "time_ns"
        return self._database.rows(
            f"SELECT * FROM {table.name} WHERE {condition} ORDER BY {order}, {table.key}", parameters
        )

    def rewards(self, call: CallRecord | None = None) -> Iterator[RewardRecord]:
        """Yield rewards and feedback, newest first. `call`: only those of this call."""
        where, parameters = ("", {}) if call is None else ("WHERE call_id = :id", {"id": call.call_id})
        sql = f"SELECT * FROM rewards {where} ORDER BY coalesce(time_ns, 0) DESC, reward_id DESC"
        return (record_of(REWARDS, row, RewardRecord) for row in self._database.rows(sql, parameters))

    def summary(
        self, by: str | Sequence[str], selection: CallFilter = _EVERY, *, latencies: bool = True
    ) -> Iterator[Summary]:
        """Yield sums over groups of calls, largest group first. Percentiles are the slowest part and optional.

        `by` is a `Grouping` or `meta:KEY`, or several; empty: all calls form one group. Raises ValueError for anything
        else.
        """
        where, values = self._where(selection)
        groups = summed(self._database, checked_groupings(by), where, values, latencies=latencies)
        yield from (summary for summary, _ in groups)

    def step_sums(self, session_id: str) -> Mapping[str, StepSums]:
        """Return the sums over the calls of each timestep of a session, by the timestep's id."""
        where, values = "c.session_id = :id AND c.timestep_id IS NOT NULL", {"id": session_id}
        context = "max(c.input_tokens) AS context_tokens"
        return {
            str(sums.key): StepSums(
                **{name: getattr(sums, name) for name in CallAggregates.__struct_fields__},
                context_tokens=cast("int | None", row["context_tokens"]),
            )
            for sums, row in summed(self._database, [TIMESTEP], where, values, extra_columns=[context])
        }

    def stored(self, kind: type[_R], ids: Sequence[str]) -> Iterator[_R]:
        """Yield the records of a type with these full ids, without bodies, in any order."""
        table = TABLES[str(kind.__struct_config__.tag)]
        for condition, parameters in in_batches(ids, table.key):
            for row in self._database.rows(f"SELECT * FROM {table.name} WHERE {condition}", parameters):
                yield record_of(table, row, kind)

    def is_erased(self, kind: Literal["session", "call"], ident: str) -> bool:
        """Return whether the session or call with this full id was erased."""
        sql = "SELECT 1 FROM erased WHERE id = :id"
        return next(self._database.tuples(sql, {"id": digest_of_id(kind, ident)}), None) is not None

    def _where(self, selection: CallFilter) -> tuple[str, Values]:
        """Return the condition on calls `c` and its parameters."""
        few = self._few(selection)
        values = NO_VALUES if few is None else few.parameters
        return filters.call_condition(selection, self._database.dialect, few), {**self._parameters(selection), **values}

    def _sessions_query(self, selection: CallFilter) -> tuple[_Query, Values]:
        """Return the query for sessions in any order, and its parameters."""
        few = self._few(selection, of_calls=False)
        query = _query_of_sessions(replace(selection, sort="start_ns"), self._database.dialect, few)
        return query, {**self._parameters(selection), **(NO_VALUES if few is None else few.parameters)}

    def _parameters(self, selection: CallFilter) -> Values:
        return {**filters.parameters(selection), **exited_processes(self._database, filters.processes(selection))}

    def _in_pages(
        self, query: _Query, selection: CallFilter, parameters: Values = NO_VALUES
    ) -> Iterator[tuple[Any, ...]]:
        """Yield a query's rows in order, page by page: drivers of servers hold all rows of a result in memory."""
        values, limit, offset = {**self._parameters(selection), **parameters}, selection.limit, selection.offset
        names = {f"last{number}": key for number, key in enumerate(query.order)}
        last_keys: dict[str, object] = {}
        # Only an unlimited query needs a small first page, for a fast start.
        for size in chain((_READ_AT_ONCE if limit is None else _IDS_AT_ONCE,), repeat(_IDS_AT_ONCE)):
            number = size if limit is None else min(size, limit)
            sql = f"{query.sql(names if last_keys else {})} LIMIT {number} OFFSET {offset}"
            rows = list(self._database.tuples(sql, {**values, **last_keys}))
            yield from rows
            limit, offset = None if limit is None else limit - len(rows), 0
            if len(rows) < number or limit == 0:
                return
            last_keys = dict(zip(names, rows[-1][-len(names) :], strict=True))


_NOTHING: Final = "CAST(NULL AS bigint)"
_WITHOUT_END: Final = "c.session_id NOT IN (SELECT s.session_id FROM sessions s WHERE s.end_ns IS NOT NULL)"
_OF_CALLS: Final = {
    # Floating-point: a sum of integers overflows, and whole microdollars are exact to 9 billion dollars.
    "cost": "sum(CAST({cost} AS double precision))",
    "cost_rest": "CAST(sum({cost_rest}) AS bigint)",
    "duration": f"""CASE WHEN max(CASE WHEN {_WITHOUT_END} THEN c.end_ns END) IS NOT NULL
      THEN max(CASE WHEN {_WITHOUT_END} THEN coalesce(c.end_ns, c.start_ns) END) END""",
    "tokens": f"CAST(sum({TOKENS}) AS bigint)",
    "retries": "CAST(sum(c.retries) AS bigint)",
    "unpriced": f"max(CASE WHEN {WITHOUT_COST} THEN 1 ELSE 0 END)",
    "uncounted": f"max(CASE WHEN {WITHOUT_USAGE} THEN 1 ELSE 0 END)",
}
"""Aggregates over the calls of a session, by which sessions are sorted and filtered. `duration` is the end of its last
call, unknown if no call has ended; it is read only if the session has no end, otherwise an index suffices."""
_LASTED: Final = "coalesce(max(ended), max(duration)) - coalesce(max(recorded), min(called))"
_MEASURES: Final = {name: f"CAST(sum({name}) AS bigint)" for name in _OF_CALLS} | {
    "duration": f"CASE WHEN {_LASTED} < 0 THEN 0 ELSE {_LASTED} END",
    "cost": "max(cost) + (max(cost_rest) - max(cost_rest) % 1000000) / 1000000",
    "cost_rest": "max(cost_rest) % 1000000",
}
_COLUMNS: Final = {
    "cost_usd": ("cost", "cost_rest"),
    "duration_ns": ("duration",),
    "tokens": ("tokens",),
    "retries": ("retries",),
}
"""The aggregates of each measure."""
_LACKING: Final = {"max_cost_usd": "unpriced", "max_tokens": "uncounted"}
"""Whether a session lacks some calls in a measure, by the fields for which that matters."""


def _has_minimum(selection: CallFilter) -> bool:
    return selection.min_score is not None or selection.min_reward is not None


def _sessions_of(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    return [*dict.fromkeys(row[1] for row in rows if row[1] is not None)]


def _query_of_calls(selection: CallFilter, dialect: Dialect, candidates: Candidates | None = None) -> _Query:
    """Return the query for the ids of calls and of their sessions."""
    source, where = calls_from(selection, candidates), call_condition(selection, dialect, candidates)
    order = filters.sort_keys(selection, dialect)
    return _Query("c.call_id, c.session_id", source, where, order, descending=selection.newest_first)


def _query_of_sessions(selection: CallFilter, dialect: Dialect, candidates: Candidates | None = None) -> _Query:
    """Return the query for the ids of sessions, twice, including those known only from their calls."""
    condition = session_condition(selection, dialect)
    of_sessions = condition or "1 = 1"
    of_calls = "1 = 1" if condition is None else dialect.in_sessions.format(condition=condition)
    if candidates is not None:
        among = f"session_id IN {candidates.sessions}"
        of_sessions, of_calls = f"s.{among} AND {of_sessions}", f"c.{among} AND {of_calls}"
    names = _aggregates(selection)
    null_columns = "".join(f", {_NOTHING} AS {name}" for name in names)
    of_call_columns = "".join(
        f", {_OF_CALLS[name].format(cost=dialect.cost, cost_rest=dialect.cost_rest)}" for name in names
    )
    measures = "".join(f", {_MEASURES[name]} AS {name}" for name in names)
    # Calls are grouped first: an index has them in this order, and few rows remain to be joined.
    sessions = f"""(SELECT session_id, coalesce(max(recorded), min(called), 0) AS at{measures} FROM (
      SELECT s.session_id, s.start_ns AS recorded, {_NOTHING} AS called, s.end_ns AS ended{null_columns}
        FROM sessions s WHERE {of_sessions}
      UNION ALL SELECT c.session_id, {_NOTHING}, min(c.start_ns), {_NOTHING}{of_call_columns}
        FROM calls c WHERE c.session_id IS NOT NULL AND {of_calls} GROUP BY c.session_id) starts
      GROUP BY session_id) found"""
    source = " ".join([sessions, *scores_joined(selection, "found.session_id", candidates)])
    order = [filters.known_first(name, selection) for name in _COLUMNS.get(selection.sort, ())]
    if selection.sort == "score":
        order = [lowest_first("score0.score", selection)]
    where = " AND ".join(_of_session(selection, dialect)) or "1 = 1"
    keys = (*order, "at", "found.session_id")
    return _Query("found.session_id, found.session_id", source, where, keys, descending=selection.newest_first)


def _aggregates(selection: CallFilter) -> list[str]:
    """Return the names of the aggregates by which sessions are sorted and filtered."""
    bounds = [measure for name, (measure, _) in BOUNDS.items() if getattr(selection, name) is not None]
    names = [column for measure in (selection.sort, *bounds) for column in _COLUMNS.get(measure, ())]
    return [*dict.fromkeys(names), *(flag for name, flag in _LACKING.items() if getattr(selection, name) is not None)]


def _of_session(selection: CallFilter, dialect: Dialect) -> Iterator[str]:
    """Yield the conditions on the calls, id, times and sums of sessions `found`."""
    if selection.ids:
        yield filters.session_is_named(selection, "found.session_id")
    if selection.session_id is not None:
        yield "found.session_id = :session_id"
    if selection.since_ns is not None:
        yield "at >= :since_ns"
    if selection.until_ns is not None:
        yield "at > 0 AND at < :until_ns"
    measures = {"cost_usd": "(cost, cost_rest)", "duration_ns": "duration", "tokens": "tokens"}
    yield from filters.bounded(selection, measures)
    yield from (f"{flag} = 0" for name, flag in _LACKING.items() if getattr(selection, name) is not None)
    of_calls = "found.session_id {} (SELECT c.session_id FROM calls c WHERE c.session_id IS NOT NULL AND {})"
    if selection.errors is False:
        yield of_calls.format("NOT IN", call_condition(CallFilter(errors=True), dialect))
    if (call_conditions := filters.conditions_on_calls(selection)) is not None:
        yield of_calls.format("IN", call_condition(call_conditions, dialect))
    yield from filters.session_scores(selection)
