"""Call rows: restores records from rows, and the bodies of calls from contents."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Final, TypeAlias, TypeVar, cast

import msgspec

from callspan.providers.registry import with_conversation
from callspan.record.apis import APIS, OTHER
from callspan.record.call import CallRecord
from callspan.record.events import RECORD_TYPES, Record
from callspan.record.messages import Message, Text
from callspan.stores.base import Content, StoreError
from callspan.stores.tables import bodies
from callspan.stores.tables.contents import ranges_in
from callspan.stores.tables.database import Database, Values, in_batches
from callspan.stores.tables.facts import CALLS, OWNER, TABLES, Table
from callspan.stores.tables.payloads import owner_of
from callspan.stores.tables.rows import converted, to_tree
from callspan.stores.tables.texts import Place

Contents: TypeAlias = Callable[[Sequence[tuple[int, int]]], Mapping[int, tuple[bytes, bytes]]]
"""Returns the hash and the exact JSON of the contents of a call in these ranges, by number."""
_R = TypeVar("_R", bound=Record)
_OF_USER: Final = """
SELECT role, CASE WHEN data IS NULL THEN substr(text, 1, {most}) ELSE text END AS text, reasoning, data
  FROM contents WHERE owner = :owner AND n BETWEEN :first AND :last AND role = 'user' ORDER BY n
"""
_NEXT: Final = "SELECT * FROM {table} WHERE {key} > :last ORDER BY {key} LIMIT 500"


def record_of(table: Table, row: Values, kind: type[_R]) -> _R:
    """Return the record of a row, without bodies."""
    return converted(to_tree(table, row), kind)


def read_calls(database: Database, ids: Sequence[str], content: Content) -> Iterator[CallRecord]:
    """Yield the calls with these ids, in this order, with the bodies of `content`. Unknown ids are skipped."""
    for condition, parameters in in_batches(ids, "call_id"):
        calls = [*database.rows(f"SELECT * FROM calls WHERE {condition}", parameters)]
        rows = {row["call_id"]: row for row in (calls if content == "none" else database.with_references(calls))}
        yield from (call_of(database, rows[call_id], content) for call_id in parameters.values() if call_id in rows)


def exact_call(database: Database, call_id: str) -> CallRecord:
    """Return the stored call with exactly this id."""
    return next(read_calls(database, [call_id], "all"))


def keyed_records(database: Database, table: Table, sql: str, values: Values) -> Iterator[tuple[str, Record | None]]:
    """Yield the key and record of each row; None for a damaged record. Calls have their bodies if readable."""
    for row in database.rows(sql, values):
        yield str(row[table.key]), _undamaged(database, table, row)


def every_record(database: Database) -> Iterator[Record | None]:
    """Yield the record of each row of all tables; None for a damaged row."""
    for table in TABLES.values():
        last_key = ""
        while rows := list(database.rows(_NEXT.format(table=table.name, key=table.key), {"last": last_key})):
            last_key = str(rows[-1][table.key])
            yield from (_undamaged(database, table, row) for row in rows)


def _undamaged(database: Database, table: Table, row: Values) -> Record | None:
    levels: tuple[Content, ...] = ("all", "none")
    for content in levels:
        with suppress(StoreError, *bodies.DAMAGE):
            if table is CALLS:
                return call_of(database, row, content)
            return record_of(table, row, RECORD_TYPES[table.kind])
    return None


def call_of(database: Database, row: Values, content: Content = "all") -> CallRecord:
    """Return the call of a row with its conversation and the bodies of `content`. Raises StoreError if damaged."""
    contents = partial(database.contents, owner_of_row(row))
    try:
        record = record_of(CALLS, row, CallRecord)
        if content == "none":
            return record
        return with_bodies(
            record,
            request_body(row, contents) if content == "all" else None,
            None if record.response is None else response_body(row, contents),
        )
    except bodies.DAMAGE as error:
        raise _damaged(database, row) from error


def _damaged(database: Database, row: Values) -> StoreError:
    return StoreError(f"{database.name}: call {row['call_id']} is damaged; {database.remedy}")


def with_bodies(record: CallRecord, request: msgspec.Raw | None, response: msgspec.Raw | None) -> CallRecord:
    """Return a call with its conversation and the bodies that are known."""
    if request is not None:
        record = msgspec.structs.replace(record, request=msgspec.structs.replace(record.request, body=request))
    if response is not None and record.response is not None:
        record = msgspec.structs.replace(record, response=msgspec.structs.replace(record.response, body=response))
    return with_conversation(record)


def request_body(row: Values, contents: Contents) -> msgspec.Raw | None:
    """Return the body; None without one, or if a part of it was deleted while it was read."""
    if row["request"] is None:
        return None
    try:
        ranges, request, output = ranges_in(row["contents"]), cast("int", row["request"]), row["output"]
        pieces = contents([(request, request), *((first, last) for _, first, last in ranges)])
        message_ranges = [
            range(first, last + 1) for position, first, last in ranges if position >= 0 and first != output
        ]
        messages = [pieces[number][1] for number in chain.from_iterable(message_ranges)]
        return msgspec.Raw(bodies.join(pieces[request][1], messages, dict(pieces.values()).__getitem__))
    except KeyError:
        return None


def user_messages(database: Database, row: Values, most: int) -> Iterator[Message]:
    """Yield the user's messages in the request of a row, in order, and read no others. Raises StoreError if damaged.

    Of a message with only a role and a text, `most` characters are read.
    """
    names = APIS.get(str(row["api"]), OTHER).said
    if len(names) != 1:  # a stored message does not say which field it is of
        conversation = call_of(database, row).conversation
        yield from () if conversation is None else conversation.input
        return
    sql = _OF_USER.format(most=most)
    for position, first, last in ranges_in(row["contents"]):
        if position < 0 or first == row["output"]:
            continue
        values = {"owner": owner_of_row(row), "first": first, "last": last}
        for cells in database.rows(sql, values):
            if cells["data"] is None:
                yield Message(role="user", parts=[Text(text=str(cells["text"] or ""))])
                continue
            try:
                json = bodies.json_of(cells, is_deflated=database.dialect.is_deflated)
            except bodies.DAMAGE as error:
                raise _damaged(database, row) from error
            is_element = json[:1] != b'"'
            yield from bodies.messages_of(
                bodies.Piece(b"", json, Place(str(row["api"]), "message", *names, is_element))
            )


def response_body(row: Values, contents: Contents) -> msgspec.Raw | None:
    """Return the body; None without one, or if it was deleted while it was read."""
    output = cast("int | None", row["output"])
    if output is None:
        return None
    try:
        answer = contents([(output, output)])[output][1]
        if bodies.repeats(answer):
            pieces = contents([(first, last) for _, first, last in ranges_in(row["contents"])])
            answer = bodies.whole(answer, dict(pieces.values()).__getitem__)
        return msgspec.Raw(answer)
    except KeyError:
        return None


def owner_of_row(row: Values) -> str:
    """Return the owner of the contents of the call in a row."""
    owner = cast("str | None", row[OWNER])
    return owner or owner_of(str(row["call_id"]), cast("str | None", row["session_id"]))
