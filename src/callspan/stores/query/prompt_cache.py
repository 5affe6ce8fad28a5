"""Prompt cache: reads the calls of sessions, and says what each read from its provider's prompt cache."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Final

from callspan.joining.prompt_cache import MAX_EARLIER, CacheUse, Turn, cache_use
from callspan.joining.request_pieces import PieceReader, Sent
from callspan.record.call import CallRecord
from callspan.record.merging import Price
from callspan.stores.tables.bodies import DAMAGE
from callspan.stores.tables.call_rows import owner_of_row, record_of, request_body
from callspan.stores.tables.database import Database, Values, in_batches
from callspan.stores.tables.facts import CALLS

_REMEMBERED: Final = 2 * MAX_EARLIER
_SESSIONS_AT_ONCE: Final = 20
_COLUMNS: Final = ", ".join(f"c.{name}" for name in Turn._fields)
_ORDER: Final = "ORDER BY c.session_id, c.start_ns, c.call_id"


def cache_uses(database: Database, where: str, values: Values, price: Price, around: int) -> Iterator[CacheUse]:
    """Yield what the calls that match a condition on `c` read from the prompt cache, session by session, by time."""
    asked: dict[str | None, set[str]] = defaultdict(set)
    for call_id, session_id in database.tuples(f"SELECT c.call_id, c.session_id FROM calls c WHERE {where}", values):
        asked[session_id].add(call_id)
    requests = _Requests(database)
    for condition, parameters in _batches(asked):
        rows = [*database.tuples(f"SELECT {_COLUMNS} FROM calls c WHERE {condition} {_ORDER}", parameters)]
        for session_id, turns in groupby(map(Turn._make, rows), key=attrgetter("session_id")):
            earlier: dict[tuple[str, str], deque[Turn]] = defaultdict(partial(deque, maxlen=MAX_EARLIER))
            for turn in turns:
                of_api = earlier[turn.provider, turn.api]
                if turn.call_id in asked[session_id]:
                    yield cache_use(turn, of_api, requests.read, price, around=around)
                if turn.leaves_prefix and session_id is not None:
                    of_api.append(turn)


def _batches(asked: Mapping[str | None, Collection[str]]) -> Iterator[tuple[str, Values]]:
    """Yield conditions on the calls outside of sessions, then on those of few sessions each."""
    yield from in_batches([*asked.get(None, ())], "c.call_id")
    sessions = [session_id for session_id in asked if session_id is not None]
    for at in range(0, len(sessions), _SESSIONS_AT_ONCE):
        yield from in_batches(sessions[at : at + _SESSIONS_AT_ONCE], "c.session_id")


class _Requests:
    """Reads requests in pieces, and keeps the last ones and the contents of one owner."""

    def __init__(self, database: Database) -> None:
        self._database, self._pieces = database, PieceReader()
        self._kept: dict[str, Sent] = {}
        self._contents: tuple[str, dict[int, tuple[bytes, bytes]]] = "", {}

    def read(self, turn: Turn) -> Sent:
        """Return a call with its request in pieces."""
        if turn.call_id not in self._kept:
            if len(self._kept) >= _REMEMBERED:
                del self._kept[next(iter(self._kept))]
            self._kept[turn.call_id] = self._read(turn.call_id)
        return self._kept[turn.call_id]

    def _read(self, call_id: str) -> Sent:
        rows = [*self._database.rows("SELECT * FROM calls WHERE call_id = :id", {"id": call_id})]
        for row in self._database.with_references(rows):
            with suppress(*DAMAGE):
                body = request_body(row, partial(self._of_owner, owner_of_row(row)))
                return self._pieces.sent(record_of(CALLS, row, CallRecord), body)
        return Sent(None)

    def _of_owner(self, owner: str, ranges: Sequence[tuple[int, int]]) -> Mapping[int, tuple[bytes, bytes]]:
        """Return contents as `Database.contents` does; the requests of a session mostly have the same."""
        if owner != self._contents[0]:
            self._contents = owner, {}
        contents, missing = self._contents[1], []
        for first, last in ranges:
            start = next((number for number in range(first, last + 1) if number not in contents), None)
            missing += [] if start is None else [(start, last)]
        contents.update(self._database.contents(owner, missing) if missing else {})
        numbers = (number for first, last in ranges for number in range(first, last + 1))
        return {number: contents[number] for number in numbers if number in contents}
