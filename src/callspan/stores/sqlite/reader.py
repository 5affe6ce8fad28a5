"""Reader of a SQLite file, while others write."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import msgspec

from callspan.forks import in_child
from callspan.record.labels import label_of, labels
from callspan.stores import bodies
from callspan.stores.aggregates import Latencies, latencies_of
from callspan.stores.base import StoreError, no_file
from callspan.stores.filters import SQLITE
from callspan.stores.sql_reader import ExactCalls, SqlReader
from callspan.stores.sql_rewards import Values
from callspan.stores.sqlite.file import BUSY_MS, explaining, forbid, open_for_reading, remedy

_INHERITED: Final = "it was open for reading when this process was forked, and SQLite has no locks in the child"
_CHUNK: Final = 500
_GATHERED: Final = "json_group_array(c.{0}) FILTER (WHERE c.outcome = 'success' AND c.{0} IS NOT NULL)"


_CONTAINS: Final = r"""(({text} LIKE
  '%' || replace(replace(replace(substr({part}, 1, 2000), '\', '\\'), '%', '\%'), '_', '\_') || '%' ESCAPE '\'
  OR length({text}) <> length(CAST({text} AS BLOB))) AND callspan_contains({text}, {part}))"""
"""LIKE, which ignores the case of ASCII only and refuses long patterns, passes over most texts without Python."""


class SQLiteReader(SqlReader):
    """Opens the file read-only. Raises StoreError for a missing file or one of another application."""

    _day = "date(c.start_ns / 1000000000, 'unixepoch')"
    _hour = "strftime('%Y-%m-%dT%H:00Z', c.start_ns / 1000000000, 'unixepoch')"
    _minute = _hour.replace(":00Z", ":%MZ")
    _cost = "coalesce(c.cost_picousd, CAST(c.cost_usd * 1e12 AS integer))"
    _times = f", {_GATHERED.format('duration_ns')} AS durations, {_GATHERED.format('ttft_ns')} AS first_tokens"
    _row_id = "id"
    _ids_as_list = "json_group_array(t.id)"
    _refers_to_one = """EXISTS (SELECT 1 FROM json_each(k.contents) r, json_each(h.ids) i
      WHERE i.value BETWEEN json_extract(r.value, '$[1]') AND json_extract(r.value, '$[2]'))"""
    _metadata = SQLITE
    _contains = _CONTAINS

    def __init__(self, path: str | Path, wait_s: float | None = None) -> None:
        """Open `path` at once, so that errors show early; `wait_s` is how long to wait for the locks of others."""
        self.name = f"sqlite:///{path}"
        self._path = Path(path)
        self._remedy = remedy(self._path)
        self._connection = open_for_reading(self._path, BUSY_MS / 1000 if wait_s is None else wait_s)
        self._inode = self._path.stat().st_ino
        self._is_open = True
        in_child(self, _inherit)
        self._connection.row_factory = sqlite3.Row
        for name, arguments, function in FUNCTIONS:
            self._connection.create_function(name, arguments, function, deterministic=True)

    def _rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""
        with explaining(self._path):
            cursor = self._connection.execute(sql, values)
            while chunk := cursor.fetchmany(_CHUNK):
                yield from chunk

    def _tuples(self, sql: str, **values: object) -> Iterator[tuple[object, ...]]:
        """Yield the same rows as plain tuples."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        with explaining(self._path):
            yield from cursor.execute(sql, values)

    def _among(self, column: str) -> str:
        """Return the condition that a column has one of the values of `:among`."""
        return f"{column} IN (SELECT value FROM json_each(:among))"

    def _many(self, ids: Sequence[str]) -> object:
        """Return the value of `:among`, a JSON array."""
        return msgspec.json.encode(ids).decode()

    @staticmethod
    def _left(data: object) -> bytes | None:
        """Return the JSON in the column `data`, which is deflated."""
        return bodies.inflated(cast("bytes | None", data))

    def _latencies(
        self, keys: Sequence[str], where: str, values: Values, rows: Sequence[Values]
    ) -> Mapping[object, Latencies]:
        """Return the percentiles of the calls that succeeded, by group, of the times in the rows of sums."""
        del where, values
        found: dict[object, Latencies] = {}
        for row in rows:
            group = tuple(row[f"group{number}"] for number, _ in enumerate(keys))
            durations, first_tokens = (
                msgspec.json.decode(cast("str", row[name]), type=list[int]) for name in ("durations", "first_tokens")
            )
            found |= latencies_of({group: durations}, {group: first_tokens})
        return found

    def version(self) -> str | None:
        """Return a text that differs when something was written since. Raises StoreError where the file is another."""
        if not self._path.exists():
            raise no_file(self._path)
        if self._path.stat().st_ino != self._inode:
            raise StoreError(f"{self._path}: another file has taken its place")
        with explaining(self._path):
            return f"{self._inode} {self._connection.execute('PRAGMA data_version').fetchone()[0]}"

    def interrupt(self) -> None:
        """Stop the query that runs, from any thread; it raises sqlite3.OperationalError."""
        self._connection.interrupt()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._is_open = False


def _inherit(reader: SQLiteReader) -> None:
    if reader._is_open:
        forbid(reader._path, _INHERITED)


class WritersReader(SQLiteReader, ExactCalls):
    """Reads over a writer's connection, including what its transaction has written."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """The file is `connection`'s."""
        self.name = f"sqlite:///{path}"
        self._path, self._remedy = path, remedy(path)
        self._connection = connection

    def _rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""
        cursor = self._connection.cursor()
        cursor.row_factory = sqlite3.Row
        yield from cursor.execute(sql, values).fetchall()


def _label(metadata: str | None, key: str) -> str | None:
    return None if metadata is None else label_of(msgspec.json.decode(metadata, type=dict), key)


def _has(metadata: str | None, key: str, value: str) -> bool:
    return metadata is not None and value in labels(msgspec.json.decode(metadata, type=dict), key)


def _contains(text: str | None, part: str) -> bool:
    """Return whether a text contains a case-folded part; SQLite's own `lower` knows ASCII alone."""
    return text is not None and part in text.casefold()


FUNCTIONS: Final = (("callspan_label", 2, _label), ("callspan_has", 3, _has), ("callspan_contains", 2, _contains))
