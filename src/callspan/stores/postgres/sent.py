"""Sent: what a receiver has, in a Postgres database; an advisory lock admits one sender to each receiver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from callspan.safe_urls import safe_name
from callspan.stores.postgres.connection import connect, explaining, to_query
from callspan.stores.sent import BusyError, SentVersions, number_of


class PostgresSent(SentVersions):
    """In the table of a database that has one."""

    def __init__(self, url: str, receiver: str) -> None:
        """Raises BusyError while another process sends to the receiver, StoreError or psycopg.Error."""
        super().__init__(receiver)
        self._name = safe_name(url)
        with explaining(self._name):
            self._connection = connect(url)
        with explaining(self._name, self._connection):
            sql = "SELECT pg_try_advisory_lock(%s)"
            (is_ours,) = self._connection.execute(sql, (number_of(f"send {receiver}"),)).fetchone() or (False,)
        if not is_ours:
            self._connection.close()
            raise BusyError

    def close(self) -> None:
        """Let another process send."""
        self._connection.close()

    def _query(self, sql: str, values: Mapping[str, object]) -> Iterable[tuple[Any, ...]]:
        with explaining(self._name, self._connection):
            return self._connection.execute(to_query(sql), values).fetchall()

    def _write(self, sql: str, rows: Sequence[Mapping[str, int]]) -> None:
        with explaining(self._name, self._connection), self._connection.transaction():
            self._connection.cursor().executemany(to_query(sql), rows)
