"""Sink for ClickHouse.

Rows may be written repeatedly: those that say the same are one. There are no transactions: contents are written before
the rows that refer to them, and a batch that failed halfway is written again.
"""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from itertools import compress
from operator import not_
from typing import Any, Final

import msgspec
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.events import SCOPE_TYPES, Record, record_key
from callspan.record.merging import Order, order, order_of
from callspan.safe_urls import error_text, safe_name
from callspan.spool.sink import Entry, PoisonError
from callspan.stores import bodies
from callspan.stores.base import REWARDED, DeletionResult, DeletionScope, check_layout, tried
from callspan.stores.clickhouse.connection import CODE, connect, explaining, layout, make_tables
from callspan.stores.clickhouse.reader import ClickHouseWritersReader
from callspan.stores.columns import TABLES, Table
from callspan.stores.erased import digests, digests_of, is_erased, names
from callspan.stores.payloads import bodies_of, cells_of, combined, message_key
from callspan.stores.retention import ABOUT_CALLS
from callspan.stores.rows import Row

_WRITTEN_AGAIN_S: Final = 3600.0
_NOTHING: Final = (0, 0)
_NONE: Final = (-1, 0, 0)
"""Comes before every version."""
_TURNS: Final = 4
"""How often a call is merged with what others write at the same time."""
_SCALE: Final = 38
_FORMAT: Final = "JSONEachRow"
_INSERT: Final = {
    "async_insert": 0,
    # A replicated table takes no block twice by default, not even after what it held was erased.
    "insert_deduplicate": 0,
    "input_format_skip_unknown_fields": 0,
    "max_partitions_per_insert_block": 0,
}
_POISON: Final = frozenset({6, 26, 27, 33, 38, 41, 53, 69, 72, 117, 130, 131, 407})
"""Error codes caused by the data: it cannot be parsed, converted, or held by its column."""

_DAY_NS: Final = 86_400 * 10**9
FINAL: Final = {"final": 1, "cast_keep_nullable": 1}
"""Settings of a query that sees rows as they are after all merges."""
_AT_ONCE: Final = 1000
"""Ids per query: a server limits the length of each parameter."""
_IN_SESSIONS: Final = "session_id IN {sessions:Array(String)}"
_REFERRED: Final = "arrayJoin(arrayConcat(history, arrayFilter(x -> x IS NOT NULL, [request, system, tools, output])))"
_IN_SKELETON: Final = "arrayJoin(extractAll(ifNull(data, ''), '[0-9a-f]{64}'))"
_LIVE_IN_SKELETONS: Final = (
    f"SELECT DISTINCT {_IN_SKELETON} FROM content WHERE hash IN (SELECT request FROM calls WHERE request IS NOT NULL)"
)


class ClickHouseStore:
    """A sink without transactions: delivery is at least once and idempotent."""

    def __init__(self, url: str) -> None:
        """`url` is `clickhouse://user:password@host:8123/database`, or `clickhouse+https://` for TLS."""
        self._url = url
        self.name = safe_name(url)
        self.batch_entries = 1000
        self._client: Client | None = None
        self._written: dict[str, float] = {}
        """Times at which this process last wrote each content, by hash."""
        self._last_erased: tuple[int, int] = _NOTHING

    def open(self) -> None:
        """Connect and create the tables. Raises StoreError for another format, else clickhouse_connect's exceptions."""
        self.close()
        with explaining(self.name):
            client = connect(self._url)
        try:
            with explaining(self.name, client):
                make_tables(client, self.name)
        except BaseException:
            client.close()
            raise
        self._client = client

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Write all entries. Raises PoisonError if one can never be stored, else clickhouse_connect's exceptions."""
        with explaining(self.name, self._client):
            self._deliver(entries)

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Keep a bad entry in `dead_letter`, once."""
        key = f"{entry.segment}:{entry.start}"
        frame = entry.payload.decode("utf-8", "replace")
        self._insert("dead_letter", [{"key": key, "reason": reason, "frame": frame, "time_ns": time.time_ns()}])

    def try_out(self, entry: Entry) -> str:
        """Store a session, read it back and delete it by its key. Raises StoreError, the driver's errors."""
        kind, key = record_key(entry.decode(entry))
        with explaining(self.name):
            client = connect(self._url)
        with explaining(self.name, client), closing(client):
            check_layout(self.name, layout(client))
            table, chosen = f"{kind}_versions", f"{TABLES[kind].key} = {{key:String}}"
            try:
                self._client = client
                self._deliver([entry])
                found = ClickHouseWritersReader(self.name, client).session(key)
            finally:
                self._client = None
                delete(client, table, chosen, {"key": key})
        return tried(found=found is not None)

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        self._written.clear()
        if client is not None:
            client.close()

    @property
    def _open(self) -> Client:
        if self._client is None:
            self.open()
        if self._client is None:
            raise DatabaseError("not connected")
        return self._client

    def _deliver(self, entries: Sequence[Entry]) -> None:
        records = [entry.decode(entry) for entry in entries]
        before = self._look_for_erased()
        stay, gone = self._split(records) if before != _NOTHING else (records, [])
        batch = _Batch()
        for record in stay:
            batch.add(record)
        try:
            self._take_out(gone)
            self._write(batch)
            if self._look_for_erased() != before:
                self._write_again(records)
        except BaseException:
            self._written.clear()
            raise

    def _split(self, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """Return the records of a batch that are to be stored, and those that were erased."""
        named = {found.hex() for record in records for found in digests_of(record)}
        sql = "SELECT id, max(time_ns) FROM erased WHERE id IN {ids:Array(String)} GROUP BY id"
        rows = self._open.query(sql, parameters={"ids": sorted(named)}).result_rows
        erased = {bytes.fromhex(row[0]): int(row[1]) for row in rows}
        gone = [is_erased(record, erased.get) for record in records]
        return [*compress(records, map(not_, gone))], [*compress(records, gone)]

    def _look_for_erased(self) -> tuple[int, int]:
        """Return what changes when something is erased here; contents that were written before may then be gone."""
        last, number = self._open.query("SELECT max(time_ns), count() FROM erased").result_rows[0]
        found = int(str(last)), int(str(number))
        if found != self._last_erased:
            self._written.clear()
            self._last_erased = found
        return found

    def _write_again(self, records: Sequence[Record]) -> None:
        """Write the contents of a batch again, and take out what was erased while it was written."""
        stay, gone = self._split(records)
        parts = {part.hash: part for record in stay for part in _parts(record)}
        self._insert("content", [_content(part) for part in parts.values()])
        self._take_out(gone)
        lost = {part.hash.hex() for record in gone for part in _parts(record)}
        _delete_contents(self._open, lost, time.time_ns())

    def _take_out(self, gone: Sequence[Record]) -> None:
        """Delete what was erased before it was here: a process may have died after it had written it."""
        keys: dict[Table, set[str]] = defaultdict(set)
        for record in gone:
            kind, key = record_key(record)
            keys[TABLES[kind]].add(key)
        # Of a session that goes on, later versions stay.
        seen = ", ".join(str(record.seen_ns) for record in gone if isinstance(record, SCOPE_TYPES))
        for table, ids in keys.items():
            if table.merges:
                delete_among(self._open, f"{table.kind}_versions", table.key, ids, also=f"seen_ns IN ({seen})")
            else:
                delete_among(self._open, table.name, table.key, ids)

    def _write(self, batch: _Batch) -> None:
        calls = self._newer(batch.calls)
        now = time.monotonic()
        contents = {
            part.hash.hex(): part
            for call_id in calls
            for part in batch.parts[call_id]
            if now - self._written.get(part.hash.hex(), -_WRITTEN_AGAIN_S) >= _WRITTEN_AGAIN_S
        }
        self._insert("content", [_content(part) for part in contents.values()])
        for table, rows in batch.rows.items():
            self._insert(table, rows)
        # A first version lacks its session, by which the table is sorted: the second does not replace it.
        known = [row["reward_id"] for row in batch.rows.get("rewards", ()) if row["stage"] == "completed"]
        if known:
            earlier = "stage <> 'completed' AND reward_id IN {ids:Array(String)}"
            delete(self._open, "rewards", earlier, {"ids": known})
        self._insert("calls", calls.values())
        self._written |= dict.fromkeys(contents, now)
        for call_id, records in batch.responses.items():
            self._write_response(call_id, records)

    def _write_response(self, call_id: str, records: Sequence[Record]) -> None:
        """Merge the versions of a background response's call with all that are there.

        There is no lock: what another process has written meanwhile is found afterwards, and merged once more.
        """
        reader = ClickHouseWritersReader(self.name, self._open)
        for _ in range(_TURNS):
            known = reader.exact_call(call_id)
            whole = combined(known, [*reader.versions(call_id), *records])
            if whole is None:
                return
            row, parts = _call_row(whole)
            self._insert("content", [_content(part) for part in parts])
            self._insert("calls", [row])

    def _newer(self, calls: Mapping[str, Mapping[str, object]]) -> dict[str, Mapping[str, object]]:
        """Return the calls that are not stored yet in this version or a later one."""
        if not calls:
            return {}
        sql = "SELECT call_id, part, seen_ns, stage FROM calls WHERE call_id IN {ids:Array(String)}"
        known: dict[str, Order] = {}
        for call_id, *version in self._open.query(sql, parameters={"ids": list(calls)}).result_rows:
            known[call_id] = max(order(*version), known.get(call_id, _NONE))
        return {key: row for key, row in calls.items() if _order(row) > known.get(key, _NONE)}

    def _insert(self, table: str, rows: Iterable[Mapping[str, object]]) -> None:
        try:
            insert(self._open, table, rows)
        except DatabaseError as error:
            code = CODE.search(str(error))
            if code is not None and int(code[1]) in _POISON:
                raise PoisonError(error_text(error)) from error
            raise


class _Batch:
    """The rows of a batch by table; calls only in their newest version."""

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, object]] = {}
        self.parts: dict[str, list[bodies.Piece]] = {}
        """Contents by the id of their call."""
        self.rows: dict[str, list[Mapping[str, object]]] = defaultdict(list)
        self.responses: dict[str, list[Record]] = defaultdict(list)
        """Versions of the calls of background responses, which are merged."""

    def add(self, record: Record) -> None:
        if not isinstance(record, CallRecord):
            self.rows[written_to(TABLES[record_key(record)[0]])].append(row_of(record))
            return
        if record.is_merged:
            self.responses[record.call_id].append(record)
            return
        known = self.calls.get(record.call_id)
        if known is None or order_of(record) > _order(known):
            self.calls[record.call_id], self.parts[record.call_id] = _call_row(record)


def insert(client: Client, table: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows, if there are any. Raises DatabaseError."""
    if lines := b"\n".join(map(msgspec.json.encode, rows)):
        client.raw_insert(table, insert_block=lines, settings=_INSERT, fmt=_FORMAT)


def written_to(table: Table) -> str:
    """Return the name of the table that the rows of a kind of record are written to."""
    return f"{table.kind}_versions" if table.merges else table.name


def row_of(record: Record) -> dict[str, object]:
    """Return the row of a record; that of a call refers to no contents yet."""
    row = _fitting(dict(zip(TABLES[record_key(record)[0]].names, cells_of(record), strict=True)))
    row.pop("stamps", None)
    return row


def _call_row(record: CallRecord) -> tuple[dict[str, object], list[bodies.Piece]]:
    """The row of a call, and the contents that it refers to."""
    references, parts = _references(record)
    return row_of(record) | references, parts


def _parts(record: Record) -> list[bodies.Piece]:
    return _call_row(record)[1] if isinstance(record, CallRecord) else []


def _references(record: CallRecord) -> tuple[dict[str, object], list[bodies.Piece]]:
    row: dict[str, object] = {}
    found: list[bodies.Piece] = []
    sent, answer = bodies_of(record)
    if sent:
        parts = bodies.split(sent, message_key(record.api))
        found += [parts.skeleton, *parts.others, *parts.history]
        row["request"] = parts.skeleton.hash.hex()
        row["system"] = parts.system.hex() if parts.system else None
        row["tools"] = parts.tools.hex() if parts.tools else None
        row["history"] = [part.hash.hex() for part in parts.history]
    if answer:
        found.append(bodies.piece(answer, "assistant"))
        row["output"] = found[-1].hash.hex()
    return row, found


def _content(part: bodies.Piece) -> dict[str, object]:
    role, text, left = bodies.to_row(part)
    data = None if left is None else left.decode()
    values = {"role": role, "text": text, "data": data, "size": len(part.json)}
    return {"hash": part.hash.hex(), "seen_ns": time.time_ns()} | values


def _fitting(row: Row) -> dict[str, object]:
    """Return the row with amounts outside their column's range moved to `extra`."""
    found: dict[str, object] = {**row}
    usd = row.get("cost_usd")
    if isinstance(usd, str) and not _holds(Decimal(usd)):
        extra = row["extra"]
        tree = msgspec.json.decode(extra, type=dict) if isinstance(extra, str) else {}
        tree["cost"] = tree.get("cost", {}) | {"usd": usd}
        found |= {"cost_usd": None, "extra": encode_json(tree).decode()}
    return found


def _holds(usd: Decimal) -> bool:
    return usd.is_finite() and int(usd.as_tuple().exponent) >= -_SCALE and usd.adjusted() < _SCALE


def _order(row: Mapping[str, Any]) -> Order:
    return order(row["part"], row["seen_ns"], row["stage"])


def remove(url: str, scope: DeletionScope) -> DeletionResult:
    """Delete the chosen records. Safe to repeat after a failure.

    By age, a content is deleted if no remaining call can refer to it: writers rewrite the contents they refer to every
    hour, and one day of margin is added. Raises StoreError if there are no tables.
    """
    client = connect(url)
    try:
        check_layout(safe_name(url), layout(client))
        return _remove_old(client, scope.older_than_ns) if scope.older_than_ns is not None else _erase(client, scope)
    finally:
        client.close()


def _remove_old(client: Client, older_than_ns: int) -> DeletionResult:
    values: dict[str, object] = {"old": older_than_ns, "unseen": older_than_ns - _DAY_NS}
    values["sessions"] = _ids(
        client, "SELECT session_id FROM sessions WHERE coalesce(end_ns, start_ns) < {old:Int64}", values
    )
    values["steps"] = _ids(client, "SELECT timestep_id FROM timesteps WHERE start_ns < {old:Int64}", values)
    condition = f"{_IN_SESSIONS} OR time_ns < {{old:Int64}}"
    about: dict[str, Any] = {table: delete(client, table, condition, values) for table in ABOUT_CALLS}
    steps = f"{_IN_SESSIONS} OR timestep_id IN {{steps:Array(String)}}"
    return DeletionResult(
        timesteps=delete(client, "timestep_versions", steps, values, "timestep_id"),
        **about,
        calls=delete(client, "calls", f"{_IN_SESSIONS} OR start_ns < {{old:Int64}}", values),
        sessions=delete(client, "session_versions", _IN_SESSIONS, values, "session_id"),
        contents=delete(client, "content", "seen_ns < {unseen:Int64}", values),
    )


def _erase(client: Client, scope: DeletionScope) -> DeletionResult:
    """Delete sessions and calls with the contents that only they refer to, and remember their ids.

    A writer that does not see what is remembered yet sees it after its batch, and writes its contents again.
    """
    insert(client, "erased", [{"id": found.hex(), "time_ns": scope.erased_ns} for found in digests(scope)])
    began_ns = time.time_ns()
    rows = client.query("SELECT key, frame FROM dead_letter").result_rows
    rejected = [str(row[0]) for row in rows if names(str(row[1]).encode(), scope)]
    delete_among(client, "dead_letter", "key", rejected)
    contents = set[str]()
    for column, ids in (("session_id", scope.sessions), ("call_id", scope.calls)):
        for some in _some(ids):
            sql = f"SELECT DISTINCT {_REFERRED} FROM calls WHERE {column} IN {{ids:Array(String)}}"
            contents.update(_ids(client, sql, {"ids": some}))
    for some in _some(contents):
        sql = f"SELECT DISTINCT {_IN_SKELETON} FROM content WHERE hash IN {{ids:Array(String)}} AND role IS NULL"
        contents.update(_ids(client, sql, {"ids": some}))
    counts: dict[str, Any] = {
        table: delete_among(client, table, "session_id", scope.sessions)
        + delete_among(client, table, "call_id", scope.calls)
        for table in ("calls", *ABOUT_CALLS)
    }
    counts["rewards"] += sum(delete_among(client, "rewards", column, scope.targets) for column in REWARDED)
    return DeletionResult(
        **counts,
        timesteps=delete_among(client, "timestep_versions", "session_id", scope.sessions, "timestep_id"),
        sessions=delete_among(client, "session_versions", "session_id", scope.sessions, "session_id"),
        contents=_delete_contents(client, contents, began_ns),
    )


def _delete_contents(client: Client, candidates: set[str], before_ns: int) -> int:
    """Delete those of these contents, written before a time, that no call refers to."""
    live = set[str]()
    for some in _some(candidates):
        sql = f"SELECT DISTINCT {_REFERRED} AS found FROM calls WHERE found IN {{ids:Array(String)}}"
        live.update(_ids(client, sql, {"ids": some}))
    if candidates - live:
        live.update(_ids(client, _LIVE_IN_SKELETONS, {}))
    return delete_among(client, "content", "hash", candidates - live, also=f"seen_ns < {int(before_ns)}")


def delete_among(
    client: Client, table: str, column: str, ids: Collection[str], key: str | None = None, also: str = "1 = 1"
) -> int:
    """Delete the rows whose column has one of these values; return how many records they were."""
    condition = f"{column} IN {{ids:Array(String)}} AND {also}"
    return sum(delete(client, table, condition, {"ids": some}, key) for some in _some(ids))


def _some(ids: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]


def unreferred(client: Client, before_ns: int, most: int) -> list[str]:
    """Return the hashes of some contents, written before a time, that no row of a call refers to any more."""
    sql = (
        f"SELECT DISTINCT hash FROM content WHERE seen_ns < {int(before_ns)}"
        f" AND hash NOT IN (SELECT {_REFERRED} FROM calls) AND hash NOT IN ({_LIVE_IN_SKELETONS}) LIMIT {int(most)}"
    )
    return [str(row[0]) for row in client.query(sql).result_rows]


def _ids(client: Client, sql: str, values: Mapping[str, object]) -> list[str]:
    return [str(row[0]) for row in client.query(sql, parameters=dict(values), settings=FINAL).result_rows]


def delete(client: Client, table: str, condition: str, values: Mapping[str, object], key: str | None = None) -> int:
    """Delete rows and return how many records they were: distinct values of `key`, else rows after all merges."""
    counted = "count()" if key is None else f"uniqExact({key})"
    sql = f"SELECT {counted} FROM {table} WHERE {condition}"
    number = int(str(client.query(sql, parameters=dict(values), settings=FINAL).result_rows[0][0]))
    if number:
        client.command(f"DELETE FROM {table} WHERE {condition}", parameters=dict(values))
    return number
