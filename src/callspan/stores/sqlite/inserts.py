"""Inserts: rows for SQLite with what is cheap to bind.

For a value that is no plain `int`, `float`, `str` or `bytearray` the `sqlite3` module looks for an adapter before it
binds it, with several exceptions on the way: half of what a row of many NULLs costs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from callspan.stores.rows import Cell

_MOST_STATEMENTS: Final = 50
"""The module keeps 128 prepared statements for each connection."""


class Insert:
    """The statement that inserts rows of a table, without the columns that are NULL. Safe from any thread."""

    def __init__(self, table: str, names: Sequence[str], flags: Sequence[str] = (), conflict: str = "") -> None:
        """`names` are the columns, in the order of values; `flags` those of booleans; `conflict` follows the values."""
        self._table, self._names, self._conflict = table, names, conflict
        self._flags = [names.index(name) for name in flags]
        self._statements: dict[tuple[bool, ...], str] = {}

    def run(self, connection: sqlite3.Connection, values: Sequence[Cell]) -> sqlite3.Cursor:
        """Insert a row. Raises sqlite3.Error."""
        absent = tuple([value is None for value in values])
        statement = self._statements.get(absent)
        if statement is None:
            if len(self._statements) >= _MOST_STATEMENTS:
                return connection.execute(self._statement((False,) * len(values)), values)
            statement = self._statements[absent] = self._statement(absent)
        bound = list(values)
        for place in self._flags:
            bound[place] = None if absent[place] else int(bound[place])  # type: ignore[arg-type]
        return connection.execute(statement, [value for value in bound if value is not None])

    def _statement(self, absent: Sequence[bool]) -> str:
        names = [name for name, missing in zip(self._names, absent, strict=True) if not missing]
        places = ", ".join("?" * len(names))
        return f"INSERT INTO {self._table} ({', '.join(names)}) VALUES ({places}) {self._conflict}"  # noqa: S608 - our names
