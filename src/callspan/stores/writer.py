"""Writer: writes a batch of records as rows of SQLite or Postgres, in one transaction.

Every row has a key, so that batches may be repeated. All writers use the same order, which prevents deadlocks.
"""

# ruff: noqa: S608 - only our own table and column names are put into SQL; values are parameters

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial, reduce
from operator import itemgetter
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

from callspan.record.call import CallRecord
from callspan.record.events import RECORD_TYPES, Record, record_key
from callspan.record.merging import merged_scope
from callspan.safe_urls import error_text
from callspan.spool.delivering import Rejected
from callspan.stores.bodies import Piece
from callspan.stores.call_rows import exact_call, record_of
from callspan.stores.columns import CALLS, TABLES, Table
from callspan.stores.contents import Numbers, StoredCall, release, stored_calls, to_write
from callspan.stores.database import Database, in_batches
from callspan.stores.erased import digests_of, is_erased
from callspan.stores.payloads import PreparedCall, prepared, row_of
from callspan.stores.rewards import join
from callspan.stores.rows import Row

_D = TypeVar("_D", bound=Database)
NewContent: TypeAlias = tuple[str, int, Piece]
"""Owner, number and value of a content."""
_CALL: Final = "call"
_ANY_ERASED: Final = "SELECT 1 FROM erased LIMIT 1"


class SqlSink(Generic[_D]):
    """A sink with one connection, which `open` replaces after a failure."""

    batch_records = 100
    rejects: ClassVar[tuple[type[Exception], ...]]
    """Exceptions that mean that a record can never be stored."""
    _database: _D | None = None

    def open(self) -> None:
        """Connect, and create missing tables. Raises StoreError or the driver's errors."""
        raise NotImplementedError

    def deliver(self, records: Sequence[Record]) -> None:
        """Store all records in one transaction.

        Raises Rejected if one can never be stored; StoreError, OSError or the driver's errors for anything else.
        """
        if self._database is None:
            self.open()
        try:
            self._deliver(records)
        except self.rejects as error:
            raise Rejected(error_text(error)) from error

    def close(self) -> None:
        """Close the connection."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _deliver(self, records: Sequence[Record]) -> None:
        """Write the records in a transaction."""
        raise NotImplementedError

    def _write(self, database: _D, records: Sequence[Record]) -> list[str]:
        """Write the records; return the owners of which contents were deleted."""
        batch: defaultdict[str, defaultdict[str, list[Any]]] = defaultdict(partial(defaultdict, list))
        erased = _erased_of(database, records)
        for record in records:
            if not (erased and is_erased(record, erased.get)):
                kind, key = record_key(record)
                batch[kind][key].append(record)
        replaced = self._write_calls(database, batch.pop(_CALL, {}))
        for kind, by_key in sorted(batch.items()):
            if TABLES[kind].merges:
                self._merge(database, TABLES[kind], by_key)
            else:
                self._replace(database, TABLES[kind], [], (row_of(one) for one, *_ in by_key.values()))
        now = stored_calls(database, sorted(replaced))
        trimmed = [release(database, before, call_id, now.get(call_id)) for call_id, before in replaced.items()]
        join(database, records)
        return [owner for owner in trimmed if owner is not None]

    def _write_calls(self, database: _D, versions: Mapping[str, Sequence[CallRecord]]) -> dict[str, StoredCall]:
        """Write calls and their contents; return the replaced rows by call id."""
        self._lock(database, (f"{CALLS.kind}:{call_id}" for call_id in versions))
        there = stored_calls(database, sorted(versions))
        rows: dict[str, PreparedCall] = {}
        for call_id, some in versions.items():
            record = to_write(there.get(call_id), some, partial(exact_call, database, call_id))
            if record is not None:
                rows[call_id] = prepared(record)
        self._lock(database, (row.owner for row in rows.values() if row.owner.startswith("s:")))
        found = self._store_contents(database, [*rows.values()])
        replaced = {call_id: there[call_id] for call_id in rows if call_id in there}
        self._replace(database, CALLS, [*replaced], found)
        return replaced

    def _store_contents(self, database: _D, rows: Sequence[PreparedCall]) -> list[Row]:
        """Store the contents that are new to their owners; return the rows of the calls."""
        numbers = self._numbers(database, rows)
        new: list[NewContent] = []
        found: list[Row] = []
        for row in rows:
            added, whole = numbers[row.owner].add(row)
            new += ((row.owner, number, part) for number, part in added)
            found.append(whole)
        self._add_contents(database, new)
        return found

    def _merge(self, database: _D, table: Table, versions: Mapping[str, Sequence[Any]]) -> None:
        """Write sessions or timesteps, merged with their stored versions."""
        self._lock(database, (f"{table.kind}:{key}" for key in versions))
        there: dict[str, list[Any]] = {}
        for chosen, names in in_batches([*versions], table.key):
            for row in database.rows(f"SELECT * FROM {table.name} WHERE {chosen}", names):
                there[str(row[table.key])] = [record_of(table, row, RECORD_TYPES[table.kind])]
        rows = [row_of(reduce(merged_scope, [*there.get(key, []), *some])) for key, some in versions.items()]
        self._replace(database, table, [*there], rows)

    def _replace(self, database: _D, table: Table, known: Sequence[str], rows: Iterable[Row]) -> None:
        """Insert rows into a table, after deleting those with the known keys."""
        for chosen, names in in_batches(known, table.key):
            database.run(f"DELETE FROM {table.name} WHERE {chosen}", names)
        self._insert(database, table, sorted(rows, key=itemgetter(table.key)))

    def _lock(self, database: _D, names: Iterable[str]) -> None:
        """Hold these names until the transaction ends; other writers of one of them wait."""

    def _numbers(self, database: _D, rows: Sequence[PreparedCall]) -> Mapping[str, Numbers]:
        """Return the numbers of contents by owner of these calls."""
        raise NotImplementedError

    def _add_contents(self, database: _D, new: Sequence[NewContent]) -> None:
        """Insert contents."""
        raise NotImplementedError

    def _insert(self, database: _D, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows into a table, except those whose key exists."""
        raise NotImplementedError


def _erased_of(database: Database, records: Sequence[Record]) -> dict[bytes, int]:
    """Return the time of erasure of each erased call, session, user and target of a batch, by digest."""
    found: dict[bytes, int] = {}
    if next(database.tuples(_ANY_ERASED), None) is not None:
        for chosen, names in in_batches([*{one for record in records for one in digests_of(record)}], "id"):
            rows = database.tuples(f"SELECT id, time_ns FROM erased WHERE {chosen}", names)
            found.update((bytes(digest), time_ns) for digest, time_ns in rows)
    return found
