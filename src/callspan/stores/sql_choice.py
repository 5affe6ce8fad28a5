"""SQL choice: finds the ids of what is to be deleted, how many records it is, and which other calls share its words."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import Final, Literal

from callspan.stores import filters
from callspan.stores.base import REWARDED, CallFilter, CallIds, DeletionScope
from callspan.stores.columns import TABLES
from callspan.stores.erased import digest_of_id
from callspan.stores.sql_rewards import CALL_IDS, SqlRewards, Values

_EVERY: Final = CallFilter()
_TIMES: Final = {"since_ns": "s.start_ns >= :since_ns", "until_ns": "s.start_ns < :until_ns"}
_SHARING: Final = """
WITH RECURSIVE mine (id) AS (
  SELECT c.ctx FROM calls c WHERE {chosen} AND c.ctx IS NOT NULL
  UNION SELECT x.parent FROM mine JOIN ctx x ON x.id = mine.id WHERE x.parent <> {no_parent}),
words (content) AS (
  SELECT DISTINCT x.content FROM mine JOIN ctx x ON x.id = mine.id JOIN content t ON t.{content_id} = x.content
   WHERE t.role = 'user'),
hit (id) AS (
  SELECT x.id FROM ctx x WHERE x.content IN (SELECT content FROM words)
  UNION SELECT x.id FROM hit JOIN ctx x ON x.parent = hit.id)
SELECT c.call_id FROM calls c WHERE c.ctx IN (SELECT id FROM hit) AND NOT {chosen}
"""


class SqlChoice(SqlRewards):
    """Finds what is to be deleted; the reader of each dialect defines how a column is compared with many values."""

    _metadata: filters.MetadataSql
    _content_id = "hash"
    """The column of `content` that others refer to."""
    _no_parent = "0"
    """The parent of the first node of a chain."""
    _at_once = 200_000
    """Ids per query."""

    @abstractmethod
    def _where(self, which: CallFilter) -> tuple[str, dict[str, object]]:
        """Return the condition on calls `c`, and its parameters."""

    @abstractmethod
    def _among(self, column: str) -> str:
        """Return the condition that a column has one of the values of `:among`."""

    def _many(self, ids: Sequence[str]) -> object:
        """Return the value of `:among`."""
        return ids

    def ids(self, which: CallFilter = _EVERY, sessions: Collection[str] | None = None) -> Iterator[CallIds]:
        """Yield the ids of the matching calls, in any order; `sessions`: only of these sessions."""
        where, values = self._where(which)
        sql = f"SELECT c.call_id, c.session_id FROM calls c WHERE {where}"
        if sessions is None:
            yield from (CallIds(*map(_text, row)) for row in self._tuples(sql, **values))  # type: ignore[arg-type]
            return
        for row in self._chunks(f"{sql} AND {self._among('c.session_id')}", sessions, values):
            yield CallIds(str(row[0]), _text(row[1]))

    def session_ids(self, which: CallFilter = _EVERY) -> Iterator[str]:
        """Yield the ids of the recorded sessions that have these labels and began between these times, in any order."""
        conditions = [text for name, text in _TIMES.items() if getattr(which, name) is not None]
        labels = filters.session_condition(which, self._metadata)
        where = " AND ".join([*conditions, *([] if labels is None else [labels])]) or "1 = 1"
        sql = f"SELECT s.session_id FROM sessions s WHERE {where}"
        yield from (str(row[0]) for row in self._tuples(sql, **filters.parameters(which)))

    def rows_of(self, scope: DeletionScope) -> dict[str, int]:
        """Return how many records of each table a deletion of these sessions and calls would take."""
        found = {}
        for table in TABLES.values():
            sql = f"SELECT {table.key} FROM {table.name} WHERE "
            keys = {row[0] for row in self._chunks(sql + self._among("session_id"), scope.sessions)}
            if "call_id" in table.names:
                keys |= {row[0] for row in self._chunks(sql + self._among("call_id"), scope.calls)}
            if table.kind == "reward":
                for column in REWARDED:
                    keys |= {row[0] for row in self._chunks(sql + self._among(column), scope.targets)}
            found[table.name] = len(keys)
        return found

    def other_ids(self, calls: Collection[str]) -> frozenset[str]:
        """Return the other ids of these calls by which a reward may name them: of response, request and span.

        An id that several calls have is that of the first that began.
        """
        found, chosen = set[str](), frozenset(calls)
        for column in CALL_IDS[1:]:
            of_these = f"SELECT c.{column} FROM calls c WHERE c.{column} IS NOT NULL AND {self._among('c.call_id')}"
            sql = f"SELECT c.{column}, c.call_id FROM calls c WHERE c.{column} IN ({of_these})"
            first = dict[str, str]()
            for ident, call_id in self._chunks(f"{sql} ORDER BY c.start_ns, c.call_id", calls):
                first.setdefault(str(ident), str(call_id))
            found.update(ident for ident, call_id in first.items() if call_id in chosen)
        return frozenset(found)

    def targets(self, sessions: Collection[str], calls: Collection[str]) -> frozenset[str]:
        """Return the ids of the timesteps and events of these sessions, and of the events about these calls."""
        found = set[str]()
        for key, table, column, ids in (
            ("timestep_id", "timesteps", "session_id", sessions),
            ("event_id", "events", "session_id", sessions),
            ("event_id", "events", "call_id", calls),
        ):
            rows = self._chunks(f"SELECT {key} FROM {table} WHERE {self._among(column)}", ids)
            found.update(str(row[0]) for row in rows)
        return frozenset(found)

    def is_erased(self, kind: Literal["session", "call"], ident: str) -> bool:
        """Return whether the store remembers that the session or call of this whole id was erased."""
        remembered = self._remembered(digest_of_id(kind, ident))
        return next(self._tuples("SELECT 1 FROM erased WHERE id = :id LIMIT 1", id=remembered), None) is not None

    def _remembered(self, digest: bytes) -> object:
        """Return a hash as it stands in the table `erased`."""
        return digest

    def sharing(self, calls: Collection[str]) -> frozenset[str]:
        """Return the ids of other calls whose requests hold a message of a user that one of these calls holds, too."""
        found = {str(row[0]) for row in self._chunks(self._sharing(), calls)}
        return frozenset(found.difference(calls))

    def _sharing(self) -> str:
        """Return the query for the calls whose requests hold a message of a user of the calls `:among`."""
        chosen = self._among("c.call_id")
        return _SHARING.format(chosen=chosen, no_parent=self._no_parent, content_id=self._content_id)

    def _chunks(self, sql: str, ids: Collection[str], values: Values | None = None) -> Iterator[tuple[object, ...]]:
        """Yield the rows of a query for all ids, some at once."""
        ordered = sorted(ids)
        for start in range(0, len(ordered), self._at_once):
            among = self._many(ordered[start : start + self._at_once])
            yield from self._tuples(sql, **(values or {}), among=among)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
