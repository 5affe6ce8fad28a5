"""ClickHouse: the store, which is inserted into and read."""

# ruff: noqa: S608 - people run what a deletion returns

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import parse_qsl

from callspan.record.events import Record
from callspan.stores.base import DeletionScope
from callspan.stores.protocol import ReadableStore, ServerStore, split_url
from callspan.stores.tables.facts import CALLS, TABLES, Table

if TYPE_CHECKING:
    from callspan.stores.clickhouse.sink import ClickHouseSink

_ADDRESS: Final = frozenset({"database", "dsn", "host", "interface", "password", "port", "username"})


class ClickHouse(ReadableStore, ServerStore):
    """Tables in a ClickHouse database. The driver interprets the query of its URL."""

    example = "clickhouse://user@host/database"
    option_names = None
    database_type = "callspan.stores.clickhouse.database:ClickHouseDatabase"
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
        self.database().close()
        return "its tables are there; nothing was written"

    def records(self) -> Iterator[Record | None]:
        """Yield the record of each row, also in tables of an earlier format; None for a damaged row.

        Sessions and timesteps have a row per version. Raises StoreError or the driver's errors; SettingError without
        its driver.
        """
        yield from self.load("callspan.stores.clickhouse.rows:every_record")(self.url)

    def deletion(self, scope: DeletionScope) -> list[str]:
        """Return the SQL statements that delete the records of a scope, contents first."""
        if scope.older_than_ns is not None:
            times = {"calls": "start_ns", "sessions": "coalesce(end_ns, start_ns)", "timesteps": "start_ns"}
            conditions = {
                table: f"{times.get(table.name, 'time_ns')} < {scope.older_than_ns}" for table in TABLES.values()
            }
        else:
            conditions = {table: condition for table in TABLES.values() if (condition := _condition(table, scope))}
        return [
            *(_of_contents(conditions[CALLS]) if CALLS in conditions else ()),
            *(f"DELETE FROM {table.kind}_versions WHERE {condition}" for table, condition in conditions.items()),
        ]


def _condition(table: Table, scope: DeletionScope) -> str:
    """Return the condition on the rows of a scope; empty if it has none in this table."""
    conditions = [f"session_id IN ({_literals(scope.sessions)})"] if scope.sessions else []
    if scope.calls and "call_id" in table.names:
        conditions.append(f"call_id IN ({_literals(scope.calls)})")
    if scope.user:
        user = "user_id" if "user_id" in table.names else "JSONExtractString(metadata, 'user_id')"
        conditions.append(f"{user} = {_literals([scope.user])}")
    return " OR ".join(conditions)


def _of_contents(of_calls: str) -> Iterator[str]:
    """Yield the statements that delete what only these calls refer to, and their references."""
    calls = f"SELECT call_id FROM call_versions WHERE {of_calls}"
    owners = f"SELECT owner FROM call_contents WHERE call_id IN ({calls})"
    kept = f"""SELECT owner, arrayJoin(arrayConcat([request, output], contents.2)) FROM call_contents
  WHERE owner IN ({owners}) AND call_id NOT IN ({calls})"""
    yield f"DELETE FROM content_versions WHERE owner IN ({owners}) AND (owner, n) NOT IN ({kept})"
    yield f"DELETE FROM call_contents WHERE call_id IN ({calls})"


def _literals(ids: Iterable[str]) -> str:
    """Return ids as SQL literals."""
    escaped = (ident.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") for ident in sorted(ids))
    return ", ".join(f"'{ident}'" for ident in escaped)
