"""Retention of Postgres: short transactions under an advisory lock.

Contents are looked through some at a time: what calls refer to is marked in `in_use`. Writers that begin meanwhile see
the row that stands for the sweep, and mark what their calls refer to. What is to be deleted is looked up in it again,
while no writer is in between.
"""

# ruff: noqa: S608 - only our own table and column names are put into SQL; values are parameters

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any, Final, TypeVar
from uuid import uuid4

import psycopg
from psycopg.types.string import TextLoader

from callspan.safe_urls import safe_name
from callspan.stores.base import Keep, check_layout
from callspan.stores.columns import TABLES
from callspan.stores.postgres.connection import connect, explaining, layout, to_query
from callspan.stores.postgres.store import WritersReader, storable
from callspan.stores.retention import SKELETONS, referred
from callspan.stores.sql_retention import STEP_S, SqlRetention

_T = TypeVar("_T")
_RETENTION: Final = 0x43535032
"""The advisory lock of the process that deletes by itself."""
_ROWS, _MOST_ROWS = 20, 5_000
"""Rows of the first step, and the most of one."""
_SWEPT: Final = {"ctx": "id", "content": "hash"}
"""Tables of what calls refer to, and their keys; nodes refer to contents."""
_MARKED: Final = "(SELECT u.id FROM in_use u WHERE u.id = {id})"
"""A subquery and no join: of each row it looks in the index, and does not read the whole table."""
_SOME: Final = "(SELECT * FROM calls WHERE call_id = ANY(:keys)) c"
_MARK: Final = f"""
WITH RECURSIVE these AS (SELECT * FROM {_SOME}), up (id) AS (
  SELECT s.ctx FROM these s WHERE s.ctx IS NOT NULL AND {_MARKED.format(id="s.ctx")} IS NULL
  UNION SELECT x.parent FROM up JOIN ctx x ON x.id = up.id
   WHERE x.parent <> ''::bytea AND {_MARKED.format(id="x.parent")} IS NULL)
INSERT INTO in_use (id)
SELECT id FROM up UNION SELECT x.content FROM up JOIN ctx x ON x.id = up.id
UNION SELECT request FROM these WHERE request IS NOT NULL UNION SELECT system FROM these WHERE system IS NOT NULL
UNION SELECT tools FROM these WHERE tools IS NOT NULL UNION SELECT output FROM these WHERE output IS NOT NULL
ON CONFLICT DO NOTHING
"""
_NO_WRITER: Final = "LOCK TABLE content, ctx IN SHARE ROW EXCLUSIVE MODE"
"""Waits for the writers, who lock the contents before anything else."""
_MARKS_ALONE: Final = "LOCK TABLE in_use IN SHARE ROW EXCLUSIVE MODE"
"""Who marks at the same time in another order would wait for this one, and this one for him."""


def retain(url: str, keep: Keep, counts: Counter[str]) -> Iterator[None]:
    """Delete what is old or too much, in short transactions. Raises StoreError, psycopg.Error."""
    with closing(connect(url)) as connection, explaining(safe_name(url), connection):
        check_layout(safe_name(url), layout(connection))
        connection.adapters.register_loader("json", TextLoader)
        # After waiting for a writer its rows must be visible.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        # A plan that was made for few marks would stay.
        connection.prepare_threshold = None
        yield from SqlRetention(_Engine(connection, safe_name(url)), keep, counts).steps()


class _TakenError(Exception):
    """Another process sweeps."""


class _Engine:
    """The SQL of a retention."""

    row, among, lock = "ctid", "= ANY(:keys)", "FOR UPDATE"
    first = _ROWS

    def __init__(self, connection: psycopg.Connection, name: str) -> None:
        self._connection = connection
        self.reader = WritersReader(name, connection)
        self.size = _ROWS

    def run(self, sql: str, values: Mapping[str, object]) -> psycopg.Cursor:
        """Run a statement."""
        return self._connection.execute(to_query(sql), {name: storable(one) for name, one in values.items()} or None)

    def many(self, keys: Sequence[str]) -> object:
        """Return the value of `:keys`."""
        return list(keys)

    def write(self, work: Callable[[], _T]) -> Generator[None, None, _T]:
        """Do work in a transaction and yield; yield first while another process deletes."""
        while True:
            started = time.monotonic()
            with self._connection.transaction():
                if self._connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_RETENTION,)).fetchone() == (
                    True,
                ):
                    result = work()
                    break
            yield
        took_s = max(0.0001, time.monotonic() - started)
        self.size = max(1, min(_MOST_ROWS, 2 * self.size, int(self.size * STEP_S / took_s)))
        yield
        return result

    def sweep(self, counts: Counter[str]) -> Iterator[None]:
        """Delete, in steps, every chain node and content that no call refers to."""
        return _Sweep(self, counts).steps()

    def used_bytes(self) -> int:
        """Return the bytes of the rows in use: their number, and the size of the first thousand of each table."""
        tables = (*(table.name for table in TABLES.values()), "content", "ctx")
        size = "(SELECT avg(pg_column_size(x.*)) FROM (SELECT * FROM {0} LIMIT 1000) x)"
        sums = " + ".join(f"coalesce((SELECT count(*) FROM {{0}}) * {size}, 0)".format(table) for table in tables)
        return int(self.run(f"SELECT {sums}", {}).fetchall()[0][0])


class _Sweep:
    """One look through the contents."""

    def __init__(self, engine: _Engine, counts: Counter[str]) -> None:
        self._engine, self._counts = engine, counts
        self._run = engine.run
        self._name = str(uuid4())
        self._last: object = None
        """Id of the newest call as this began; later ones are marked by who writes them."""

    def steps(self) -> Iterator[None]:
        """Mark what is referred to, then delete the rest; give up if another process begins."""
        with suppress(_TakenError):
            yield from self._emptied(self._name)
            call_id: str | None = ""
            while call_id is not None:
                call_id = yield from self._engine.write(partial(self._mark, call_id))
            for table in _SWEPT:
                key: bytes | None = b""
                while key is not None:
                    key = yield from self._engine.write(partial(self._delete, table, key))
            yield from self._emptied(None)

    def _emptied(self, name: str | None) -> Iterator[None]:
        """Take all marks away; then, while no writer is in between, put the row there by which they see this sweep."""
        write = self._engine.write
        # First this one: a sweep whose marks are gone deletes nothing more.
        yield from write(partial(self._run, f"{_MARKS_ALONE}; DELETE FROM in_use WHERE id = ''", {}))
        sql = "DELETE FROM in_use WHERE id IN (SELECT id FROM in_use LIMIT :most)"
        while (yield from write(lambda: self._run(sql, {"most": self._engine.size}).rowcount)):
            pass

        def begin() -> None:
            self._run(f"{_NO_WRITER}; DELETE FROM in_use", {})
            if name is not None:
                self._run("INSERT INTO in_use (id, sweep) VALUES ('', :name)", {"name": name})
                (self._last,) = self._run("SELECT max(call_id) FROM calls", {}).fetchall()[0]

        yield from write(begin)

    def _check(self) -> None:
        if not self._run("SELECT 1 FROM in_use WHERE id = '' AND sweep = :name", {"name": self._name}).fetchall():
            raise _TakenError

    def _mark(self, after: str) -> str | None:
        """Mark what some calls refer to; return the key of the last one, None if there are no more."""
        self._run(_MARKS_ALONE, {})
        self._check()
        most = max(1, self._engine.size // 10)
        sql = "SELECT call_id FROM calls WHERE call_id > :after AND call_id <= :last ORDER BY call_id LIMIT :most"
        found = self._run(sql, {"after": after, "last": self._last, "most": most}).fetchall()
        if not found:
            return None
        keys = [str(row[0]) for row in found]
        skeletons = f"{SKELETONS.format(id='hash', calls=_SOME)} AND {_MARKED.format(id='content.hash')} IS NULL"
        others = referred(self._run(skeletons, {"keys": keys}).fetchall())
        self._run(_MARK, {"keys": keys})
        sql = "INSERT INTO in_use (id) SELECT unnest(:others::bytea[]) ON CONFLICT DO NOTHING"
        self._run(sql, {"others": [*others]})
        return keys[-1]

    def _delete(self, table: str, after: bytes) -> bytes | None:
        """Delete some rows without a mark; return the key of the last one looked at, None if there are no more."""
        key = _SWEPT[table]
        unmarked = f"{_MARKED.format(id=f'{table}.{key}')} IS NULL"
        sql = f"SELECT {key}, {unmarked} FROM {table} WHERE {key} > :after ORDER BY {key} LIMIT :most"
        rows: Any = self._run(sql, {"after": after, "most": self._engine.size}).fetchall()
        if gone := [found for found, is_gone in rows if is_gone]:
            self._run(_NO_WRITER, {})
            self._check()
            sql = f"DELETE FROM {table} WHERE {key} = ANY(:gone) AND {unmarked}"
            self._counts[f"{table}s"] += self._run(sql, {"gone": gone}).rowcount
        return bytes(rows[-1][0]) if rows else None
