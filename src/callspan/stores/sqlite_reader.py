"""SQLite as a reader: the questions of `Reader` asked of a file that others may be writing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from callspan.stores import bodies, sqlite_sums
from callspan.stores.base import Grouping
from callspan.stores.sql_reader import SqlReader, Values
from callspan.stores.sqlite_file import open_for_reading

_CHUNK: Final = 500


class SQLiteReader(SqlReader):
    """Opens the file read-only; a file that is missing or of another application is a StoreError."""

    day = "date(c.start_ns / 1000000000, 'unixepoch')"
    contains = "callspan_says(t.text, t.rest, :text)"

    def __init__(self, path: str | Path) -> None:
        """Open `path` now, so that a mistake shows at once."""
        self.name = f"sqlite:///{path}"
        self._connection = open_for_reading(Path(path))
        self._connection.row_factory = sqlite3.Row
        self._connection.create_function("callspan_says", 3, _says, deterministic=True)

    def rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""
        cursor = self._connection.execute(sql, values)
        while chunk := cursor.fetchmany(_CHUNK):
            yield from chunk

    def tuples(self, sql: str, **values: object) -> Iterator[tuple[object, ...]]:
        """Yield the same rows as plain tuples."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        yield from cursor.execute(sql, values)

    def sums(self, by: Grouping, where: str, values: Values) -> Iterator[Values]:
        """Yield one row per group, out of the sums the file keeps where these can tell the calls that are asked for."""
        kept = sqlite_sums.question(by, where)
        return super().sums(by, where, values) if kept is None else self.rows(kept, **values)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _says(text: str | None, rest: bytes | None, part: str) -> bool:
    whole = bodies.whole_text(text, rest)
    return whole is not None and part in whole.casefold()
