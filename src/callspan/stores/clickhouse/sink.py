"""Sink for ClickHouse, over HTTP or embedded: each record is one flat row with its bodies."""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from math import ceil
from typing import Any, Final

import msgspec
from clickhouse_connect.driver import create_client
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError

from callspan.record.call import CallRecord
from callspan.record.events import RECORD_TYPES, Record, record_key
from callspan.record.merging import Price, merged, priced_again
from callspan.runtime.safe_urls import error_text, safe_name
from callspan.spool.delivering import Rejected
from callspan.stores.base import check_layout, explained, quiet
from callspan.stores.schema import statements
from callspan.stores.tables import payloads
from callspan.stores.tables.bodies import DAMAGE
from callspan.stores.tables.call_rows import record_of, with_bodies
from callspan.stores.tables.facts import OTHER_IDS, TABLES, Table
from callspan.stores.tables.former_names import with_current_names
from callspan.stores.tables.payloads import bodies_of

_INSERT: Final = {
    # The server writes one part for the rows of many workers, and answers once they are written. A part for each insert
    # costs it 150 times the CPU a row, and the inserts of 500 workers are "too many parts".
    "async_insert": 1,
    "wait_for_async_insert": 1,
    # By default a replicated table ignores a repeated block, even after its rows were deleted.
    "insert_deduplicate": 0,
    "input_format_skip_unknown_fields": 0,
    "max_partitions_per_insert_block": 0,
}
_ALONE: Final = {**_INSERT, "async_insert": 0}
_POISON: Final = frozenset({6, 26, 27, 33, 38, 41, 53, 69, 72, 117, 130, 131, 407})
"""Error codes caused by the data: it cannot be parsed or converted, or does not fit its column."""
_AT_ONCE: Final = 200
"""Rows of a query that are in memory at once."""
_NEVER_NS: Final = 4 * 10**18
_TIMES: Final = {"calls": "start_ns", "sessions": "seen_ns", "timesteps": "seen_ns"}
"""The column of a row's age, by default `time_ns`."""
_TTL: Final = (
    "ALTER TABLE {table} MODIFY TTL toDateTime(intDiv(ifNull({time}, {never}), 1000000000)) + INTERVAL {days} DAY"
)
_CALL: Final = f"""
SELECT call_id FROM calls WHERE startsWith(call_id, {{id:String}})
  OR {" OR ".join(f"{name} = {{id:String}}" for name in OTHER_IDS)}
 ORDER BY call_id = {{id:String}} DESC, startsWith(call_id, {{id:String}}) DESC, start_ns, call_id
 LIMIT 1 BY call_id LIMIT 2"""

_CONNECT_S: Final = 10
_ANSWER_S: Final = 60
CODE: Final = re.compile(r"[Cc]ode: (\d+)")
_ERRNO: Final = re.compile(r"(?:\[Errno -?\d+\] |Error\(\d+, ')([A-Z][\w ]+)")
_ADVICE: Final = {
    60: "a table was dropped: restore it from a backup, or create it: python -m callspan.stores.schema clickhouse",
    81: "the database does not exist (dropped?); create it: CREATE DATABASE",
    164: "this user, or the server, is read-only",
    242: "the table is read-only; has the server lost its Keeper?",
    243: "the server's disk is full; make room",
    497: "grant the right to this user",
    516: "user or password is wrong",
}
"""Advice by error code."""


class ClickHouseSink:
    """A sink without transactions: delivery is at least once."""

    batch_records = 1000

    def __init__(self, url: str, retain_days: float | None = None) -> None:
        """`url` is `clickhouse://user:password@host:8123/database`, or `clickhouse+https://` for TLS.

        New tables keep their rows for `retain_days` days; None: forever.
        """
        self._url = url
        self.name = safe_name(url)
        self._retain_days = retain_days
        self._client: Client | None = None
        self._price: Price | None = None

    def price_with(self, price: Price) -> None:
        """Price calls that have several versions anew, see `Sink`."""
        self._price = price

    def open(self) -> None:
        """Connect and create the tables. Raises StoreError for another format, else the driver's errors."""
        with explaining(self.name):
            version = layout(self._connected_client)
            if not version:
                _make_tables(self._connected_client, self._retain_days)
                version = layout(self._connected_client)
            check_layout(self.name, version)

    def deliver(self, records: Sequence[Record]) -> None:
        """Write all records. Raises Rejected if one can never be stored, else the driver's errors."""
        rows: dict[str, list[Mapping[str, object]]] = defaultdict(list)
        calls: dict[str, CallRecord] = {}
        with explaining(self.name):
            for version in records:
                record = self._whole(version, calls)
                rows[TABLES[record_key(record)[0]].name].append(row_of(record))
            for table, table_rows in rows.items():
                self._insert(table, table_rows)

    def call(self, ident: str) -> CallRecord | None:
        """Return the call with this id, unique prefix or other id (the first of several), or None."""
        call_ids = [str(row["call_id"]) for row in self._rows(_CALL, {"id": ident})] if ident else []
        candidates = [call_id for call_id in call_ids if call_id.startswith(ident)] or call_ids[:1]
        exact = [call_id for call_id in candidates if call_id == ident] or candidates
        return self._stored(exact[0]) if len(exact) == 1 else None

    def records(self) -> Iterator[Record | None]:
        """Yield the record of each row, with all versions of sessions and timesteps; None for a damaged row."""
        self.check(earlier=True)
        for table in TABLES.values():
            order = f"{table.key}, seen_ns" if table.merges else table.key
            last_key: tuple[object, ...] = ("", 0)
            while rows := list(self._after(table.name, order, last_key)):
                last_key = str(rows[-1][table.key]), rows[-1].get("seen_ns") or 0
                yield from (_record_of(table, row) for row in rows)

    def check(self, *, earlier: bool = False) -> None:
        """Raise StoreError if there are no tables, or they have another format; `earlier`: only for a later one."""
        with explaining(self.name):
            check_layout(self.name, layout(self._connected_client), earlier=earlier)

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def _connected_client(self) -> Client:
        """The connection. Unlike `open`, it creates no tables."""
        if self._client is None:
            with explaining(self.name):
                self._client = connect(self._url)
        return self._client

    def _rows(self, sql: str, values: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        with explaining(self.name):
            result = self._connected_client.query(sql, parameters=dict(values))
        yield from (dict(zip(result.column_names, row, strict=True)) for row in result.result_rows)

    def _after(self, table: str, order: str, last_key: tuple[object, ...]) -> Iterator[dict[str, Any]]:
        """Yield the next rows of a table after these key values."""
        key_parameters = "{key:String}, {seen:Int64}" if "," in order else "{key:String}"
        sql = f"SELECT * FROM {table} FINAL WHERE ({order}) > ({key_parameters}) ORDER BY {order} LIMIT {_AT_ONCE}"
        return self._rows(sql, {"key": last_key[0], "seen": last_key[1]})

    def _whole(self, record: Record, calls: dict[str, CallRecord]) -> Record:
        """Return a record, merged with the known call if it is a version from another request.

        `calls` has the batch's calls so far; a call is added to it.
        """
        if not isinstance(record, CallRecord):
            return record
        if record.is_merged:
            stored = calls.get(record.call_id) or self._stored(record.call_id)
            if stored is not None:
                versions = [stored, record]
                record = merged(versions)
                if self._price is not None:
                    record = priced_again(record, versions, self._price)
        calls[record.call_id] = record
        return record

    def _stored(self, call_id: str) -> CallRecord | None:
        # Merged versions have the version number of the newest one: of equal ones the last written is valid.
        sql = "SELECT * FROM calls FINAL WHERE call_id = {id:String}"
        return next((_call_of(row) for row in self._rows(sql, {"id": call_id})), None)

    def _insert(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Insert rows. Raises Rejected if one of them can never be stored, else the driver's errors."""
        lines = b"\n".join(map(msgspec.json.encode, rows))
        insert = partial(self._connected_client.raw_insert, table, insert_block=lines, fmt="JSONEachRow")
        try:
            insert(settings=_INSERT)
        except DatabaseError as error:
            if not _is_poison(error):
                raise
            # The server collects inserts, and a bad row of another process may fail this one (ClickHouse issue 86651).
            # Only an insert of these rows alone shows whether they are bad.
            try:
                insert(settings=_ALONE)
            except DatabaseError as own:
                if _is_poison(own):
                    raise Rejected(error_text(own)) from own
                raise


def _is_poison(error: DatabaseError) -> bool:
    code = CODE.search(str(error))
    return code is not None and int(code[1]) in _POISON


def _set_ttl(client: Client, days: int) -> None:
    for table in TABLES.values():
        time_of = _TIMES.get(table.name, "time_ns")
        client.command(_TTL.format(table=table.name, time=time_of, never=_NEVER_NS, days=days))


def row_of(record: Record) -> dict[str, object]:
    """Return the row of a record, including the bodies of a call."""
    row: dict[str, object] = dict.fromkeys(TABLES[record_key(record)[0]].names) | payloads.row_of(record)
    if isinstance(record, CallRecord):
        request, response = bodies_of(record)
        row |= {"request": request.decode(), "response": response.decode()}
    return row


def _call_of(row: Mapping[str, Any]) -> CallRecord:
    request, response = (msgspec.Raw(row[side].encode()) if row[side] else None for side in ("request", "response"))
    return with_bodies(record_of(TABLES["call"], row, CallRecord), request, response)


def _record_of(table: Table, row: Mapping[str, Any]) -> Record | None:
    with suppress(*DAMAGE):
        row = with_current_names(table, row)
        return _call_of(row) if table.kind == "call" else record_of(table, row, RECORD_TYPES[table.kind])
    return None


def connect(url: str) -> Client:
    """Return a client for a store's URL; `clickhouse+chdb:///directory` is the embedded server.

    Raises the driver's errors if it cannot be reached.
    """
    dsn = url.partition("+")[2] if url.lower().startswith("clickhouse+") else url
    if dsn.startswith("chdb:"):
        return create_client(dsn=dsn)
    quiet("clickhouse_connect", "urllib3")
    return create_client(
        dsn=dsn,
        autogenerate_session_id=False,
        connect_timeout=_CONNECT_S,
        send_receive_timeout=_ANSWER_S,
    )


def layout(client: Client) -> int:
    """Return the format of the tables; 0 without tables."""
    if not client.command("EXISTS TABLE callspan_layout"):
        return 0
    return int(str(client.query("SELECT max(version) FROM callspan_layout").result_rows[0][0]))


def _make_tables(client: Client, retain_days: float | None) -> None:
    """Create missing tables. Safe to repeat and to run concurrently."""
    for statement in statements("clickhouse"):
        client.command(statement)
    if retain_days is not None:
        _set_ttl(client, max(1, ceil(retain_days)))


def explaining(name: str) -> AbstractContextManager[None]:
    """Return a context manager that replaces known ClickHouse errors by a StoreError with advice."""
    return explained(name, ClickHouseError, _advice)


def _advice(error: ClickHouseError) -> str | None:
    """Return advice. Raises OperationalError for network errors, because the HTTP library's text fills a page."""
    code = CODE.search(str(error))
    advice = None if code is None else _ADVICE.get(int(code[1]))
    if advice is None and (errno := _ERRNO.search(str(error))):
        raise OperationalError(errno[1]) from error
    return advice
