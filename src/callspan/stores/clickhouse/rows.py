"""Rows: reads the record of every row, also from tables of an earlier format, for `callspan import`."""

# ruff: noqa: S608 - only our own names are put into SQL; values are parameters

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Final

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import RECORD_TYPES, Record
from callspan.record.formats import FORMAT
from callspan.stores.base import StoreError
from callspan.stores.clickhouse.database import ClickHouseDatabase, layout
from callspan.stores.tables.bodies import DAMAGE
from callspan.stores.tables.call_rows import call_of, record_of, with_bodies
from callspan.stores.tables.database import NO_VALUES, Values
from callspan.stores.tables.facts import CALLS, SESSIONS, TABLES, Table
from callspan.stores.tables.former_names import with_current_names

_AT_ONCE: Final = 200
"""Rows of a query that are in memory at once."""


def every_record(url: str) -> Iterator[Record | None]:
    """Yield the record of each row; None for a damaged row. Raises StoreError or the driver's errors."""
    with closing(ClickHouseDatabase.open(url, earlier=True)) as database:
        is_former = layout(database.connection) < FORMAT
        for table in TABLES.values():
            for rows in _pages(database, *_source(table, is_former=is_former)):
                whole = database.with_references(rows) if table is CALLS and not is_former else rows
                yield from (_record_of(database, table, row, is_former=is_former) for row in whole)


def _source(table: Table, *, is_former: bool) -> tuple[str, list[str]]:
    """Return the table or view with the rows of a kind, and the columns that order them.

    Of sessions and timesteps it has all versions, which the target merges.
    """
    version = ["seen_ns"] if table.merges else []
    if is_former:
        return f"{table.name} FINAL", [table.key, *version]
    if table is CALLS:
        return table.name, [table.key]
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


def _record_of(database: ClickHouseDatabase, table: Table, row: Values, *, is_former: bool) -> Record | None:
    with suppress(StoreError, *DAMAGE):
        if is_former:
            row = with_current_names(table, row)
            return _flat_call(row) if table is CALLS else record_of(table, row, RECORD_TYPES[table.kind])
        return call_of(database, row) if table is CALLS else record_of(table, row, RECORD_TYPES[table.kind])
    return None


def _flat_call(row: Values) -> CallRecord:
    """Return the call of a row of an earlier format, which has the bodies."""
    request, response = (
        msgspec.Raw(str(row[side]).encode()) if row[side] else None for side in ("request", "response")
    )
    return with_bodies(record_of(CALLS, row, CallRecord), request, response)
