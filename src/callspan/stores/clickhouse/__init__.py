"""ClickHouse: the store, which is inserted into, read and deleted from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import parse_qsl

from callspan.record.events import Record
from callspan.stores.base import DeletionScope, on_error
from callspan.stores.protocol import ReadableStore, ServerStore, split_url

if TYPE_CHECKING:
    from callspan.stores.clickhouse.sink import ClickHouseSink
    from callspan.stores.sent import SentVersions

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
        """Yield the record of each row; None for a damaged row.

        Sessions and timesteps have a row per version. Raises StoreError or the driver's errors; SettingError without
        its driver.
        """
        yield from self.load("callspan.stores.clickhouse.rows:every_record")(self.url)

    def sent(self, receiver: str) -> SentVersions:
        """Open the list of records that a receiver has accepted, see `ReadableStore.sent`."""
        database = self.database()
        with on_error(database.close):
            sent = self.load("callspan.stores.clickhouse.sent:ClickHouseSentVersions")
            return cast("SentVersions", sent(database, receiver))

    def remove(
        self, scope: DeletionScope, *, dry_run: bool = False, vacuum: bool = False
    ) -> tuple[Mapping[str, int], str | None]:
        """Delete the records of a scope; the bytes leave the disk when the server merges the parts."""
        del vacuum
        with closing(self.database()) as database:
            return self.load("callspan.stores.clickhouse.removal:remove")(database, scope, dry_run=dry_run), None
