"""ClickHouse: flat tables that are written, and read by `callspan show`, `callspan import` and SQL of your own."""

# ruff: noqa: S608 - what a deletion returns is for people to run

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import parse_qsl

from callspan.record.events import Record
from callspan.stores.aggregates import as_read
from callspan.stores.base import DeletionScope
from callspan.stores.columns import TABLES
from callspan.stores.protocol import ServerStore, Sink, split_url

if TYPE_CHECKING:
    from callspan.record.call import CallRecord
    from callspan.stores.clickhouse.sink import ClickHouseSink

_ADDRESS: Final = frozenset({"database", "dsn", "host", "interface", "password", "port", "username"})


class ClickHouse(ServerStore):
    """Tables in a ClickHouse database. The query of its URL is the driver's."""

    example = "clickhouse://user@host/database"
    option_names = None
    extra = "clickhouse"
    driver_errors = ("clickhouse_connect.driver.exceptions:ClickHouseError",)

    def __init__(self, url: str) -> None:
        """Raises SettingError where user or password are not escaped, or the address is in the query."""
        super().__init__(url)
        # The driver takes these from the part before the `?`, and raises TypeError if they are given twice.
        if repeated := _ADDRESS.intersection(dict(parse_qsl(split_url(self.url).query))):
            names = ", ".join(sorted(repeated))
            raise self.error(f"{names} cannot be parameters; write clickhouse://user:password@host:port/db")

    def sink(self) -> Sink:
        """Return the sink, not opened. Raises SettingError without its driver."""
        return self._sink()

    def try_out(self) -> str:
        """Look at the tables, and write nothing. Raises StoreError, the driver's errors."""
        with closing(self._sink()) as sink:
            sink.check()
        return "its tables are there; nothing was written"

    def call(self, ident: str) -> CallRecord | None:
        """Return one call by its id, the beginning of it, or another of its ids; None if there is none, or several.

        Raises StoreError, the driver's errors, SettingError without its driver.
        """
        with closing(self._sink()) as sink:
            found = sink.call(ident)
        return None if found is None else as_read(found)

    def records(self) -> Iterator[Record | None]:
        """Yield every record; None for a row that has none. Raises as `call`."""
        with closing(self._sink()) as sink:
            yield from sink.records()

    @staticmethod
    def deletion(scope: DeletionScope) -> list[str]:
        """Return the SQL that deletes the records of a scope."""
        if scope.older_than_ns is not None:
            times = {"calls": "start_ns", "sessions": "coalesce(end_ns, start_ns)", "timesteps": "start_ns"}
            return [
                f"DELETE FROM {table.name} WHERE {times.get(table.name, 'time_ns')} < {scope.older_than_ns}"
                for table in TABLES.values()
            ]
        of_calls = f"call_id IN ({_literals(scope.calls)})"
        of_sessions = f"session_id IN ({_literals(scope.sessions)})"
        found = []
        for table in TABLES.values():
            named = [of_sessions] if scope.sessions else []
            named += [of_calls] if scope.calls and "call_id" in table.names else []
            user = "user_id" if "user_id" in table.names else "JSONExtractString(metadata, 'user_id')"
            named += [f"{user} = {_literals([scope.user])}"] if scope.user else []
            found += [f"DELETE FROM {table.name} WHERE {' OR '.join(named)}"] if named else []
        return found

    def _sink(self) -> ClickHouseSink:
        sink = self.load("callspan.stores.clickhouse.sink:ClickHouseSink")
        return cast("ClickHouseSink", sink(self.url, self.retain_days))


def _literals(ids: Iterable[str]) -> str:
    """Return ids as literals of SQL."""
    escaped = (one.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") for one in sorted(ids))
    return ", ".join(f"'{one}'" for one in escaped)
