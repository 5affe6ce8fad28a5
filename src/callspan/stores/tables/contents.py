"""Contents: the messages and large values of calls, stored once for each session, or for each call outside of one.

Each is a row of `contents` with its owner, `s:SESSION` or `c:CALL`, as the call's row says when it is written. Contents
never move: if a call changes its session, they are written again for the new one. A call that continues another one
outside of sessions shares the owner of that call, which `calls.owner` names; their run owns nothing. Contents are
numbered within their owner. Messages of one history have consecutive numbers, so that a call refers to them by few
ranges. The call in the example of `callspan.stores.tables.bodies` has

    request  output  contents
    -1       -4      [[-2,-2,-2],[-1,-3,-3],[0,65536,65537],[2,-4,-4]]

If the next call of the session repeats these two messages and the answer, and adds a question, its history is a range
and its two new messages: [0,65536,65539].

A history repeats in every call: a session of a hundred turns would store each message a hundred times. Sharing by hash
over the whole store saved more and was given up: whether a row may be deleted was then a question about all calls, so a
deletion swept the table under a lock while others wrote. Now what belongs to a session is deleted with it, and what a
deletion costs depends on what is deleted.

So each call outside of sessions has its own instructions. They are not compressed, because SQLite cannot inflate them
for other programs that read `call_messages`; docs/stores.md has the figures.

Order matters in a batch, see `writer`: the calls are locked and merged with their stored versions first, which decides
the owner; then the owners are locked, since two processes may number the same session; then contents, and last the rows
that refer to them. Contents that only the replaced version of a call referred to are deleted at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from callspan.record.call import CallRecord
from callspan.record.codec import encode, encode_json
from callspan.record.merging import Price, merged, order_key, priced_again, version_order
from callspan.stores.tables.bodies import Piece
from callspan.stores.tables.database import Database, SqlDatabase, in_batches
from callspan.stores.tables.facts import REFERENCES
from callspan.stores.tables.payloads import PreparedCall, owner_of, without_run
from callspan.stores.tables.rows import Row

Range: TypeAlias = list[int]
"""The position of a message in the request, its number, and the number of the last consecutive message.

Position -1 is the system prompt; lower ones are no messages. The answer has the position after the last message.
"""
NewContent: TypeAlias = tuple[str, int, Piece]
"""Owner, number and value of a content."""
_RUN_BITS: Final = 16
_MAX_HASH_NUMBER: Final = 2**61 - 1
"""A prime, so that every byte of a hash counts."""
_REPEATED: Final = -(2**31)
"""The position of pieces that an answer repeats."""
_ranges = msgspec.json.Decoder(list[Range])
STORED_CALL: Final = "part, seen_ns, session_id, content_level, request, output, contents, owner, inferred"
"""The columns of a `StoredCall`."""


class StoredCall(NamedTuple):
    """The row of a call before another version is written."""

    part: Any
    seen_ns: int | None
    session_id: str | None
    level: str | None
    request: int | None
    output: int | None
    contents: object
    owner: str | None = None
    """The owner of its contents if it is or was in a run."""
    inferred: bool | None = None


def version_to_write(
    stored: StoredCall | None,
    versions: Sequence[CallRecord],
    read_stored: Callable[[], CallRecord],
    price: Price,
) -> CallRecord | None:
    """Return the call to write, given the stored row and new versions; None to keep the row.

    `read_stored` returns the call of the row.
    """
    if stored is None:
        return priced_again(merged(versions), versions, price)
    levels = {version.content_level for version in versions}
    if levels == {stored.level or "full"} and not any(version.is_merged for version in versions):
        newest = max(versions, key=version_order)
        return newest if version_order(newest) > order_key(stored.part, stored.seen_ns) else None
    stored_call = msgspec.structs.replace(without_run(read_stored()), conversation=None)
    versions = [stored_call, *versions]
    call = priced_again(merged(versions), versions, price)
    return None if encode(call) == encode(stored_call) else call


class ContentNumbers:
    """The numbers of an owner's contents.

    Messages of histories have positive numbers, in runs: a message gets the number after the last one of its history,
    or starts a new run if another history already continued there. All other numbers are negative.
    """

    def __init__(self, by_hash: dict[bytes, int], bounds: Sequence[int]) -> None:
        """`by_hash` contains at least the requested contents.

        `bounds`, ascending, contains at least the smallest and largest number of all, and the last one in each run of
        `by_hash`.
        """
        self.by_hash = by_hash
        self._last_in_run = {number >> _RUN_BITS: number for number in bounds}
        self._runs = max((0, *self._last_in_run))
        self._lowest = min((0, *bounds[:1]))

    def add(self, row: PreparedCall) -> tuple[list[tuple[int, Piece]], Row]:
        """Return the contents of a call that are new to its owner, with their numbers, and its complete row."""
        new: list[tuple[int, Piece]] = []
        ranges: list[Range] = []
        request = output = None
        body = row.request
        if body is not None:
            request = self._separate_number(body.skeleton, new)
            for position, part in body.others:
                number = self._separate_number(part, new)
                ranges.append([position, number, number])
            ranges += self._history_ranges(body.history, body.history_at, new)
            ranges.sort(key=itemgetter(0))
        if row.answer is not None:
            for part in row.answer.repeated:
                number = self._separate_number(part, new)
                ranges.insert(0, [_REPEATED, number, number])
            output = self._separate_number(row.answer.piece, new)
            ranges.append([0 if body is None else body.messages, output, output])
        complete_row = row.row
        references = request, output, encode_json(ranges).decode() if ranges else None
        for name, cell in zip(REFERENCES, references, strict=True):
            if cell is not None:
                complete_row[name] = cell
        return new, complete_row

    def _history_ranges(self, history: Sequence[Piece], start: int, new: list[tuple[int, Piece]]) -> list[Range]:
        ranges: list[Range] = []
        by_hash, previous = self.by_hash, 0
        for position, part in enumerate(history, start):
            number = by_hash.get(part.hash)
            if number is None:
                number = by_hash[part.hash] = self._next_number(previous)
                new.append((number, part))
            if ranges and number == previous + 1:
                ranges[-1][2] = number
            else:
                ranges.append([position, number, number])
            previous = number
        return ranges

    def _next_number(self, previous: int) -> int:
        run, number = previous >> _RUN_BITS, previous + 1
        if previous <= 0 or self._last_in_run[run] != previous or number >> _RUN_BITS != run:
            run = self._runs = self._runs + 1
            number = run << _RUN_BITS
        self._last_in_run[run] = number
        return number

    def _separate_number(self, part: Piece, new: list[tuple[int, Piece]]) -> int:
        number = self.by_hash.get(part.hash)
        if number is None:
            number = self.by_hash[part.hash] = self._lowest = self._lowest - 1
            new.append((number, part))
        return number


class HashNumbers(ContentNumbers):
    """Numbers that are made of hashes, for a store whose writers do not know what is there. Each message is a range.

    Two of a session's million contents would have the same number once in some million sessions.
    """

    def __init__(self) -> None:
        super().__init__({}, ())

    def _history_ranges(self, history: Sequence[Piece], start: int, new: list[tuple[int, Piece]]) -> list[Range]:
        numbers = [self._separate_number(part, new) for part in history]
        return [[position, number, number] for position, number in enumerate(numbers, start)]

    def _separate_number(self, part: Piece, new: list[tuple[int, Piece]]) -> int:
        number = self.by_hash.get(part.hash)
        if number is None:
            number = self.by_hash[part.hash] = int.from_bytes(part.hash, "big") % _MAX_HASH_NUMBER
        # For each call: its contents may have to be written again where an earlier one has them.
        new.append((number, part))
        return number


def run_end(number: int) -> int:
    """Return the first number after the run of a number."""
    return ((number >> _RUN_BITS) + 1) << _RUN_BITS


def pieces_of(row: PreparedCall) -> list[Piece]:
    """Return all pieces of a call."""
    pieces = [] if row.answer is None else [row.answer.piece, *row.answer.repeated]
    if row.request is not None:
        pieces += [*row.request.history, row.request.skeleton, *(part for _, part in row.request.others)]
    return pieces


def ranges_in(cell: object) -> list[Range]:
    """Return the ranges in the column `contents`."""
    if cell is None:
        return []
    return _ranges.decode(cell) if isinstance(cell, str) else cast("list[Range]", cell)


def stored_calls(database: Database, call_ids: Sequence[str]) -> dict[str, StoredCall]:
    """Return the stored rows of these calls by id, without unknown ids."""
    calls: dict[str, StoredCall] = {}
    for condition, parameters in in_batches(call_ids, "call_id"):
        rows = database.tuples(f"SELECT call_id, {STORED_CALL} FROM calls WHERE {condition}", parameters)  # noqa: S608
        calls |= {call_id: StoredCall(*cells) for call_id, *cells in rows}
    return calls


def release(database: SqlDatabase, call_id: str, earlier: StoredCall, later: StoredCall) -> None:
    """Delete the contents that only the earlier row of a call referred to."""
    owner, earlier_ranges = stored_owner(call_id, earlier), {*ranges_of_call(earlier)}
    is_same = owner == stored_owner(call_id, later)
    if earlier_ranges and not (is_same and earlier_ranges <= {*ranges_of_call(later)}):
        trim(database, owner)


def stored_owner(call_id: str, call: StoredCall) -> str:
    """Return the owner of the contents of a stored call."""
    return call.owner or owner_of(call_id, call.session_id)


def ranges_of_call(call: StoredCall) -> list[tuple[int, int]]:
    """Return the ranges of contents that a call refers to, as first and last number."""
    single_ranges = [(number, number) for number in (call.request, call.output) if number is not None]
    return single_ranges + [(first, last) for _, first, last in ranges_in(call.contents)]


def trim(database: SqlDatabase, owner: str) -> None:
    """Delete the contents of an owner that no call refers to."""
    column = "session_id" if owner.startswith("s:") else "call_id"
    condition = "" if column == "session_id" else " AND session_id IS NULL"
    sql = f"""SELECT {STORED_CALL} FROM calls WHERE {column} = :id{condition} AND owner IS NULL
      UNION ALL SELECT {STORED_CALL} FROM calls WHERE owner = :owner"""  # noqa: S608
    calls = database.tuples(sql, {"id": owner[2:], "owner": owner})
    used_numbers: set[int] = set()
    for first, last in {ends for row in calls for ends in ranges_of_call(StoredCall(*row))}:
        used_numbers.update(range(first, last + 1))
    numbers = database.tuples("SELECT n FROM contents WHERE owner = :owner", {"owner": owner})
    unused_keys = [{"owner": owner, "n": number} for (number,) in numbers if number not in used_numbers]
    database.run_many("DELETE FROM contents WHERE owner = :owner AND n = :n", unused_keys)
    database.forget_numbers(owner)
