"""Retention of ClickHouse: takes what is old or too much, or only its content; many at once: deletions are mutations.

Content goes by the row that counts, written again without it in the same version: of these the last one counts. Then
all rows with content that were found go, each known by a hash, but those that count.
"""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, Final, TypeAlias

from clickhouse_connect.driver.client import Client

from callspan.safe_urls import safe_name
from callspan.stores.base import Keep, check_layout
from callspan.stores.clickhouse.connection import connect, explaining, layout
from callspan.stores.clickhouse.reader import ClickHouseWritersReader
from callspan.stores.clickhouse.store import FINAL, delete, delete_among, insert, row_of, unreferred, written_to
from callspan.stores.columns import CONTENTS, TABLES, Table
from callspan.stores.retention import ABOUT_CALLS
from callspan.stores.sql_retention import LOWER, MAY_GO, Candidate, bare_cells

_MOST: Final = 1000
_MOST_READ: Final = 50
"""Records of a step: reading and reducing them is our work, not the server's."""
_MOST_CONTENTS: Final = 20_000
_TABLES: Final = ("calls", "session_versions", "timestep_versions", *ABOUT_CALLS, "content")
_WRITTEN: Final = {written_to(table): table for table in TABLES.values()}
_OWN: Final = {
    "sessions": ("session_id", sorted(_WRITTEN, key="session_versions".__eq__)),
    "calls": ("call_id", ("rewards", "calls")),
}
"""Of sessions and of calls outside sessions: by which column what is their own is found, in which tables, in order.

The row of a session goes last: who is killed goes on with it."""
_CHAIN: Final = "ctx"
"""In ClickHouse, calls name the messages themselves, in `history`."""
_MARK: Final = "retention"
"""Id of a row of `erased` by which writers see that contents are deleted, and write theirs again."""
_RUNS: Final = "outcome IN ('started', 'in_progress')"
_ENDED: Final = f" AND NOT ifNull({_RUNS}, 0) AND ifNull(seen_ns, 0) < {{until:Int64}}"
_CANDIDATES: Final = f"""
SELECT coalesce(s.end_ns, s.start_ns) AS at, s.session_id AS key, 'sessions' AS of, s.host AS host, s.pid AS pid,
       s.end_ns IS NULL AS open
  FROM sessions s LEFT JOIN (
    SELECT session_id, max(start_ns) AS last, maxIf(start_ns, {_RUNS}) AS running, max(seen_ns) AS read
      FROM calls GROUP BY session_id) c
    ON c.session_id = s.session_id
 WHERE at < {{before:Int64}} AND s.seen_ns < {{before:Int64}} AND (at, key) > ({{after:Int64}}, {{key:String}})
   AND ifNull(c.last, 0) < if(open, {{quiet:Int64}}, {{before:Int64}}) AND ifNull(c.running, 0) < {{quiet:Int64}}
   AND (NOT open OR s.seen_ns < {{quiet:Int64}}) AND ifNull(c.read, 0) < {{until:Int64}}
UNION ALL
SELECT start_ns, call_id, 'calls', host, pid, ifNull({_RUNS}, 0) FROM calls
 WHERE session_id IS NULL AND start_ns < {{before:Int64}} AND (start_ns, call_id) > ({{after:Int64}}, {{key:String}})
   AND (NOT ifNull({_RUNS}, 0) OR start_ns < {{quiet:Int64}}) AND ifNull(seen_ns, 0) < {{until:Int64}}
"""
_OLD: Final = "(session_id IS NULL OR session_id NOT IN (SELECT session_id FROM sessions)) AND {at} < {{before:Int64}}"
"""Of no session, or of one that is not there: it went before they were delivered."""
_OF_NO_SESSION: Final = "session_id NOT IN (SELECT session_id FROM sessions) AND start_ns < {before:Int64}"
_TO_REDUCE: Final = """
SELECT {key} AS key, {print} AS print FROM {table}
 WHERE {condition} AND ({full}) AND ({key}, {print}) > ({{key:String}}, {{print:String}})
 ORDER BY key, print LIMIT {most}
"""
_ALL: Final = 1 << 62
_Take: TypeAlias = Callable[[str, str, Mapping[str, object]], Iterator[None]]
"""Deletes the rows of a table and a condition with these parameters, or takes their content."""


def retain(url: str, keep: Keep, counts: Counter[str]) -> Iterator[None]:
    """Delete what is old or too much, or its content. Raises StoreError, ClickHouseError."""
    with closing(connect(url)) as client, explaining(safe_name(url), client):
        check_layout(safe_name(url), layout(client))
        retention = _Retention(client, keep, counts)
        if keep.before_ns is not None:
            yield from retention.until(keep.before_ns, retention.delete)
            yield from retention.others(keep.before_ns, retention.delete)
            yield from retention.swept()
        if keep.content_before_ns is not None:
            yield from retention.until(keep.content_before_ns, retention.reduce)
            yield from retention.others(keep.content_before_ns, retention.reduce)
            yield from retention.sweep()
        while keep.most_bytes is not None and (used := retention.used_bytes()) > keep.most_bytes:
            known = counts.total()
            yield from retention.until(keep.until_ns, retention.delete, 1 - LOWER * keep.most_bytes / used)
            if counts.total() == known:
                return
            yield from retention.swept()


class _Retention:
    """One pass."""

    def __init__(self, client: Client, keep: Keep, counts: Counter[str]) -> None:
        self._client, self._keep, self._counts = client, keep, counts

    def until(self, before_ns: int, take: _Take, part: float | None = None) -> Iterator[None]:
        """Take what ended before a time with all that is its own, or only a part of it."""
        place = Candidate(0, "", "", None, None, has_no_end=False)
        left = _ALL
        if part is not None:
            left = max(1, int(part * self._number(MAY_GO)))
        while left > 0 and (found := self._candidates(place, before_ns, min(_MOST, left))):
            place = found[-1]
            gone = [one for one in found if not one.lives]
            left -= len(gone)
            for of, (column, tables) in _OWN.items():
                ids = [one.key for one in gone if one.table == of]
                for table in tables if ids else ():
                    yield from take(table, f"{column} IN {{ids:Array(String)}}", {"ids": ids})
            yield

    def _candidates(self, place: Candidate, before_ns: int, most: int) -> list[Candidate]:
        values: dict[str, object] = {"after": place.at_ns, "key": place.key, "before": before_ns}
        values |= {"quiet": min(before_ns, self._keep.quiet_ns), "until": self._keep.until_ns}
        rows: Any = self._rows(f"SELECT * FROM ({_CANDIDATES}) ORDER BY at, key LIMIT {most}", values)
        return [Candidate(*row) for row in rows]

    def others(self, before_ns: int, take: _Take) -> Iterator[None]:
        """Take old records of no session, and those delivered after their session went; delete old rejected ones."""
        values = {"before": before_ns, "until": self._keep.until_ns}
        delete(self._client, "dead_letter", "time_ns < {before:Int64}", values)
        for table in ("calls", *ABOUT_CALLS):
            at = "start_ns" if table == "calls" else "time_ns"
            ended = _ENDED if table == "calls" else ""
            yield from take(table, _OLD.format(at=at) + ended, values)
        yield from take("timestep_versions", _OF_NO_SESSION, values)

    def delete(self, table: str, condition: str, values: Mapping[str, object]) -> Iterator[None]:
        """Delete rows."""
        of = _WRITTEN[table]
        self._counts[of.name] += delete(self._client, table, condition, values, of.key if of.merges else None)
        yield

    def reduce(self, table: str, condition: str, values: Mapping[str, object]) -> Iterator[None]:
        """Take the content of rows, some at once."""
        of = _WRITTEN[table]
        texts = [name for name in CONTENTS[of.name] if name != _CHAIN]
        full = " OR ".join(f"{name} IS NOT NULL" for name in texts)
        full += " OR content_level = 'full'" if of.kind == "call" else ""
        hashed = ({*of.names, *texts} | ({"history"} if of.kind == "call" else set())) - {"stamps"}
        print_ = f"toString(sipHash64(toString(({', '.join(sorted(hashed))}))))"
        sql = _TO_REDUCE.format(table=table, key=of.key, print=print_, condition=condition, full=full, most=_MOST)
        place, number = {"key": "", "print": ""}, _MOST
        while number == _MOST:
            found: Any = self._client.query(sql, parameters={**values, **place}).result_rows
            number = len(found)
            if found:
                place = dict(zip(("key", "print"), found[-1], strict=True))
                keys = sorted({row[0] for row in found})
                for start in range(0, len(keys), _MOST_READ):
                    self._write_bare(table, keys[start : start + _MOST_READ])
                    yield
                self._delete_full(table, keys, {row[1] for row in found}, print_)
            yield

    def _write_bare(self, table: str, keys: list[str]) -> None:
        """Write the rows that count of these keys without their content."""
        of, bare = _WRITTEN[table], []
        reader = ClickHouseWritersReader("", self._client)
        sql = f"SELECT * FROM {table} WHERE {of.key} IN :keys"
        for row, record in reader.rows_and_records(of, sql, {"keys": keys}):
            reduced = record if record is None or self._keep.reduced is None else self._keep.reduced(record)
            if reduced is None:
                bare.append(_bare_row(of, row))
            elif reduced is not record:
                bare.append(row_of(reduced))
        insert(self._client, table, bare)
        self._counts["reduced"] += len({row[of.key] for row in bare})

    def _delete_full(self, table: str, keys: list[str], prints: set[str], print_: str) -> None:
        """Delete the rows of `prints` that do not count."""
        chosen = f"FROM {table} WHERE {_WRITTEN[table].key} IN "
        mine = f"{chosen} {{keys:Array(String)}}"
        counting = {str(row[0]) for row in self._rows(f"SELECT {print_} {mine}", {"keys": keys})}
        if gone := sorted(prints - counting):
            sql = f"DELETE {mine} AND {print_} IN {{prints:Array(String)}}"
            self._client.command(sql, parameters={"keys": keys, "prints": gone})

    def swept(self) -> Iterator[None]:
        """Sweep if calls were deleted since the last time."""
        if self._counts["calls"] > self._counts["swept"]:
            self._counts["swept"] = self._counts["calls"]
            yield from self.sweep()

    def sweep(self) -> Iterator[None]:
        """Delete the contents that no call refers to any more, also of what was written again."""
        while unreferred(self._client, time.time_ns(), 1):
            now = time.time_ns()
            insert(self._client, "erased", [{"id": _MARK, "time_ns": now}])
            found = unreferred(self._client, now, _MOST_CONTENTS)
            for start in range(0, len(found), _MOST):
                yield
                some = found[start : start + _MOST]
                self._counts["contents"] += delete_among(self._client, "content", "hash", some, also=f"seen_ns < {now}")
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


def _bare_row(of: Table, row: Mapping[str, object]) -> dict[str, object]:
    """Return a damaged row without its texts and JSON."""
    whole = {**row, **bare_cells(of)} | ({"content_level": "metadata", "history": []} if of.kind == "call" else {})
    return {name: value for name, value in whole.items() if name != _CHAIN}
