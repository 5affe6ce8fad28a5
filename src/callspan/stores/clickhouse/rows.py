"""Rows: reads the record of every row, for `callspan import`."""

# ruff: noqa: S608 - only our own names are put into SQL; values are parameters

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Final

from callspan.record.events import RECORD_TYPES, Record
from callspan.stores.base import StoreError
from callspan.stores.clickhouse.database import ClickHouseDatabase
from callspan.stores.tables.bodies import DAMAGE
from callspan.stores.tables.call_rows import call_of, record_of
from callspan.stores.tables.database import NO_VALUES, Values
from callspan.stores.tables.facts import CALLS, SESSIONS, TABLES, Table

_AT_ONCE: Final = 200
"""Rows of a query that are in memory at once."""


def every_record(url: str) -> Iterator[Record | None]:
    """Yield the record of each row; None for a damaged row. Raises StoreError or the driver's errors."""
    with closing(ClickHouseDatabase.open(url)) as database:
        for table in TABLES.values():
            for rows in _pages(database, *_source(table)):
                whole = database.with_references(rows) if table is CALLS else rows
                yield from (_record_of(database, table, row) for row in whole)


def _source(table: Table) -> tuple[str, list[str]]:
    """Return the table or view with the rows of a kind, and the columns that order them.

    Of sessions and timesteps it has all versions, which the target merges.
    """
    if table is CALLS:
        return table.name, [table.key]
    version = ["seen_ns"] if table.merges else []
    of_session = [] if table is SESSIONS else ["ifNull(session_id, '')"]
    return f"{table.kind}_versions FINAL", [*of_session, table.key, *version]


def _pages(database: ClickHouseDatabase, source: str, order: Sequence[str]) -> Iterator[list[Values]]:
    """Yield the rows of a table or view in the order of its key, page by page."""
    keys, names = ", ".join(order), [f"last{number}" for number, _ in enumerate(order)]
    columns = ", ".join(f"{key} AS {name}" for key, name in zip(order, names, strict=True))
    condition, last = "", NO_VALUES
    while True:
        sql = f"SELECT *, {columns} FROM {source} {condition} ORDER BY {keys} LIMIT {_AT_ONCE}"
        rows = list(database.rows(sql, last))
        yield rows
        if len(rows) < _AT_ONCE:
            return
        last = {name: rows[-1][name] for name in names}
        condition = f"WHERE ({keys}) > ({', '.join(f':{name}' for name in names)})"


def _record_of(database: ClickHouseDatabase, table: Table, row: Values) -> Record | None:
    with suppress(StoreError, *DAMAGE):
        return call_of(database, row) if table is CALLS else record_of(table, row, RECORD_TYPES[table.kind])
    return None
