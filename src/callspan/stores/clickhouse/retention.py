"""Retention of ClickHouse: deletes what is old or too much, many sessions at once: each deletion is a mutation."""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from callspan.safe_urls import safe_name
from callspan.stores.base import DeletionScope, Keep, check_layout
from callspan.stores.clickhouse.connection import connect, explaining, layout
from callspan.stores.clickhouse.store import FINAL, delete, take
from callspan.stores.retention import ABOUT_CALLS, CHILDREN
from callspan.stores.sql_retention import LOWER, Candidate

_MOST: Final = 1000
_TABLES: Final = ("calls", "session_versions", "timestep_versions", *ABOUT_CALLS, "content")
_MARK: Final = "retention"
"""Id of a row of `erased` by which writers see that contents are deleted, and write theirs again."""
_RUNS: Final = "outcome IN ('started', 'in_progress')"
_CANDIDATES: Final = f"""
SELECT coalesce(s.end_ns, s.start_ns) AS at, s.session_id AS key, 'sessions' AS of, s.host AS host, s.pid AS pid,
       s.end_ns IS NULL AS open
  FROM sessions s LEFT JOIN (
    SELECT session_id, max(start_ns) AS last, maxIf(start_ns, {_RUNS}) AS running FROM calls GROUP BY session_id) c
    ON c.session_id = s.session_id
 WHERE at < {{before:Int64}} AND s.seen_ns < {{before:Int64}} AND (at, key) > ({{after:Int64}}, {{key:String}})
   AND ifNull(c.last, 0) < if(open, {{quiet:Int64}}, {{before:Int64}}) AND ifNull(c.running, 0) < {{quiet:Int64}}
   AND (NOT open OR s.seen_ns < {{quiet:Int64}})
UNION ALL
SELECT start_ns, call_id, 'calls', host, pid, ifNull({_RUNS}, 0) FROM calls
 WHERE session_id IS NULL AND start_ns < {{before:Int64}} AND (start_ns, call_id) > ({{after:Int64}}, {{key:String}})
   AND (NOT ifNull({_RUNS}, 0) OR start_ns < {{quiet:Int64}})
"""
_OLD: Final = "(session_id IS NULL OR session_id NOT IN (SELECT session_id FROM sessions)) AND {at} < {{before:Int64}}"
"""Of no session, or of one that is not there: it went before they were delivered."""


def retain(url: str, keep: Keep, counts: Counter[str]) -> Iterator[None]:
    """Delete what is old or too much. Raises StoreError, ClickHouseError."""
    with closing(connect(url)) as client, explaining(safe_name(url), client):
        check_layout(safe_name(url), layout(client))
        retention = _Retention(client, keep, counts)
        if keep.before_ns is not None:
            yield from retention.until(keep.before_ns)
            yield from retention.others(keep.before_ns)
        while keep.most_bytes is not None and (used := retention.used_bytes()) > keep.most_bytes:
            known = counts.total()
            yield from retention.until(keep.until_ns, 1 - LOWER * keep.most_bytes / used)
            if counts.total() == known:
                return


class _Retention:
    """One pass."""

    def __init__(self, client: Client, keep: Keep, counts: Counter[str]) -> None:
        self._client, self._keep, self._counts = client, keep, counts

    def until(self, before_ns: int, part: float | None = None) -> Iterator[None]:
        """Delete what ended before a time, or only a part of the calls and sessions."""
        place = Candidate(0, "", "", None, None, has_no_end=False)
        left = None
        if part is not None:
            left = max(
                1, int(part * self._number("SELECT (SELECT count() FROM calls) + (SELECT count() FROM sessions)"))
            )
        while (left is None or left > 0) and (found := self._candidates(place, before_ns, left)):
            place = found[-1]
            gone = self._remove([one for one in found if not one.lives])
            left = None if left is None else left - gone
            yield

    def _candidates(self, place: Candidate, before_ns: int, left: int | None) -> list[Candidate]:
        most = _MOST if left is None else max(1, min(_MOST, left // 10))
        values: dict[str, object] = {"after": place.at_ns, "key": place.key, "before": before_ns}
        values["quiet"] = min(before_ns, self._keep.quiet_ns)
        rows: Any = self._rows(f"SELECT * FROM ({_CANDIDATES}) ORDER BY at, key LIMIT {most}", values)
        return [Candidate(*row) for row in rows]

    def _remove(self, gone: list[Candidate]) -> int:
        """Delete sessions and calls with all that is theirs; return how many they were."""
        ids = {table: frozenset(one.key for one in gone if one.table == table) for table in ("sessions", "calls")}
        if not gone:
            return 0
        scope = DeletionScope(ids["sessions"], ids["calls"], erased_ns=time.time_ns())
        removed = take(self._client, scope, [_MARK])
        counts = {name: getattr(removed, name) for name in (*CHILDREN, "sessions", "contents")}
        self._counts.update(counts)
        return removed.calls + removed.sessions

    def others(self, before_ns: int) -> Iterator[None]:
        """Delete old records of no session, and those delivered after their session went."""
        values = {"before": before_ns}
        delete(self._client, "dead_letter", "time_ns < {before:Int64}", values)
        for table in ("calls", *ABOUT_CALLS):
            at = "start_ns" if table == "calls" else "time_ns"
            running = f" AND NOT ifNull({_RUNS}, 0)" if table == "calls" else ""
            self._counts[table] += delete(self._client, table, _OLD.format(at=at) + running, values)
            yield
        old = "session_id NOT IN (SELECT session_id FROM sessions) AND start_ns < {before:Int64}"
        self._counts["timesteps"] += delete(self._client, "timestep_versions", old, values, "timestep_id")
        yield

    def used_bytes(self) -> int:
        """Return the bytes of active parts, without the part of them that are deleted rows."""
        sql = (
            "SELECT table, sum(bytes_on_disk), sum(rows) FROM system.parts"
            " WHERE active AND database = currentDatabase() AND table IN {tables:Array(String)} GROUP BY table"
        )
        used = 0.0
        for table, size, rows in self._rows(sql, {"tables": list(_TABLES)}):
            there = int(str(self._client.query(f"SELECT count() FROM {table}").result_rows[0][0]))
            used += float(str(size)) * there / max(1, int(str(rows)))
        return int(used)

    def _rows(self, sql: str, values: Mapping[str, object]) -> Any:  # noqa: ANN401
        return self._client.query(sql, parameters=dict(values), settings=FINAL).result_rows

    def _number(self, sql: str, **values: object) -> int:
        return int(str(self._rows(sql, values)[0][0]))
