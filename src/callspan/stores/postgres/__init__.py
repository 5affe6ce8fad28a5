"""Postgres: the store and its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from callspan.record.events import Record
from callspan.stores.protocol import ServerStore, SqlStore
from callspan.stores.tables.call_rows import every_record


class Postgres(SqlStore, ServerStore):
    """Tables in a Postgres database. libpq interprets the query of its URL."""

    example = "postgresql://user@host/database"
    database_type = "callspan.stores.postgres.database:PostgresDatabase"
    option_names = None
    extra = "postgres"
    driver_errors = ("psycopg:Error",)

    def __init__(self, url: str) -> None:
        """Raises SettingError if user or password are not escaped."""
        super().__init__(url)
        scheme, _, address = self.url.partition("://")
        user, at, host = address.rpartition("@")
        if "@" in user and not set(user) & set("/?#"):
            # libpq ends the password at the first `@` and would show the rest as the host name.
            user = user.replace("@", "%40")
        # SQLAlchemy's `postgresql+psycopg` names a driver, which libpq does not know.
        self.url = f"{scheme.partition('+')[0]}://{user}{at}{host}"

    def records(self) -> Iterator[Record | None]:
        """Yield the record of each row; None for a damaged row.

        Raises StoreError or the driver's errors; SettingError without its driver.
        """
        with closing(self.database()) as database:
            yield from every_record(database)
