"""Session source: the subquery of the sessions that a store knows, with the sums that they are sorted by."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from callspan.stores.database import Dialect
from callspan.stores.filters import (
    TOKENS,
    CallFilter,
    SessionFilter,
    call_condition,
    of_calls,
    session_condition,
)


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
