"""Reader of a SQLite file, while others write."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from callspan.record.labels import label_of, labels
from callspan.stores import bodies
from callspan.stores.columns import LAYOUT
from callspan.stores.conditions import SQLITE
from callspan.stores.packing import SAME_HASH
from callspan.stores.sql_reader import SqlReader
from callspan.stores.sql_rewards import Values
from callspan.stores.sqlite.file import open_for_reading
from callspan.stores.sqlite.troubles import explaining, rescue

_CHUNK: Final = 500
_COLUMN: Final = re.compile(r"\bc\.(\w+)")
_CONDITIONS: Final = frozenset({"session_id", "provider"})
_GROUPS: Final[dict[str, str]] = {
    "model": "c.model",
    "provider": "c.provider",
    "session": "c.session_id",
    "day": "date(c.hour * 3600, 'unixepoch')",
}
_SUMS: Final = """
SELECT {key} AS key, sum(c.calls) AS calls, sum(c.errors) AS errors, sum(c.cancelled) AS cancelled,
  sum(c.in_tok) AS input_tokens, sum(c.out_tok) AS output_tokens, sum(c.cache_read_tok) AS cache_read_tokens,
  sum(c.reasoning_tok) AS reasoning_tokens, sum(c.cost_picousd) AS pico, sum(c.costs) AS priced,
  sum(c.exact_costs) AS exact, sum(c.retries) AS retries, min(c.first_ns) AS first_ns, max(c.last_ns) AS last_ns
FROM call_sums c WHERE {where} GROUP BY 1 ORDER BY 2 DESC, coalesce({key}, '')
"""


class SQLiteReader(SqlReader):
    """Opens the file read-only. Raises StoreError for a missing file or one of another application."""

    day = "date(c.start_ns / 1000000000, 'unixepoch')"
    same_hash = SAME_HASH.format(value=":value")
    contains = "callspan_says(t.text, t.rest, :text)"
    metadata = SQLITE

    def __init__(self, path: str | Path) -> None:
        """Open `path` at once, so that errors show early."""
        self.name = f"sqlite:///{path}"
        self._path = Path(path)
        self.remedy = rescue(self._path)
        self._connection = open_for_reading(self._path)
        self.layout = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        self._connection.row_factory = sqlite3.Row
        for name, arguments, function in _FUNCTIONS:
            self._connection.create_function(name, arguments, function, deterministic=True)

    def rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""
        with explaining(self._path):
            cursor = self._connection.execute(sql, values)
            while chunk := cursor.fetchmany(_CHUNK):
                yield from chunk

    def tuples(self, sql: str, **values: object) -> Iterator[tuple[object, ...]]:
        """Yield the same rows as plain tuples."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        with explaining(self._path):
            yield from cursor.execute(sql, values)

    def sums(self, by: str, where: str, values: Values) -> Iterator[Values]:
        """Yield one row per group, from the sums stored in the file if they can answer the query."""
        kept = _kept_sums(by, where)
        return super().sums(by, where, values) if kept is None else self.rows(kept, **values)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class WritersReader(SQLiteReader):
    """Reads what a writer's transaction has written too, over its connection."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """The file is `connection`'s, of this layout."""
        self.name = f"sqlite:///{path}"
        self._path, self.remedy = path, rescue(path)
        self._connection, self.layout = connection, LAYOUT

    def rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""
        cursor = self._connection.cursor()
        cursor.row_factory = sqlite3.Row
        yield from cursor.execute(sql, values).fetchall()


def _says(text: str | None, rest: bytes | None, part: str) -> bool:
    whole = bodies.whole_text(text, rest)
    return whole is not None and part in whole.casefold()


def _label(metadata: str | None, key: str) -> str | None:
    return None if metadata is None else label_of(msgspec.json.decode(metadata, type=dict), key)


def _has(metadata: str | None, key: str, value: str) -> bool:
    return metadata is not None and value in labels(msgspec.json.decode(metadata, type=dict), key)


_FUNCTIONS: Final = (("callspan_says", 3, _says), ("callspan_label", 2, _label), ("callspan_has", 3, _has))


def _kept_sums(by: str, where: str) -> str | None:
    """Return the query of the stored sums for the calls `c` that match; None if the stored sums cannot answer it."""
    if by in _GROUPS and set(_COLUMN.findall(where)) <= _CONDITIONS:
        return _SUMS.format(key=_GROUPS[by], where=where)
    return None
