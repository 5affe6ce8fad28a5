"""SQL retention: takes from SQLite and Postgres what is old or too much, or only its content, step by step."""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from callspan.record.events import Record
from callspan.stores.aggregates import is_gone
from callspan.stores.base import Keep
from callspan.stores.columns import CONTENTS, REFERENCES, TABLES, Table
from callspan.stores.payloads import cells_of
from callspan.stores.retention import CHILDREN, OLD, Result
from callspan.stores.sql_reader import ExactCalls

_T = TypeVar("_T")
STEP_S: Final = 0.01
"""How long a step is to take."""
LOWER: Final = 0.95
"""Part of the allowed bytes that is left after a deletion: else each record would cause the next one."""
_STAMPS: Final = "stamps"
"""What is merged later is compared with these: they stay."""
_BY_NAME: Final = {table.name: table for table in TABLES.values()}
_ENDED: Final = "coalesce(s.end_ns, s.start_ns)"
_RUNS: Final = "c.outcome IN ('started', 'in_progress')"
_AFTER: Final = "{at} >= :after AND ({at} > :after OR {key} > :key) AND {at} < :before"
_SESSIONS: Final = f"""
SELECT {_ENDED}, s.session_id, 'sessions', s.host, s.pid, s.end_ns IS NULL FROM sessions s
 WHERE {_AFTER.format(at=_ENDED, key="s.session_id")} AND s.seen_ns < :before
   AND (s.end_ns IS NOT NULL OR s.seen_ns < :quiet)
   AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.session_id = s.session_id
     AND (c.seen_ns >= :until OR c.start_ns >= CASE WHEN s.end_ns IS NULL OR {_RUNS} THEN :quiet ELSE :before END))
 ORDER BY 1, 2 LIMIT :most"""
_LOOSE_CALLS: Final = f"""
SELECT c.start_ns, c.call_id, 'calls', c.host, c.pid, {_RUNS} FROM calls c
 WHERE c.session_id IS NULL AND {_AFTER.format(at="c.start_ns", key="c.call_id")}
   AND (coalesce(c.outcome, '') NOT IN ('started', 'in_progress') OR c.start_ns < :quiet)
   AND coalesce(c.seen_ns, 0) < :until
 ORDER BY 1, 2 LIMIT :most"""
MAY_GO: Final = """
SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM calls WHERE session_id IS NULL)"""
_TO_REDUCE: Final = """
SELECT * FROM {table} WHERE {key} IN (
  SELECT {key} FROM {table} WHERE {key} || '' > :last AND {condition} AND ({full}) ORDER BY {key} || '' LIMIT :most)
 ORDER BY {key} {lock}"""
"""The concatenation keeps servers from reading all rows in the order of their keys."""
_WITHOUT_SESSION: Final = """
WITH RECURSIVE named (id) AS (
  SELECT min(session_id) FROM {table} WHERE session_id > :after
  UNION ALL
  SELECT (SELECT min(x.session_id) FROM {table} x WHERE x.session_id > named.id) FROM named WHERE named.id IS NOT NULL)
SELECT id, (SELECT 1 FROM sessions s WHERE s.session_id = id) FROM named WHERE id IS NOT NULL LIMIT :most"""


class Candidate(NamedTuple):
    """A session or a call outside of sessions that may go."""

    at_ns: int
    """Its end, or its start if it has none."""
    key: str
    table: str
    host: str | None
    pid: int | None
    has_no_end: bool

    @property
    def lives(self) -> bool:
        """Return whether it has no end, and its process runs on this host."""
        return self.has_no_end and self.host == socket.gethostname() and not is_gone(self.host, self.pid)


class Engine(Protocol):
    """What the SQL of a store differs in."""

    row: str
    """Name of the column that identifies a row."""
    among: str
    """Condition that a value is one of `:keys`."""
    lock: str
    """Clause of a query that locks its rows."""
    first: int
    """Rows of a first step."""
    size: int
    """Rows that a step may take now."""

    @property
    def reader(self) -> ExactCalls:
        """A reader over the same connection."""

    def run(self, sql: str, values: Mapping[str, object]) -> Result:
        """Run a statement with `:name` parameters."""

    def many(self, keys: Sequence[str]) -> object:
        """Return the value of `:keys`."""

    def write(self, work: Callable[[], _T]) -> Generator[None, None, _T]:
        """Do work in a transaction and yield; yield also while another process holds a lock."""

    def sweep(self, counts: Counter[str]) -> Iterator[None]:
        """Delete, in steps, the contents that no call refers to any more, and where bytes of them stay on disk."""

    def used_bytes(self) -> int:
        """Return the bytes in use."""


class _Take(Protocol):
    """Deletes rows, or takes their content."""

    def __call__(
        self, table: str, condition: str, keys: Sequence[str] = (), before_ns: int | None = None
    ) -> Iterator[None]:
        """Take the rows of this condition, which may name `:keys` and `:before`."""


class SqlRetention:
    """One pass over a store: each `next` of `steps` is a short transaction."""

    def __init__(self, engine: Engine, keep: Keep, counts: Counter[str]) -> None:
        self._engine, self._keep, self._counts = engine, keep, counts
        self._sizes: dict[str, int] = {}
        """Rows that a step may delete now, by table."""
        self._at_once = max(1, engine.first // 10)
        """Sessions and calls that are looked for together."""

    def steps(self) -> Iterator[None]:
        """Delete what is old, then what is too much, then what only that referred to."""
        before = self._keep.before_ns
        if before is not None:
            yield from self._until(before, None, self._delete)
            yield from self._others(before, self._delete, rejected=True)
            yield from self._swept()
        if (content_before := self._keep.content_before_ns) is not None:
            yield from self._until(content_before, None, self._reduce)
            yield from self._others(content_before, self._reduce, rejected=True)
            # Also of what was delivered again, which changed no row.
            yield from self._engine.sweep(self._counts)
        while (most := self._keep.most_bytes) is not None and (used := self._engine.used_bytes()) > most:
            known, there = self._counts.total(), self._number(MAY_GO)
            part = max(1, int(there * (1 - LOWER * most / used)))
            last = yield from self._until(self._keep.until_ns, part, self._delete)
            yield from self._others(last, self._delete, rejected=False)
            if self._counts.total() == known:
                return
            yield from self._swept()

    def _swept(self) -> Iterator[None]:
        if self._counts["calls"] > self._counts["swept"]:
            self._counts["swept"] = self._counts["calls"]
            yield from self._engine.sweep(self._counts)

    def _number(self, sql: str) -> int:
        return int(str(self._engine.run(sql, {}).fetchall()[0][0]))

    def _until(self, before_ns: int, left: int | None, take: _Take) -> Generator[None, None, int]:
        """Take what ended before a time, or only so many sessions and calls; return the end of the last."""
        place = Candidate(0, "", "", None, None, has_no_end=False)
        while left != 0 and (found := self._candidates(place, before_ns, left)):
            place = found[-1]
            gone = [one for one in found if not one.lives]
            known = self._counts.total()
            yield from self._remove(gone, before_ns, take)
            # Each step is short whatever these hold; few of them with little in them would be many steps.
            size = self._sizes.get("calls", self._engine.first)
            self._at_once = min(2 * self._at_once, size) if self._counts.total() - known < size else self._at_once
            left = None if left is None else left - len(gone)
        return place.at_ns

    def _candidates(self, place: Candidate, before_ns: int, left: int | None) -> list[Candidate]:
        """Return the next that may go, as many as a step takes."""
        quiet_ns = min(before_ns, self._keep.quiet_ns)
        most = self._at_once if left is None else min(self._at_once, left)
        values = {"after": place.at_ns, "key": place.key, "before": before_ns, "quiet": quiet_ns, "most": most}
        values |= {"until": self._keep.until_ns}
        found: list[Any] = [
            row for sql in (_SESSIONS, _LOOSE_CALLS) for row in self._engine.run(sql, values).fetchall()
        ]
        return sorted(Candidate(*row) for row in found)[:most]

    def _remove(self, gone: Sequence[Candidate], before_ns: int, take: _Take) -> Iterator[None]:
        """Take sessions with all that is in them, the row of a session last: who is killed goes on with it."""
        sessions = [one.key for one in gone if one.table == "sessions"]
        calls = [one.key for one in gone if one.table == "calls"]
        if sessions:
            for table in CHILDREN:
                yield from take(table, f"session_id {self._engine.among}", sessions)
            still = f"{_ENDED.replace('s.', '')} < :before AND seen_ns < :before"
            yield from take("sessions", f"session_id {self._engine.among} AND {still}", sessions, before_ns)
        if calls:
            yield from take("rewards", f"call_id {self._engine.among}", calls)
            yield from take("calls", f"call_id {self._engine.among}", calls)

    def _others(self, before_ns: int, take: _Take, *, rejected: bool) -> Iterator[None]:
        """Take old records of no session, and those delivered after their session went; delete old rejected ones."""
        if rejected:
            sql = "DELETE FROM dead_letter WHERE time_ns < :before"
            yield from self._engine.write(partial(self._engine.run, sql, {"before": before_ns}))
        for table in CHILDREN:
            if table != "calls":
                old = OLD[table].replace(":value", ":before")
                yield from take(table, f"session_id IS NULL AND {old}", (), before_ns)
        for table in CHILDREN if rejected else ():
            after = ""
            while found := self._engine.run(
                _WITHOUT_SESSION.format(table=table), {"after": after, "most": self._engine.size}
            ).fetchall():
                after = str(found[-1][0])
                gone = [str(key) for key, there in found if there is None]
                old = OLD[table].replace(":value", ":before")
                old += " AND coalesce(seen_ns, 0) < :before" if table == "calls" else ""
                if gone:
                    yield from take(table, f"session_id {self._engine.among} AND {old}", gone, before_ns)
                yield

    def _delete(
        self, table: str, condition: str, keys: Sequence[str] = (), before_ns: int | None = None
    ) -> Iterator[None]:
        """Delete rows, as many at once as a step takes."""
        row, number, most = self._engine.row, 0, 0
        values = {"before": before_ns, "keys": self._engine.many(keys)}
        sql = f"DELETE FROM {table} WHERE {row} IN (SELECT {row} FROM {table} WHERE {condition} LIMIT :most)"

        def work(most: int) -> int:
            deleted = self._engine.run(sql, {**values, "most": most}).rowcount
            self._counts[table] += deleted
            return deleted

        while number == most:
            # Rows of one table cost many times those of another, and an empty step says nothing.
            self._engine.size = most = self._sizes.get(table, self._engine.first)
            number = yield from self._engine.write(partial(work, most))
            self._sizes[table] = self._engine.size if 2 * number >= most else min(most, self._engine.size)

    def _reduce(
        self, table: str, condition: str, keys: Sequence[str] = (), before_ns: int | None = None
    ) -> Iterator[None]:
        """Take the content of rows, as many at once as a step takes."""
        of = _BY_NAME[table]
        full = " OR ".join(f"{name} IS NOT NULL" for name in CONTENTS[table])
        full += " OR content_level = 'full'" if of.kind == "call" else ""
        sql = _TO_REDUCE.format(table=table, key=of.key, condition=condition, full=full, lock=self._engine.lock)
        values: dict[str, object] = {"before": before_ns, "keys": self._engine.many(keys)}
        last: str | None = ""
        while last is not None:
            last = yield from self._engine.write(partial(self._reduce_some, of, sql, {**values, "last": last}))

    def _reduce_some(self, table: Table, sql: str, values: dict[str, object]) -> str | None:
        """Take the content of some rows; return the key of the last one, None if there is none behind it."""
        reduced = self._keep.reduced
        most = max(1, self._engine.size // 10)
        deadline = time.monotonic() + STEP_S
        key, number = None, 0
        for key, record in self._engine.reader.keyed_records(table, sql, {**values, "most": most}):
            number += 1
            bare = record if record is None or reduced is None else reduced(record)
            if bare is not record or record is None:
                self._set(table, key, bare)
            if time.monotonic() >= deadline:
                return key
        return key if number == most else None

    def _set(self, table: Table, key: str, record: Record | None) -> None:
        """Write a record without its content; of a damaged one only what is no text and no JSON stays."""
        if record is None:
            cells = bare_cells(table)
        else:
            cells = dict(zip(table.names, cells_of(record), strict=True))
            cells.pop(table.key)
        if table.kind == "call":
            cells |= {"content_level": getattr(record, "content_level", "metadata"), **dict.fromkeys(REFERENCES)}
        cells.pop(_STAMPS, None)
        sets = ", ".join(f"{name} = :{name}" for name in cells)
        self._engine.run(f"UPDATE {table.name} SET {sets} WHERE {table.key} = :key", {**cells, "key": key})
        self._counts["reduced"] += 1


def bare_cells(table: Table) -> dict[str, object]:
    """Return the cells that change where the content of a damaged row is taken: all texts and all JSON."""
    return dict.fromkeys(("extra", *CONTENTS[table.name], *(one.name for one in table.columns if one.form == "json")))
