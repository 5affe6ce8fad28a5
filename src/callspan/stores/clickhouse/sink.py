"""Sink for ClickHouse: inserts the rows of records, their contents and what calls refer to of these."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias, cast

import msgspec
from clickhouse_connect.driver.exceptions import DatabaseError

from callspan.record.call import CallRecord
from callspan.record.events import Record, record_key
from callspan.record.merging import Price, version_order
from callspan.runtime.safe_urls import error_text, safe_name
from callspan.settings import Content
from callspan.spool.delivering import Rejected, SuspectError
from callspan.stores.clickhouse.database import CODE, ClickHouseDatabase, explaining
from callspan.stores.clickhouse.removal import remove_refused
from callspan.stores.clickhouse.superseded import calls_with_several_versions, delete_superseded, move_timesteps
from callspan.stores.tables import bodies, payloads
from callspan.stores.tables.bodies import Piece
from callspan.stores.tables.call_rows import exact_call
from callspan.stores.tables.contents import HashNumbers, StoredCall, version_to_write
from callspan.stores.tables.database import in_batches
from callspan.stores.tables.erased import Refused
from callspan.stores.tables.facts import REFERENCES, TABLES
from callspan.stores.tables.payloads import prepared, without_run
from callspan.stores.writer import late_records

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
_POISON: Final = frozenset({6, 26, 27, 33, 38, 41, 53, 69, 72, 117, 130, 131, 306, 407})
"""Error codes caused by the data: it cannot be parsed or converted, or does not fit its column."""
_SUSPECT: Final = frozenset({159, 241})
"""Too much time or memory."""
_STRICTNESS: Final[Mapping[Content, int]] = {"full": 0, "metadata": 1, "off": 2}
_STORED: Final = "SELECT call_id, part, seen_ns, session_id, content_level FROM calls WHERE {}"
_MAX_WRITTEN: Final = 20_000
_TEN_MINUTES_NS: Final = 600 * 10**9
_Content: TypeAlias = tuple[str, int, int]
"""The owner and number of a content, and the ten minutes in which its call began."""


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
        self._database: ClickHouseDatabase | None = None
        self._price: Price = _as_it_is
        self.erased = Counter[str]()
        """Number of records not stored because they had been erased, by kind."""
        self._written = dict[_Content, None]()
        """What this sink has inserted, until contents are deleted. An agent repeats its history in each call, within
        minutes; later the content may be in a part that expires sooner."""
        self._deletions = 0
        """How often contents had been deleted when `_written` was checked last."""

    def price_with(self, price: Price) -> None:
        """Price calls that have several versions anew, see `Sink`."""
        self._price = price

    def open(self) -> None:
        """Connect and create the tables. Raises StoreError for another format, else the driver's errors."""
        self._database = ClickHouseDatabase.open(self._url, creates=True, retain_days=self._retain_days)
        self._deletions = self._database.deletions()

    def deliver(self, records: Sequence[Record]) -> None:
        """Write all records.

        Raises Rejected if one can never be stored, SuspectError if that is possible, else the driver's errors.
        """
        try:
            with explaining(self.name):
                accepted = self._without_erased(records)
                self._write(accepted)
                # What was erased meanwhile may be written only now.
                self._without_erased(accepted)
        except DatabaseError as error:
            if _code(error) in _SUSPECT:
                raise SuspectError(error_text(error)) from error
            raise
        if len(accepted) < len(records):
            self.erased += Counter(record_key(record)[0] for record in records)
            self.erased -= Counter(record_key(record)[0] for record in accepted)

    def _without_erased(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records that were not erased; delete what is stored of the others."""
        removed = set[Refused]()
        while True:
            late = late_records(self._connected, records)
            if removed.issuperset(late.refused):
                return late.accepted
            remove_refused(self._connected, {*late.refused} - removed)
            removed.update(late.refused)

    def _write(self, records: Sequence[Record]) -> None:
        rows: dict[str, list[Mapping[str, object]]] = defaultdict(list)
        calls: dict[str, list[CallRecord]] = defaultdict(list)
        for record in records:
            if isinstance(record, CallRecord):
                calls[record.call_id].append(without_run(record))
            else:
                rows[f"{record_key(record)[0]}_versions"].append(_row(record, payloads.row_of(record)))
        self._write_calls(calls)
        for table, table_rows in rows.items():
            self._insert(table, table_rows)
        move_timesteps(self._connected, [str(row["timestep_id"]) for row in rows["timestep_versions"]])

    def close(self) -> None:
        """Close the connection."""
        self._written.clear()
        database, self._database = self._database, None
        if database is not None:
            database.close()

    @property
    def _connected(self) -> ClickHouseDatabase:
        return cast("ClickHouseDatabase", self._database)

    def _write_calls(self, versions: Mapping[str, Sequence[CallRecord]]) -> None:
        """Write calls, merged with their stored versions, after all that they refer to.

        Then delete what only replaced versions refer to: also if nothing is written, because this may be the delivery
        of a batch that was interrupted here.
        """
        sessions = {
            call_id: {session_id for version in of_call if (session_id := version.place.session_id)}
            for call_id, of_call in versions.items()
        }
        records = list(self._versions_to_write(versions, sessions))
        numbers: dict[str, HashNumbers] = defaultdict(HashNumbers)
        calls, references = [], []
        pieces = dict[_Content, tuple[str, int, Piece, int]]()
        for record in records:
            call, start_ns = prepared(record), record.timing.start_ns
            new, row = numbers[call.owner].add(call)
            for number, piece in new:
                key = call.owner, number, start_ns // _TEN_MINUTES_NS
                pieces[key] = call.owner, number, piece, start_ns
            common = {"call_id": record.call_id, "start_ns": start_ns, "version": _version(record)}
            references.append({**common, "owner": call.owner, **_references(row)})
            calls.append(_row(record, row) | common)
        contents = [_content_row(*piece) for key, piece in pieces.items() if key not in self._written]
        for table, rows in (
            ("content_versions", contents), ("call_contents", references), ("call_versions", calls),
        ):  # fmt: skip
            if rows:
                self._insert(table, rows)
        if (deletions := self._connected.deletions()) != self._deletions:
            # What was stored may be gone. Whoever deletes from now on sees that the calls of this batch refer to it.
            self._written.clear()
            if pieces:
                self._insert("content_versions", [_content_row(*piece) for piece in pieces.values()])
            self._deletions = deletions
        self._remember(pieces)
        if several := calls_with_several_versions(self._connected, sessions):
            delete_superseded(self._connected, several)

    def _versions_to_write(
        self, versions: Mapping[str, Sequence[CallRecord]], sessions: Mapping[str, set[str]]
    ) -> Iterator[CallRecord]:
        """Yield each call as it is to be stored; calls with a newer version in the store are left out.

        Adds the stored session of each call to `sessions`.
        """
        stored: dict[str, StoredCall] = {}
        for condition, parameters in in_batches([*versions], "call_id"):
            rows = self._connected.tuples(_STORED.format(condition), parameters)
            for call_id, part, seen_ns, session_id, level in rows:
                stored[call_id] = StoredCall(part, seen_ns, session_id, level, None, None, None)
                sessions[call_id].update(filter(None, [session_id]))
        for call_id, call_versions in versions.items():
            read_stored = partial(exact_call, self._connected, call_id)
            record = version_to_write(stored.get(call_id), call_versions, read_stored, self._price)
            if record is not None:
                yield record

    def _remember(self, contents: Mapping[_Content, object]) -> None:
        if len(self._written) + len(contents) > _MAX_WRITTEN:
            self._written.clear()
        self._written.update(dict.fromkeys(contents))

    def _insert(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Insert rows. Raises Rejected if one of them can never be stored, else the driver's errors."""
        lines = b"\n".join(map(msgspec.json.encode, rows))
        insert = partial(self._connected.connection.raw_insert, table, insert_block=lines, fmt="JSONEachRow")
        try:
            insert(settings=_INSERT)
        except DatabaseError as error:
            if _code(error) not in _POISON:
                raise
            # The server collects inserts, and a bad row of another process may fail this one (ClickHouse issue 86651).
            # Only an insert of these rows alone shows whether they are bad.
            try:
                insert(settings=_ALONE)
            except DatabaseError as own:
                if _code(own) in _POISON:
                    raise Rejected(error_text(own)) from own
                raise


def _code(error: DatabaseError) -> int | None:
    code = CODE.search(str(error))
    return None if code is None else int(code[1])


def _as_it_is(call: CallRecord) -> CallRecord:
    return call


def _version(call: CallRecord) -> str:
    """Return the number that orders the versions of a call, see `clickhouse.sql`; it has more than 64 bits."""
    rank, seen_ns = version_order(call)
    return str(_STRICTNESS[call.content_level] << 72 | rank << 64 | max(0, min(seen_ns, 2**64 - 1)))


def _row(record: Record, row: Mapping[str, object]) -> dict[str, object]:
    """Return the row of a record with all columns."""
    names = TABLES[record_key(record)[0]].names
    return dict.fromkeys(names) | {name: cell for name, cell in row.items() if name not in REFERENCES}


def _references(row: Mapping[str, object]) -> dict[str, object]:
    contents = row.get("contents")
    ranges = msgspec.Raw(b"[]" if contents is None else str(contents).encode())
    return {"request": row.get("request"), "output": row.get("output"), "contents": ranges}


def _content_row(owner: str, number: int, piece: Piece, start_ns: int) -> dict[str, object]:
    stored = bodies.to_row(piece)
    return {
        "owner": owner, "n": number, "start_ns": start_ns, "hash": piece.hash.hex(), "role": stored.role,
        "data": None if stored.json is None else stored.json.decode(), "text": stored.text,
        "reasoning": stored.reasoning,
    }  # fmt: skip
