"""Sent: the versions of spans that a receiver has, in the table `sent` of a store. One process sends at a time."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from operator import attrgetter
from typing import Final, NamedTuple

from callspan.stores.base import StoreError
from callspan.stores.tables.database import Database, SqlDatabase, in_batches
from callspan.stores.tables.facts import CALLS, EVENTS, REWARDS, SESSIONS, STORED, TIMESTEPS, Table

_WRITTEN_AT_ONCE: Final = 1000
_TIMES: Final = {CALLS: "start_ns", SESSIONS: "start_ns", TIMESTEPS: "start_ns", EVENTS: "time_ns", REWARDS: "time_ns"}
"""The tables with rows that become spans, and their column of the start time."""
_MARK: Final = "mark"
_ADD: Final = (
    "INSERT INTO sent (id, version) VALUES (:id, :version) ON CONFLICT (id) DO UPDATE SET version = excluded.version"
)


class RowVersion(NamedTuple):
    """One write of a row: its kind, id, session and times."""

    kind: str
    ident: str
    session_id: str | None
    start_ns: int
    """When its call, session or event began, Unix time; 0: unknown."""
    stored_ns: int
    """When it was last written, by the store's clock."""


class BusyError(StoreError):
    """Another process sends the store's records to the same receiver."""

    def __init__(self, receiver: str) -> None:
        """`receiver` is its URL."""
        super().__init__(f"Another process sends this store to {receiver}.")


class SentVersions(ABC):
    """The versions that a receiver has, and the versions written to the store. Not thread-safe.

    Its methods may also raise BusyError, if another process has begun to send to the receiver meanwhile.
    """

    def __init__(self, database: Database, receiver: str) -> None:
        """`receiver` is its URL."""
        self._database, self.receiver = database, receiver

    def versions(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the versions that the receiver has, by key, without unknown keys."""
        by_id, versions = {self._id(key): key for key in keys}, dict[str, int]()
        for condition, parameters in in_batches([*by_id], "id"):
            rows = self._database.tuples(f"SELECT id, version FROM sent WHERE {condition}", parameters)  # noqa: S608
            versions.update((by_id[ident], version) for ident, version in rows)
        return versions

    def add(self, versions: Mapping[str, int]) -> None:
        """Record durably that the receiver has these versions, by key."""
        self._add({self._id(key): version for key, version in versions.items()})

    @property
    def mark_ns(self) -> int:
        """Everything delivered to the store before this Unix time was sent; 0: nothing was."""
        return self.versions([_MARK]).get(_MARK, 0)

    @mark_ns.setter
    def mark_ns(self, mark_ns: int) -> None:
        self.add({_MARK: mark_ns})

    def written_since(self, since_ns: int) -> Iterator[RowVersion]:
        """Yield the rows written since a time, except messages, oldest write first.

        A long transaction may later add rows with earlier times.
        """
        streams = (self._written(table, time, since_ns) for table, time in _TIMES.items())
        return heapq.merge(*streams, key=attrgetter("stored_ns"))

    def close(self) -> None:
        """Close the store, so that another process may send."""
        self._database.close()

    @abstractmethod
    def _add(self, versions: Mapping[int, int]) -> None:
        """Write versions by id."""

    @abstractmethod
    def _written(self, table: Table, time: str, since_ns: int) -> Iterator[RowVersion]:
        """Yield the rows of a table written since a time, oldest write first; `time` is its column of the start."""

    def _id(self, key: str) -> int:
        return number_of(f"{self.receiver} {key}")


class SqlSentVersions(SentVersions):
    """The versions in SQLite or Postgres, which releases the lock of a process that dies."""

    _database: SqlDatabase

    def __init__(self, database: SqlDatabase, receiver: str) -> None:
        """`receiver` is its URL. Raises BusyError while another process sends to it."""
        super().__init__(database, receiver)
        if not database.try_lock(f"send-{number_of(receiver) & 0xFFFF_FFFF:08x}"):
            raise BusyError(receiver)

    def _add(self, versions: Mapping[int, int]) -> None:
        rows = [{"id": ident, "version": version} for ident, version in versions.items()]
        with self._database.transaction():
            self._database.run_many(_ADD, rows)

    def _written(self, table: Table, time: str, since_ns: int) -> Iterator[RowVersion]:
        key, last_key = table.key, ""
        sql = (
            f"SELECT '{table.kind}', {key}, session_id, coalesce({time}, 0), {STORED} FROM {table.name}"  # noqa: S608
            f" WHERE {STORED} >= :since AND ({STORED} > :since OR {key} > :after) ORDER BY {STORED}, {key}"
            f" LIMIT {_WRITTEN_AT_ONCE}"
        )
        while page := [RowVersion(*row) for row in self._database.tuples(sql, {"since": since_ns, "after": last_key})]:
            yield from page
            since_ns, last_key = page[-1].stored_ns, page[-1].ident


def number_of(text: str) -> int:
    """Return a hash of a text as a signed 64-bit number."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big", signed=True)
