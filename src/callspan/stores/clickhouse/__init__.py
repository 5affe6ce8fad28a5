"""ClickHouse: sink, reader and removal."""

from __future__ import annotations

from typing import Final

from callspan.stores.protocol import DatabaseStore, ServerStore

_ADDRESS: Final = frozenset({"database", "dsn", "host", "interface", "password", "port", "username"})


class ClickHouse(DatabaseStore, ServerStore):
    """Tables in a ClickHouse database. The query of its URL is the driver's."""

    example = "clickhouse://user@host/database"
    sink_type = "callspan.stores.clickhouse.store:ClickHouseStore"
    reader_type = "callspan.stores.clickhouse.reader:ClickHouseReader"
    remover = "callspan.stores.clickhouse.store:remove"
    retainer = "callspan.stores.clickhouse.retention:retain"
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
