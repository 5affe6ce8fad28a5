"""Lists: which calls and sessions a filter selects, and in which order.

A list is read page by page, each after the keys of the last row, so that few rows are in memory. Scores are views over
all values, which take most of a second in a store of a million. So a list that needs them looks for a way around all of
them first: the newest that meet the other conditions, the few with a value that is high enough, or those with the
lowest and highest values. A way only bounds what can be in the list; the views alone say what is.
"""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, repeat
from operator import ge, le
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from msgspec.structs import replace

from callspan.stores import filters, scores
from callspan.stores.base import CallIds
from callspan.stores.database import NO_VALUES, Database, Dialect, Values
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
from callspan.stores.interrupted import exited_processes
from callspan.stores.sums import WITHOUT_COST, WITHOUT_USAGE

_ROWS_AT_FIRST: Final = 500
_IDS_AT_ONCE: Final = 20_000
_CANDIDATES: Final = (200, 2000)
"""How many calls or sessions are searched for a page by their scores, before all are."""
_MANY: Final = 100_000
"""So many calls with a low value that looking at all takes no longer."""


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


class Listing:
    """The lists of one store. Safe from any thread that its database is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def calls(self, selection: CallFilter) -> Iterator[CallIds]:
        """Yield the ids of the calls to read, in order."""
        ways = (self._page_of_newest, self._among_few, self._page_in_order_of_scores)
        return (CallIds(*row[:2]) for row in self._listed(_query_of_calls, selection, ways))

    def sessions(self, selection: CallFilter) -> Iterator[str]:
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

    def condition(self, selection: CallFilter) -> tuple[str, Values]:
        """Return the condition on calls `c` and its parameters."""
        few = self._few(selection)
        values = NO_VALUES if few is None else few.parameters
        return filters.call_condition(selection, self._database.dialect, few), {**self.parameters(selection), **values}

    def sessions_query(self, selection: CallFilter) -> tuple[_Query, Values]:
        """Return the query for sessions in any order, and its parameters."""
        few = self._few(selection, of_calls=False)
        query = _query_of_sessions(replace(selection, sort="start_ns"), self._database.dialect, few)
        return query, {**self.parameters(selection), **(NO_VALUES if few is None else few.parameters)}

    def parameters(self, selection: CallFilter) -> Values:
        """Return the parameters of the conditions of a selection."""
        return {**filters.parameters(selection), **exited_processes(self._database, filters.processes(selection))}

    def _in_pages(
        self, query: _Query, selection: CallFilter, parameters: Values = NO_VALUES
    ) -> Iterator[tuple[Any, ...]]:
        """Yield a query's rows in order, page by page: drivers of servers hold all rows of a result in memory."""
        values, limit, offset = {**self.parameters(selection), **parameters}, selection.limit, selection.offset
        names = {f"last{number}": key for number, key in enumerate(query.order)}
        last_keys: dict[str, object] = {}
        # Only an unlimited query needs a small first page, for a fast start.
        for size in chain((_ROWS_AT_FIRST if limit is None else _IDS_AT_ONCE,), repeat(_IDS_AT_ONCE)):
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
      GROUP BY session_id) listed"""
    source = " ".join([sessions, *scores_joined(selection, "listed.session_id", candidates)])
    order = [filters.known_first(name, selection) for name in _COLUMNS.get(selection.sort, ())]
    if selection.sort == "score":
        order = [lowest_first("score0.score", selection)]
    where = " AND ".join(_of_session(selection, dialect)) or "1 = 1"
    keys = (*order, "at", "listed.session_id")
    return _Query("listed.session_id, listed.session_id", source, where, keys, descending=selection.newest_first)


def _aggregates(selection: CallFilter) -> list[str]:
    """Return the names of the aggregates by which sessions are sorted and filtered."""
    bounds = [measure for name, (measure, _) in BOUNDS.items() if getattr(selection, name) is not None]
    names = [column for measure in (selection.sort, *bounds) for column in _COLUMNS.get(measure, ())]
    return [*dict.fromkeys(names), *(flag for name, flag in _LACKING.items() if getattr(selection, name) is not None)]


def _of_session(selection: CallFilter, dialect: Dialect) -> Iterator[str]:
    """Yield the conditions on the calls, id, times and sums of sessions `listed`."""
    if selection.ids:
        yield filters.session_is_named(selection, "listed.session_id")
    if selection.session_id is not None:
        yield "listed.session_id = :session_id"
    if selection.since_ns is not None:
        yield "at >= :since_ns"
    if selection.until_ns is not None:
        yield "at > 0 AND at < :until_ns"
    measures = {"cost_usd": "(cost, cost_rest)", "duration_ns": "duration", "tokens": "tokens"}
    yield from filters.bounded(selection, measures)
    yield from (f"{flag} = 0" for name, flag in _LACKING.items() if getattr(selection, name) is not None)
    of_calls = "listed.session_id {} (SELECT c.session_id FROM calls c WHERE c.session_id IS NOT NULL AND {})"
    if selection.errors is False:
        yield of_calls.format("NOT IN", call_condition(CallFilter(errors=True), dialect))
    if (call_conditions := filters.conditions_on_calls(selection)) is not None:
        yield of_calls.format("IN", call_condition(call_conditions, dialect))
    yield from filters.session_scores(selection)
