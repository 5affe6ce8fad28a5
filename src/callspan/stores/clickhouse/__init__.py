"""ClickHouse: flat tables for `callspan show`, `callspan import` and your own SQL."""

# ruff: noqa: S608 - people run what a deletion returns

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import parse_qsl

from callspan.record.events import Record
from callspan.stores.base import DeletionScope
from callspan.stores.protocol import ServerStore, split_url
from callspan.stores.query.interrupted import mark_unended
from callspan.stores.tables.facts import TABLES

if TYPE_CHECKING:
    from callspan.record.call import CallRecord
    from callspan.stores.clickhouse.sink import ClickHouseSink

_ADDRESS: Final = frozenset({"database", "dsn", "host", "interface", "password", "port", "username"})


class ClickHouse(ServerStore):
    """Tables in a ClickHouse database. The driver interprets the query of its URL."""

    example = "clickhouse://user@host/database"
    option_names = None
    extra = "clickhouse"
    driver_errors = ("clickhouse_connect.driver.exceptions:ClickHouseError",)

    def __init__(self, url: str) -> None:
        """Raises SettingError if user or password are not escaped or the query contains the address."""
        super().__init__(url)
        # The driver takes these from the address and raises TypeError if they are given twice.
        if repeated := _ADDRESS.intersection(dict(parse_qsl(split_url(self.url).query))):
            names = ", ".join(sorted(repeated))
            raise self.error(f"{names} cannot be parameters; write clickhouse://user:password@host:port/db")

    def sink(self) -> ClickHouseSink:
        """Return the sink, unopened. Raises SettingError without its driver."""
        sink = self.load("callspan.stores.clickhouse.sink:ClickHouseSink")
        return cast("ClickHouseSink", sink(self.url, self.retain_days))

    def try_out(self) -> str:
        """Check the tables without writing. Raises StoreError or the driver's errors."""
        with closing(self.sink()) as sink:
            sink.check()
        return "its tables are there; nothing was written"

    def call(self, ident: str) -> CallRecord | None:
        """Return the call with this id, unique prefix or other id, or None.

        Raises StoreError or the driver's errors; SettingError without its driver.
        """
        with closing(self.sink()) as sink:
            record = sink.call(ident)
        return None if record is None else mark_unended(record)

    def records(self) -> Iterator[Record | None]:
        """Yield the record of each row; None for a damaged row. Raises like `call`."""
        with closing(self.sink()) as sink:
            yield from sink.records()

    def deletion(self, scope: DeletionScope) -> list[str]:
        """Return the SQL statements that delete the records of a scope."""
        if scope.older_than_ns is not None:
            times = {"calls": "start_ns", "sessions": "coalesce(end_ns, start_ns)", "timesteps": "start_ns"}
            return [
                f"DELETE FROM {table.name} WHERE {times.get(table.name, 'time_ns')} < {scope.older_than_ns}"
                for table in TABLES.values()
            ]
        of_calls = f"call_id IN ({_literals(scope.calls)})"
        of_sessions = f"session_id IN ({_literals(scope.sessions)})"
        statements = []
        for table in TABLES.values():
            conditions = [of_sessions] if scope.sessions else []
            conditions += [of_calls] if scope.calls and "call_id" in table.names else []
            user = "user_id" if "user_id" in table.names else "JSONExtractString(metadata, 'user_id')"
            conditions += [f"{user} = {_literals([scope.user])}"] if scope.user else []
            statements += [f"DELETE FROM {table.name} WHERE {' OR '.join(conditions)}"] if conditions else []
        return statements


def _literals(ids: Iterable[str]) -> str:
    """Return ids as SQL literals."""
    escaped = (ident.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") for ident in sorted(ids))
    return ", ".join(f"'{ident}'" for ident in escaped)
