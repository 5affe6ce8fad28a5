"""Writer: writes batches of records as rows of SQLite or Postgres, each in one transaction.

Every row has a key, so that batches may be repeated. All writers use the same order, which prevents deadlocks.
"""

# ruff: noqa: S608 - only our own table and column names are put into SQL; values are parameters

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, reduce
from operator import itemgetter
from typing import Any, Final, cast

from callspan.record.call import CallRecord
from callspan.record.events import RECORD_TYPES, Record, record_key
from callspan.record.merging import Price, merged_scope
from callspan.runtime.safe_urls import error_text
from callspan.spool.delivering import Rejected, SuspectError
from callspan.stores.joint_reader import JointReader
from callspan.stores.query.owned import has_others
from callspan.stores.query.rewards import join
from callspan.stores.removal import remove_refused
from callspan.stores.runs import Runs
from callspan.stores.tables.call_rows import exact_call, record_of
from callspan.stores.tables.contents import NewContent, StoredCall, release, stored_calls, version_to_write
from callspan.stores.tables.database import Database, SqlDatabase, in_batches
from callspan.stores.tables.erased import LateRecords, Refused, digests_of
from callspan.stores.tables.facts import CALLS, OWNER, TABLES, Table
from callspan.stores.tables.payloads import PreparedCall, prepared, row_of, without_run
from callspan.stores.tables.rows import Row

_CALL: Final = "call"
_ANY_ERASED: Final = "SELECT 1 FROM erased LIMIT 1"


class SqlSink:
    """A sink for SQLite or Postgres with one connection."""

    batch_records = 100

    def __init__(self, connect: Callable[[], SqlDatabase], *, joins: bool = True) -> None:
        """`connect` opens the database for writing and creates missing tables.

        `joins`: join calls outside of sessions to runs.
        """
        self._connect, self._reader = connect, JointReader() if joins else None
        self._database: SqlDatabase | None = None
        self._price: Price = _as_it_is
        self.erased = Counter[str]()
        """Number of records not stored because they had been erased, by kind."""

    def price_with(self, price: Price) -> None:
        """Price calls that have several versions anew, see `Sink`."""
        self._price = price

    def open(self) -> None:
        """Connect, and create missing tables. Raises StoreError or the driver's errors."""
        self._database = self._connect()

    def deliver(self, records: Sequence[Record]) -> None:
        """Store all records in one transaction. What it makes doubtful of many runs is joined anew in further ones.

        Raises Rejected if one can never be stored, SuspectError if that is possible; StoreError, OSError
        or the driver's errors for anything else.
        """
        database = cast("SqlDatabase", self._database)
        try:
            is_unfinished, removed = False, set[Refused]()
            while True:
                with database.delivery(records):
                    late = late_records(database, records)
                    refused = removed.union(late.refused)
                    if refused == removed:
                        is_unfinished = _write(database, late.accepted, self._price, self._reader)
                        break
                # It is remembered by now, so that no other process stores what is deleted.
                remove_refused(database, refused - removed)
                removed = refused
            while is_unfinished:
                with database.delivery(()):
                    is_unfinished = Runs(database).join_postponed()
        except database.rejects as error:
            raise Rejected(error_text(error)) from error
        except database.suspects as error:
            raise SuspectError(error_text(error)) from error
        accepted = late.accepted
        if len(accepted) < len(records):
            self.erased += Counter(map(_kind, records)) - Counter(map(_kind, accepted))

    def close(self) -> None:
        """Close the connection."""
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _as_it_is(call: CallRecord) -> CallRecord:
    return call


def _kind(record: Record) -> str:
    return record_key(record)[0]


def _write(database: SqlDatabase, records: Sequence[Record], price: Price, reader: JointReader | None) -> bool:
    """Write records that were not erased; return whether other calls are still to be joined anew.

    `reader`: join calls outside of sessions to runs by the joints it reads.
    """
    batch: defaultdict[str, defaultdict[str, list[Any]]] = defaultdict(partial(defaultdict, list))
    for record in records:
        kind, key = record_key(record)
        batch[kind][key].append(without_run(record) if isinstance(record, CallRecord) else record)
    runs = Runs(database, reader)
    replaced_calls = _write_calls(database, batch.pop(_CALL, {}), price, runs)
    for kind, by_key in sorted(batch.items()):
        if TABLES[kind].merges:
            _merge(database, TABLES[kind], by_key)
        else:
            _replace(database, TABLES[kind], [], (row_of(record) for record, *_ in by_key.values()))
    current_calls = stored_calls(database, sorted(replaced_calls))
    for call_id, replaced in replaced_calls.items():
        release(database, call_id, replaced, current_calls[call_id])
    join(database, records)
    return runs.has_postponed


def _write_calls(
    database: SqlDatabase, versions: Mapping[str, Sequence[CallRecord]], price: Price, runs: Runs
) -> dict[str, StoredCall]:
    """Write calls and their contents; return the replaced rows by call id."""
    database.lock(f"{CALLS.kind}:{call_id}" for call_id in versions)
    stored = stored_calls(database, sorted(versions))
    records: dict[str, CallRecord] = {}
    for call_id, call_versions in versions.items():
        record = version_to_write(stored.get(call_id), call_versions, partial(exact_call, database, call_id), price)
        if record is not None:
            records[call_id] = record
    unplaced = {call_id: prepared(record) for call_id, record in records.items()}
    calls = runs.join(records, unplaced, stored)
    database.lock(call.owner for call in calls if call.owner.startswith("s:") or OWNER in call.row)
    rows = _store_contents(database, calls)
    replaced_calls = {call_id: stored[call_id] for call_id in records if call_id in stored}
    _replace(database, CALLS, [*replaced_calls], rows)
    runs.save()
    return replaced_calls


def _store_contents(database: SqlDatabase, calls: Sequence[PreparedCall]) -> list[Row]:
    """Store the contents that are new to their owners; return the rows of the calls."""
    numbers = database.numbers(calls)
    new: list[NewContent] = []
    rows: list[Row] = []
    for call in calls:
        new_pieces, row = numbers[call.owner].add(call)
        new += ((call.owner, number, part) for number, part in new_pieces)
        rows.append(row)
    database.add_contents(new)
    return rows


def _merge(database: SqlDatabase, table: Table, versions: Mapping[str, Sequence[Any]]) -> None:
    """Write sessions or timesteps, merged with their stored versions."""
    database.lock(f"{table.kind}:{key}" for key in versions)
    stored: dict[str, list[Any]] = {}
    for condition, parameters in in_batches([*versions], table.key):
        for row in database.rows(f"SELECT * FROM {table.name} WHERE {condition}", parameters):
            stored[str(row[table.key])] = [record_of(table, row, RECORD_TYPES[table.kind])]
    rows = [
        row_of(reduce(merged_scope, [*stored.get(key, []), *new_versions])) for key, new_versions in versions.items()
    ]
    _replace(database, table, [*stored], rows)


def _replace(database: SqlDatabase, table: Table, stored_keys: Sequence[str], rows: Iterable[Row]) -> None:
    """Insert rows into a table, after deleting those with the known keys."""
    for condition, parameters in in_batches(stored_keys, table.key):
        database.run(f"DELETE FROM {table.name} WHERE {condition}", parameters)
    database.insert(table, sorted(rows, key=itemgetter(table.key)))


def late_records(database: Database, records: Sequence[Record]) -> LateRecords:
    """Return the records of a delivery without the erased ones; remember the ids of these."""
    late = LateRecords(
        records, _erased_of(database, records), partial(_stored, database), partial(has_others, database)
    )
    database.remember(late.remembered)
    database.forget(late.forgotten)
    return late


def _erased_of(database: Database, records: Sequence[Record]) -> dict[bytes, int]:
    """Return what is remembered of erased calls, sessions, users and targets of a batch, by digest."""
    erased_ns: dict[bytes, int] = {}
    if next(database.tuples(_ANY_ERASED), None) is not None:
        for condition, parameters in in_batches(
            [*{digest for record in records for digest in digests_of(record)}], "id"
        ):
            rows = database.tuples(f"SELECT id, time_ns FROM erased WHERE {condition}", parameters)
            erased_ns.update((bytes(digest), time_ns) for digest, time_ns in rows)
    return erased_ns


def _stored(database: Database, kind: str, ident: str) -> Record | None:
    """Return a record of the store, without bodies; None if it is not there."""
    table = TABLES[kind]
    sql = f"SELECT * FROM {table.name} WHERE {table.key} = :key"
    row = next(database.rows(sql, {"key": ident}), None)
    return None if row is None else record_of(table, row, RECORD_TYPES[kind])
