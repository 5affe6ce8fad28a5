"""Contents: the messages and large values of calls, stored once for each session, or for each call outside of one.

`contents` has a row for each, with its owner, `s:SESSION` or `c:CALL`: that of the call's row at the time. They never
move: a call that comes to another session has its contents written again there. The ids of what a history adds follow
each other, so that a call refers to its history by few ranges, however long it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.merging import merged, order, order_of
from callspan.stores.bodies import Piece
from callspan.stores.payloads import Prepared, combined
from callspan.stores.rows import Cell

Range: TypeAlias = tuple[int, int, int]
"""The position of a message in the request, and the ids of it and of the last message of those that follow it.

-1: the system prompt; below: no message. The position of the answer is behind the last message.
"""
Query: TypeAlias = Callable[[str, Mapping[str, object]], Iterable[Sequence[Any]]]
"""Runs a statement with `:name` parameters and returns its rows."""
_BLOCK: Final = 1 << 10
"""Ids that one history can take in a row."""
_APART: Final = 1 << 48
"""From here on are the ids of contents that no other content follows."""
_ranges = msgspec.json.Decoder(list[Range])
STORED_CALL: Final = "part, seen_ns, session_id, content_level, request, output, contents"
"""The columns of a `StoredCall`."""


def owner_of(call_id: str, session_id: str | None) -> str:
    """Return the owner of a call's contents."""
    return f"c:{call_id}" if session_id is None else f"s:{session_id}"


class StoredCall(NamedTuple):
    """What is known of the row of a call before another version is written."""

    part: Any
    seen_ns: int | None
    session_id: str | None
    level: str | None
    request: int | None
    output: int | None
    contents: object

    @property
    def has_contents(self) -> bool:
        """Whether it refers to any."""
        return (self.request, self.output) != (None, None)


def to_write(
    there: StoredCall | None, versions: Sequence[CallRecord], read: Callable[[], CallRecord | None]
) -> CallRecord | None:
    """Return the call to write, of the row that is there and new versions; None if it stays. `read` reads the row."""
    if there is None:
        return merged(versions)
    levels = {one.content_level for one in versions}
    if levels == {there.level or "full"} and not any(one.is_merged for one in versions):
        newest = max(versions, key=order_of)
        return newest if order_of(newest) > order(there.part, there.seen_ns) else None
    return combined(read(), versions)


class ContentIds(ABC):
    """Gives new contents their ids, within a transaction that no other writer of the same session runs beside."""

    def add(self, known: dict[bytes, int], row: Prepared, *, of_session: bool) -> list[tuple[int, Piece]]:
        """Return the contents of a call that its owner does not have yet, with their ids; add these to the known."""
        new: list[tuple[int, Piece]] = []
        last = 0
        for part in row.request.history if row.request is not None else ():
            found = known.get(part.hash)
            if found is None:
                found = known[part.hash] = self._following(last) if of_session else self._apart()
                new.append((found, part))
            if last < found < _APART:
                last = found
        for part in _others(row):
            if part.hash not in known:
                found = known[part.hash] = self._apart()
                new.append((found, part))
        return new

    def _following(self, last: int) -> int:
        found = last + 1
        return found if last and found % _BLOCK and self._is_free(found) else self._new_block() * _BLOCK

    @abstractmethod
    def _is_free(self, ident: int) -> bool:
        """Return whether no content has an id."""

    @abstractmethod
    def _new_block(self) -> int:
        """Return the number of a block, at least 1, of which no id was given to any content."""

    @abstractmethod
    def _apart(self) -> int:
        """Return a free id of those of `apart_id`."""


def apart_id(number: int) -> int:
    """Return the id with a number, 0 or more, of the contents that no other content follows."""
    return _APART + number


def block_of(ident: int) -> int:
    """Return the number of the block of an id."""
    return ident // _BLOCK


def block_range(block: int) -> tuple[int, int]:
    """Return the first id of a block, and the first behind it."""
    return block * _BLOCK, (block + 1) * _BLOCK


def _others(row: Prepared) -> list[Piece]:
    found = [] if row.answer is None else [row.answer]
    if row.request is not None:
        found += [row.request.skeleton, *row.request.others]
        found += [] if row.request.system is None else [row.request.system]
    return found


def pieces_of(row: Prepared) -> list[Piece]:
    """Return all pieces of a call."""
    return [*(row.request.history if row.request is not None else ()), *_others(row)]


def references(row: Prepared, known: Mapping[bytes, int]) -> tuple[Cell, Cell, Cell]:
    """Return the cells by which a call refers to its contents, in the order of `REFERENCES`."""
    request = output = None
    ranges: list[Range] = []
    number = 0
    if row.request is not None:
        request = known[row.request.skeleton.hash]
        ranges = [(-2 - at, known[part.hash], known[part.hash]) for at, part in enumerate(row.request.others)]
        if row.request.system is not None:
            ranges.append((-1, known[row.request.system.hash], known[row.request.system.hash]))
        number = len(row.request.history)
        ranges += _runs([known[part.hash] for part in row.request.history])
    if row.answer is not None:
        output = known[row.answer.hash]
        ranges.append((number, output, output))
    return request, output, encode_json(ranges).decode() if ranges else None


def _runs(ids: Sequence[int]) -> list[Range]:
    found: list[Range] = []
    start = 0
    for at in range(1, len(ids) + 1):
        if at == len(ids) or ids[at] != ids[at - 1] + 1:
            found.append((start, ids[start], ids[at - 1]))
            start = at
    return found


def ranges_in(cell: object) -> list[Range]:
    """Return the ranges in the column `contents`."""
    if cell is None:
        return []
    return _ranges.decode(cell) if isinstance(cell, str) else [cast("Range", tuple(one)) for one in cast("Any", cell)]


def release(query: Query, there: StoredCall, call_id: str, now: StoredCall | None) -> str | None:
    """Delete what a call no longer refers to, now that its row is another; return the owner that lost contents."""
    if not there.has_contents:
        return None
    owner = owner_of(call_id, there.session_id)
    if now is not None and owner == owner_of(call_id, now.session_id):
        had = {*ranges_of_call(there)}
        if had <= {*ranges_of_call(now)}:
            return None
    trim(query, owner)
    return owner


def ranges_of_call(call: StoredCall) -> list[tuple[int, int]]:
    """Return the first and last ids of what a call refers to."""
    single = [(one, one) for one in (call.request, call.output) if one is not None]
    return single + [(first, last) for _, first, last in ranges_in(call.contents)]


def trim(query: Query, owner: str) -> int:
    """Delete the contents of an owner that none of its calls refers to; return their number."""
    column = "session_id" if owner.startswith("s:") else "call_id"
    condition = "" if column == "session_id" else " AND session_id IS NULL"
    calls = query(f"SELECT {STORED_CALL} FROM calls WHERE {column} = :id{condition}", {"id": owner[2:]})  # noqa: S608
    kept: set[int] = set()
    for first, last in {one for row in calls for one in ranges_of_call(StoredCall(*row))}:
        kept.update(range(first, last + 1))
    gone = [row[0] for row in query("SELECT id FROM contents WHERE owner = :owner", {"owner": owner})]
    gone = [one for one in gone if one not in kept]
    for one in gone:
        query("DELETE FROM contents WHERE id = :id", {"id": one})
    return len(gone)
