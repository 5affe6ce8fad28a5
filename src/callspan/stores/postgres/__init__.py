"""Postgres: sink, reader and removal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import cast

from callspan.spool.sink import Sink
from callspan.stores.base import DeletionResult, DeletionScope, Keep, Reader
from callspan.stores.protocol import ServerStore


class Postgres(ServerStore):
    """Tables in a Postgres database. The query of its URL is libpq's."""

    example = "postgresql://user@host/database"
    options_type = None
    extra = "postgres"
    driver_errors = ("psycopg:Error",)
    reduces = True

    def __init__(self, url: str) -> None:
        """Raises SettingError where user or password are not escaped."""
        super().__init__(url)
        before, at, after = self.url.rpartition("@")
        scheme, _, user = before.partition("://")
        if at and "@" in user and not set(user) & set("/?#"):
            # libpq ends the password at the first `@`, and would print the rest as the host name.
            self.url = f"{scheme}://{user.replace('@', '%40')}@{after}"

    def _default_port(self) -> int:
        return 5432

    def _default_database(self) -> str:
        return self.user

    def sink(self) -> Sink:
        """Return the sink, not connected. Raises SettingError without psycopg."""
        return cast("Sink", self.load("callspan.stores.postgres.store:PostgresStore")(self.url))

    def reader(self, wait_s: float | None = None) -> Reader:
        """Connect. Raises SettingError without psycopg, StoreError, psycopg.Error."""
        return cast("Reader", self.load("callspan.stores.postgres.store:PostgresReader")(self.url, wait_s))

    def remove(self, scope: DeletionScope) -> DeletionResult:
        """Delete the records of a scope in one transaction. Raises StoreError, psycopg.Error."""
        return cast("DeletionResult", self.load("callspan.stores.postgres.store:remove")(self.url, scope))

    def retention(self, keep: Keep, counts: Counter[str]) -> Iterator[None]:
        """Delete what is old or too much, in short transactions. Raises StoreError, psycopg.Error."""
        return cast("Iterator[None]", self.load("callspan.stores.postgres.retention:retain")(self.url, keep, counts))
