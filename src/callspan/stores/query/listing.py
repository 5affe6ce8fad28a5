"""Lists: the calls and sessions that a filter selects, in their order.

A list is read page by page, each after the keys of the last row, so that few rows are in memory.
"""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, repeat
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from callspan.stores.base import CallIds
from callspan.stores.query import filters
from callspan.stores.query.filters import (
    BOUNDS,
    TOKENS,
    CallFilter,
    between,
    call_condition,
    calls_from,
    lowest_first,
    scores_joined,
    session_condition,
)
from callspan.stores.query.interrupted import exited_processes
from callspan.stores.query.sums import WITHOUT_COST, WITHOUT_USAGE
from callspan.stores.tables.database import Database, Dialect, Values

_ROWS_AT_FIRST: Final = 500
_IDS_AT_ONCE: Final = 20_000
_FEW_SESSIONS: Final = 1_000


class _Query(NamedTuple):
    """A sorted query. No two rows have the same sort keys, and none is NULL."""

    columns: str
    source: str
    where: str
    order: tuple[str, ...]
    descending: bool = True
    before: str = ""

    def sql(self, after: Mapping[str, str]) -> str:
        """Return the SQL for columns and keys of the rows after the one with these key parameters, or of all rows."""
        names, keys = ", ".join(f":{name}" for name in after), ", ".join(self.order)
        where = f"{self.where} AND ({keys}) {'<' if self.descending else '>'} ({names})" if after else self.where
        direction = "DESC" if self.descending else "ASC"
        order = ", ".join(f"{key} {direction}" for key in self.order)
        return f"{self.before}SELECT {self.columns}, {keys} FROM {self.source} WHERE {where} ORDER BY {order}"


class Listing:
    """The lists of one store. Safe from any thread that its database is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def calls(self, selection: CallFilter) -> Iterator[CallIds]:
        """Yield the ids of the calls to read, in order."""
        query = _query_of_calls(selection, self._database.dialect, self._within(selection))
        return (CallIds(*row[:2]) for row in self._in_pages(query, selection))

    def sessions(self, selection: CallFilter) -> Iterator[str]:
        """Yield the ids of the sessions to read, in order."""
        query, of_any_time = self._query_of_sessions(selection), replace(selection, since_ns=None, until_ns=None)
        is_by_time = selection.newest_first and query.order == _BY_TIME
        has_windows = is_by_time and not any(_of_session(of_any_time, self._database.dialect))
        return (row[0] for row in self._in_pages(query, selection, has_windows=has_windows))

    def every_session(self, selection: CallFilter) -> list[str]:
        """Return the ids of the sessions to read, in order, by one query: each page would sort all of them again."""
        query = self._query_of_sessions(selection)
        limit = "" if selection.limit is None else f" LIMIT {selection.limit} OFFSET {selection.offset}"
        return [row[0] for row in self._database.tuples(f"{query.sql({})}{limit}", self.parameters(selection))]

    def condition(self, selection: CallFilter) -> tuple[str, Values]:
        """Return the condition on calls `c` and its parameters."""
        return call_condition(selection, self._database.dialect, self._within(selection)), self.parameters(selection)

    def _within(self, selection: CallFilter) -> str:
        """Return the condition that a call `o` is in the time of a selection by a text, if few calls are."""
        is_few = selection.text is not None and self._is_narrow(selection)
        return between("o.start_ns", selection) if is_few else ""

    def sessions_query(self, selection: CallFilter) -> tuple[_Query, Values]:
        """Return the query for sessions in any order, and its parameters."""
        query = self._query_of_sessions(replace(selection, sort="start_ns"))
        return query, self.parameters(selection)

    def parameters(self, selection: CallFilter) -> Values:
        """Return the parameters of the conditions of a selection."""
        return {**filters.parameters(selection), **exited_processes(self._database, filters.processes(selection))}

    def _in_pages(
        self, query: _Query, selection: CallFilter, *, has_windows: bool = False
    ) -> Iterator[tuple[Any, ...]]:
        """Yield a query's rows in order, page by page: drivers of servers hold all rows of a result in memory.

        `has_windows`: of sessions of any time, the newest first, so that the first page need not read all of them.
        """
        values, limit, offset = self.parameters(selection), selection.limit, selection.offset
        names = {f"last{number}": key for number, key in enumerate(query.order)}
        last_keys: dict[str, object] = {}
        # Only an unlimited query needs a small first page, for a fast start.
        for size in chain((_ROWS_AT_FIRST if limit is None else _IDS_AT_ONCE,), repeat(_IDS_AT_ONCE)):
            number = size if limit is None else min(size, limit)
            page, after = f"LIMIT {number} OFFSET {offset}", names if last_keys else {}
            is_window = has_windows and not last_keys
            rows = self._newest(selection, values, page, number + offset) if is_window else []
            if len(rows) < number:
                rows = list(self._database.tuples(f"{query.sql(after)} {page}", {**values, **last_keys}))
            yield from rows
            limit, offset = None if limit is None else limit - len(rows), 0
            if len(rows) < number or limit == 0:
                return
            last_keys = dict(zip(names, rows[-1][-len(names) :], strict=True))

    def _newest(self, selection: CallFilter, values: Values, page: str, number: int) -> list[tuple[Any, ...]]:
        """Return a page that ends within this number of sessions, if these began of late; else less or nothing."""
        if not 0 < number <= _FEW_SESSIONS:
            return []
        values = {**values, **_bounds(selection)}
        start_ns = self._first(_start_of_sessions(selection, number, self._database.dialect), values) or 1
        of_few_ns = self._start_of_few_calls(selection)
        if start_ns <= of_few_ns and session_condition(selection, self._database.dialect) is not None:
            return []
        start_ns = max(start_ns, of_few_ns, selection.since_ns or 1)
        window, values = replace(selection, since_ns=start_ns), {**values, "since_ns": start_ns}
        has_calls = self._first(f"SELECT 1 FROM {_known_from_calls(window, self._database.dialect)} LIMIT 1", values)
        query = _query_of_sessions(window, self._database.dialect, is_narrow=True, has_calls=has_calls is not None)
        return list(self._database.tuples(f"{query.sql({})} {page}", values))

    def _query_of_sessions(self, selection: CallFilter) -> _Query:
        return _query_of_sessions(selection, self._database.dialect, is_narrow=self._is_narrow(selection))

    def _is_narrow(self, selection: CallFilter) -> bool:
        """Return whether there are few calls in the time of a selection."""
        # Those without any time count as the first of all.
        since_ns = selection.since_ns or 0
        return since_ns > 0 and since_ns >= self._start_of_few_calls(selection)

    def _start_of_few_calls(self, selection: CallFilter) -> int:
        """Return the time in a selection from which on there are few calls until its end; 1 if there are few in all."""
        few = self._database.dialect.few_calls
        sql = f"""SELECT c.start_ns FROM calls c WHERE {between("c.start_ns", selection)}
          ORDER BY c.start_ns DESC LIMIT 1 OFFSET {few}"""
        return (None if few is None else self._first(sql, _bounds(selection))) or 1

    def _first(self, sql: str, values: Values) -> int | None:
        """Return the number in the first row of a query; None without rows."""
        return next((row[0] for row in self._database.tuples(sql, values)), None)


_NOTHING: Final = "CAST(NULL AS bigint)"
_NO_REAL: Final = "CAST(NULL AS double precision)"
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
"""Aggregates over the calls of a session, to sort and filter sessions by. `duration` is the end of its last call,
unknown if no call has ended; it is read only if the session has no end, otherwise an index suffices."""
_LASTED: Final = "coalesce(max(ended), max(duration)) - coalesce(max(recorded), min(called))"
_MEASURES: Final = {name: f"CAST(sum({name}) AS bigint)" for name in _OF_CALLS} | {
    "duration": f"CASE WHEN {_LASTED} < 0 THEN 0 ELSE {_LASTED} END",
    "cost": "max(cost) + (max(cost_rest) - max(cost_rest) % 1000000) / 1000000",
    "cost_rest": "max(cost_rest) % 1000000",
}
_REAL_MEASURES: Final = {"cost": (-1e19,)}
"""The measures that are no integers, with a number below all of them."""
_COLUMNS: Final = {
    "cost_usd": ("cost", "cost_rest"),
    "duration_ns": ("duration",),
    "tokens": ("tokens",),
    "retries": ("retries",),
}
"""The aggregates of each measure."""
_LACKING: Final = {"max_cost_usd": "unpriced", "max_tokens": "uncounted"}
"""The aggregates that mark incomplete sums, by field: a maximum matches no session with an incomplete sum."""


def _query_of_calls(selection: CallFilter, dialect: Dialect, within: str) -> _Query:
    """Return the query for the ids of calls and of their sessions."""
    order, where = filters.sort_keys(selection, dialect), call_condition(selection, dialect, within)
    has_scores = selection.since_ns is not None and filters.reads_scores(selection)
    before = dialect.of_calls.format(condition=between("start_ns", selection)) if has_scores else ""
    source, descending = calls_from(selection), selection.newest_first
    return _Query("c.call_id, c.session_id", source, where, order, descending, before)


def _query_of_sessions(selection: CallFilter, dialect: Dialect, *, is_narrow: bool, has_calls: bool = True) -> _Query:
    """Return the query for the ids of sessions, including those known only from their calls, if it `has_calls`.

    `is_narrow`: first find the sessions and calls in the time of the selection, which are few.
    """
    condition = session_condition(selection, dialect)
    of_sessions = _stored(selection, dialect)
    of_calls = "1 = 1" if condition is None else dialect.in_sessions.format(condition=condition)
    if _is_of_user(selection, dialect):
        also = filters.no_list(selection.user_id, dialect, "c")
        of_calls = f"({of_calls} OR (coalesce(c.inferred, false) AND c.user_id = :user_id{also}))"
    if selection.inferred is not None:
        of_calls += f" AND {filters.call_condition(CallFilter(inferred=selection.inferred), dialect)}"
    names = _aggregates(selection)
    began, window = _began(selection, dialect), _window(selection, dialect) if is_narrow else ""
    if is_narrow and names:
        of_calls += f" AND c.session_id IN ({window})"
        of_sessions += f" AND (s.start_ns IS NULL OR {began})"
    elif is_narrow:
        of_calls += f" AND c.session_id IN (SELECT w.session_id FROM {_known_from_calls(selection, dialect)})"
        of_sessions += f" AND {began}"
    null_columns = "".join(f", {_NO_REAL if name in _REAL_MEASURES else _NOTHING} AS {name}" for name in names)
    of_call_columns = "".join(
        f", {_OF_CALLS[name].format(cost=dialect.cost, cost_rest=dialect.cost_rest)}" for name in names
    )
    measures = "".join(f", {_MEASURES[name]} AS {name}" for name in names)
    # Calls are grouped first: an index has them in this order, and few rows remain to be joined.
    calls = f"""UNION ALL SELECT c.session_id, {_NOTHING}, min(c.start_ns), {_NOTHING}{of_call_columns}
        FROM calls c WHERE c.session_id IS NOT NULL AND {of_calls} GROUP BY c.session_id"""
    sessions = f"""(SELECT session_id, coalesce(max(recorded), min(called), 0) AS at{measures} FROM (
      SELECT s.session_id, s.start_ns AS recorded, {_NOTHING} AS called, s.end_ns AS ended{null_columns}
        FROM sessions s WHERE {of_sessions}
      {calls if has_calls else ""}) starts
      GROUP BY session_id) listed"""
    source = " ".join([sessions, *scores_joined(selection)])
    order = [
        filters.known_first(name, selection, *_REAL_MEASURES.get(name, ())) for name in _COLUMNS.get(selection.sort, ())
    ]
    if selection.sort == "score":
        order = [lowest_first("score0.score", selection)]
    where = " AND ".join(_of_session(selection, dialect, window)) or "1 = 1"
    has_scores = window != "" and filters.reads_scores(selection)
    before = dialect.scores_of_sessions.format(condition=f"session_id IN ({window})") if has_scores else ""
    return _Query("listed.session_id", source, where, (*order, *_BY_TIME), selection.newest_first, before)


_BY_TIME: Final = ("at", "listed.session_id")


def _stored(selection: CallFilter, dialect: Dialect) -> str:
    """Return the condition on rows of sessions `s`."""
    # Of a run only calls are stored.
    return "1 = 0" if selection.inferred else session_condition(selection, dialect) or "1 = 1"


def _bounds(selection: CallFilter) -> Values:
    """Return the parameters of `between`, without the things whose time is unknown, which is 0."""
    return {"since_ns": max(selection.since_ns or 1, 1), "until_ns": selection.until_ns}


def _began(selection: CallFilter, dialect: Dialect) -> str:
    """Return the condition that a session `s` began in the time of a selection."""
    return between("s.start_ns", selection) + (dialect.began if selection.since_ns is not None else "")


def _window(selection: CallFilter, dialect: Dialect) -> str:
    """Return the query for the ids of the sessions that may have begun in the time of a selection."""
    of_sessions = f"{_stored(selection, dialect)} AND {_began(selection, dialect)}"
    return f"""SELECT w.session_id FROM {_known_from_calls(selection, dialect)}
      UNION ALL SELECT s.session_id FROM sessions s WHERE {of_sessions}"""


def _is_of_user(selection: CallFilter, dialect: Dialect) -> bool:
    """Return whether sessions are selected by a user alone, so that runs may match without a row."""
    return selection.user_id is not None and session_condition(selection, dialect) == session_condition(
        CallFilter(user_id=selection.user_id), dialect
    )


def _known_from_calls(selection: CallFilter, dialect: Dialect) -> str:
    """Return the source of calls `w` in the time of a selection whose sessions have no row that states a start."""
    # A row that does not match selects nothing by its calls either, except those of a user.
    stored = _stored(selection, dialect) if selection.inferred or _is_of_user(selection, dialect) else "1 = 1"
    return f"""calls w LEFT JOIN (SELECT s.session_id AS session_id, s.start_ns AS start_ns FROM sessions s
      WHERE {stored}) r ON r.session_id = w.session_id
      WHERE w.session_id IS NOT NULL AND {between("w.start_ns", selection)} AND r.start_ns IS NULL"""


def _start_of_sessions(selection: CallFilter, number: int, dialect: Dialect) -> str:
    """Return the query for the start of the last one of this number of sessions with a row, from the newest on."""
    return f"""SELECT s.start_ns FROM sessions s WHERE {_stored(selection, dialect)} AND {_began(selection, dialect)}
      ORDER BY s.start_ns DESC LIMIT 1 OFFSET {number - 1}"""


def _aggregates(selection: CallFilter) -> list[str]:
    """Return the names of the aggregates that sessions are sorted and filtered by."""
    bounds = [measure for name, (measure, _) in BOUNDS.items() if getattr(selection, name) is not None]
    names = [column for measure in (selection.sort, *bounds) for column in _COLUMNS.get(measure, ())]
    return [*dict.fromkeys(names), *(flag for name, flag in _LACKING.items() if getattr(selection, name) is not None)]


def _of_session(selection: CallFilter, dialect: Dialect, window: str = "") -> Iterator[str]:
    """Yield the conditions on the calls, id, times and sums of sessions `listed`.

    `window`: a query for the ids of these sessions, and few others.
    """
    if selection.ids:
        yield filters.session_is_named(selection, "listed.session_id")
    if selection.session_id is not None:
        yield f"listed.session_id = {filters.SESSION}"
    if selection.since_ns is not None:
        yield "at >= :since_ns"
    if selection.until_ns is not None:
        yield "at > 0 AND at < :until_ns"
    measures = {"cost_usd": "(cost, cost_rest)", "duration_ns": "duration", "tokens": "tokens"}
    yield from filters.bounded(selection, measures)
    yield from (f"{flag} = 0" for name, flag in _LACKING.items() if getattr(selection, name) is not None)
    in_window = f" AND c.session_id IN ({window})" if window else ""
    of_calls = (
        f"listed.session_id {{}} (SELECT c.session_id FROM calls c WHERE c.session_id IS NOT NULL AND {{}}{in_window})"
    )
    if selection.errors is False:
        yield of_calls.format("NOT IN", call_condition(CallFilter(errors=True), dialect))
    if (call_conditions := filters.conditions_on_calls(selection)) is not None:
        within = f"o.session_id IN ({window})" if window else ""
        yield of_calls.format("IN", call_condition(call_conditions, dialect, within))
    yield from filters.session_scores(selection)
