"""ClickHouse: sink, reader and removal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, cast

from callspan.spool.sink import Sink
from callspan.stores.base import DeletionResult, DeletionScope, Keep, Reader
from callspan.stores.protocol import ServerStore

_ADDRESS: Final = frozenset({"database", "dsn", "host", "interface", "password", "port", "username"})


class ClickHouse(ServerStore):
    """Tables in a ClickHouse database. The query of its URL is the driver's."""

    example = "clickhouse://user@host/database"
    options_type = None
    extra = "clickhouse"
    driver_errors = ("clickhouse_connect.driver.exceptions:ClickHouseError",)
    reduces = True

    def __init__(self, url: str) -> None:
        """Raises SettingError where user or password are not escaped, or the address is in the query."""
        super().__init__(url)
        # The driver takes these from the part before the `?`, and raises TypeError if they are given twice.
        if repeated := _ADDRESS.intersection(self._query):
            names = ", ".join(sorted(repeated))
            raise self.error(f"{names} cannot be parameters; write clickhouse://user:password@host:port/db")

    def _default_port(self) -> int:
        is_secure = self.url.startswith("clickhouse+https:") or self._query.get("secure", "").lower() == "true"
        return 8443 if is_secure else 8123

    def _default_database(self) -> str:
        return "default"

    def sink(self) -> Sink:
        """Return the sink, not connected. Raises SettingError without clickhouse_connect."""
        return cast("Sink", self.load("callspan.stores.clickhouse.store:ClickHouseStore")(self.url))

    def reader(self, wait_s: float | None = None) -> Reader:
        """Connect. Raises SettingError without clickhouse_connect, StoreError, ClickHouseError."""
        return cast("Reader", self.load("callspan.stores.clickhouse.reader:ClickHouseReader")(self.url, wait_s))

    def remove(self, scope: DeletionScope) -> DeletionResult:
        """Delete the records of a scope; safe to repeat. Raises StoreError, ClickHouseError."""
        return cast("DeletionResult", self.load("callspan.stores.clickhouse.store:remove")(self.url, scope))

    def retention(self, keep: Keep, counts: Counter[str]) -> Iterator[None]:
        """Delete what is old or too much, many sessions at once. Raises StoreError, ClickHouseError."""
        return cast("Iterator[None]", self.load("callspan.stores.clickhouse.retention:retain")(self.url, keep, counts))
