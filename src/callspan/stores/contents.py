"""Contents: the messages and large values of calls, stored once for each session, or for each call outside of one.

Each is a row of `contents` with its owner, `s:SESSION` or `c:CALL`, as the call's row says when it is written. Contents
never move: if a call changes its session, they are written again for the new one. They are numbered within their owner.
Messages of one history have consecutive numbers, so that a call refers to them by few ranges. The call in the example
of `callspan.stores.bodies` has

    request  output  contents
    -1       -4      [[-2,-2,-2],[-1,-3,-3],[0,65536,65537],[2,-4,-4]]

If the next call of the session repeats these two messages and the answer, and adds a question, its history is a range
and its two new messages: [0,65536,65539].

A history repeats in every call: a session of a hundred turns would store each message a hundred times. Sharing by hash
over the whole store saved more and was given up: whether a row may be deleted was then a question about all calls, so a
deletion swept the table under a lock while others wrote. Now what belongs to a session is deleted with it, and what a
deletion costs depends on what is deleted.

Order matters in a batch, see `writer`: the calls are locked and merged with their stored versions first, which decides
the owner; then the owners are locked, since two processes may number the same session; then contents, and last the rows
that refer to them. What only the replaced version of a call referred to is deleted at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from callspan.record.call import CallRecord
from callspan.record.codec import encode, encode_json
from callspan.record.merging import Price, merged, order, order_of, priced_again
from callspan.stores.bodies import Piece
from callspan.stores.database import Database, in_batches
from callspan.stores.facts import REFERENCES
from callspan.stores.payloads import PreparedCall, owner_of
from callspan.stores.rows import Row

Range: TypeAlias = list[int]
"""The position of a message in the request, its number, and the number of the last consecutive message.

Position -1 is the system prompt; lower ones are no messages. The answer has the position after the last message.
"""
NewContent: TypeAlias = tuple[str, int, Piece]
"""Owner, number and value of a content."""
_LANE_BITS: Final = 16
_ranges = msgspec.json.Decoder(list[Range])
STORED_CALL: Final = "part, seen_ns, session_id, content_level, request, output, contents"
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


def to_write(
    there: StoredCall | None,
    versions: Sequence[CallRecord],
    read: Callable[[], CallRecord],
    price: Price,
) -> CallRecord | None:
    """Return the call to write, given the stored row and new versions; None to keep the row, which `read` returns."""
    if there is None:
        return priced_again(merged(versions), versions, price)
    levels = {one.content_level for one in versions}
    if levels == {there.level or "full"} and not any(one.is_merged for one in versions):
        newest = max(versions, key=order_of)
        return newest if order_of(newest) > order(there.part, there.seen_ns) else None
    known = msgspec.structs.replace(read(), conversation=None)
    versions = [known, *versions]
    whole = priced_again(merged(versions), versions, price)
    return None if encode(whole) == encode(known) else whole


class Numbers:
    """The numbers of an owner's contents.

    Those of histories are positive, in lanes: a message gets the number after the last one of its history, or starts a
    new lane if another history already continued there. All others are negative.
    """

    def __init__(self, by_hash: dict[bytes, int], some: Sequence[int]) -> None:
        """`by_hash` contains at least the requested contents.

        `some`, ascending, contains at least the smallest and largest number of all, and the last one in each lane of
        `by_hash`.
        """
        self.by_hash = by_hash
        self._last = {number >> _LANE_BITS: number for number in some}
        self._lanes = max((0, *self._last))
        self._lowest = min((0, *some[:1]))

    def add(self, row: PreparedCall) -> tuple[list[tuple[int, Piece]], Row]:
        """Return the contents of a call that are new to its owner, with their numbers, and its complete row."""
        new: list[tuple[int, Piece]] = []
        ranges: list[Range] = []
        request = output = None
        sent = row.request
        if sent is not None:
            history = self._of_history(sent.history, new)
            request = self._apart(sent.skeleton, new)
            parts = [*enumerate(sent.others, start=2)] + ([] if sent.system is None else [(1, sent.system)])
            for at, part in parts:
                number = self._apart(part, new)
                ranges.append([-at, number, number])
            ranges += history
        if row.answer is not None:
            output = self._apart(row.answer, new)
            ranges.append([0 if sent is None else len(sent.history), output, output])
        whole = row.row
        references = request, output, encode_json(ranges).decode() if ranges else None
        for name, cell in zip(REFERENCES, references, strict=True):
            if cell is not None:
                whole[name] = cell
        return new, whole

    def _of_history(self, history: Sequence[Piece], new: list[tuple[int, Piece]]) -> list[Range]:
        ranges: list[Range] = []
        known, last = self.by_hash, 0
        for at, part in enumerate(history):
            number = known.get(part.hash)
            if number is None:
                number = known[part.hash] = self._following(last)
                new.append((number, part))
            if ranges and number == last + 1:
                ranges[-1][2] = number
            else:
                ranges.append([at, number, number])
            last = number
        return ranges

    def _following(self, last: int) -> int:
        lane, number = last >> _LANE_BITS, last + 1
        if last <= 0 or self._last[lane] != last or number >> _LANE_BITS != lane:
            lane = self._lanes = self._lanes + 1
            number = lane << _LANE_BITS
        self._last[lane] = number
        return number

    def _apart(self, part: Piece, new: list[tuple[int, Piece]]) -> int:
        number = self.by_hash.get(part.hash)
        if number is None:
            number = self.by_hash[part.hash] = self._lowest = self._lowest - 1
            new.append((number, part))
        return number


def lane_end(number: int) -> int:
    """Return the first number after the lane of a number."""
    return ((number >> _LANE_BITS) + 1) << _LANE_BITS


def pieces_of(row: PreparedCall) -> list[Piece]:
    """Return all pieces of a call."""
    found = [] if row.answer is None else [row.answer]
    if row.request is not None:
        found += [*row.request.history, row.request.skeleton, *row.request.others]
        found += [] if row.request.system is None else [row.request.system]
    return found


def ranges_in(cell: object) -> list[Range]:
    """Return the ranges in the column `contents`."""
    if cell is None:
        return []
    return _ranges.decode(cell) if isinstance(cell, str) else cast("list[Range]", cell)


def stored_calls(database: Database, call_ids: Sequence[str]) -> dict[str, StoredCall]:
    """Return the stored rows of these calls by id, without unknown ids."""
    found: dict[str, StoredCall] = {}
    for chosen, names in in_batches(call_ids, "call_id"):
        rows = database.tuples(f"SELECT call_id, {STORED_CALL} FROM calls WHERE {chosen}", names)  # noqa: S608
        found |= {call_id: StoredCall(*cells) for call_id, *cells in rows}
    return found


def release(database: Database, call_id: str, before: StoredCall, after: StoredCall) -> None:
    """Delete the contents to which only the earlier row of a call referred."""
    owner, had = owner_of(call_id, before.session_id), {*ranges_of_call(before)}
    is_same = owner == owner_of(call_id, after.session_id)
    if had and not (is_same and had <= {*ranges_of_call(after)}):
        trim(database, owner)


def ranges_of_call(call: StoredCall) -> list[tuple[int, int]]:
    """Return the ranges of contents that a call refers to, as first and last number."""
    single = [(one, one) for one in (call.request, call.output) if one is not None]
    return single + [(first, last) for _, first, last in ranges_in(call.contents)]


def trim(database: Database, owner: str) -> None:
    """Delete the contents of an owner that no call refers to."""
    column = "session_id" if owner.startswith("s:") else "call_id"
    condition = "" if column == "session_id" else " AND session_id IS NULL"
    sql = f"SELECT {STORED_CALL} FROM calls WHERE {column} = :id{condition}"  # noqa: S608
    calls = database.tuples(sql, {"id": owner[2:]})
    kept: set[int] = set()
    for first, last in {one for row in calls for one in ranges_of_call(StoredCall(*row))}:
        kept.update(range(first, last + 1))
    numbers = database.tuples("SELECT n FROM contents WHERE owner = :owner", {"owner": owner})
    gone = [{"owner": owner, "n": number} for (number,) in numbers if number not in kept]
    database.run_many("DELETE FROM contents WHERE owner = :owner AND n = :n", gone)
    database.forget_numbers(owner)
