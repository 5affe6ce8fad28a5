"""Connection: how to connect to ClickHouse, over HTTP or in this process; its tables and their version."""

# ruff: noqa: S608 - only our own numbers are put into SQL

from __future__ import annotations

from typing import Final

from clickhouse_connect.driver import create_client
from clickhouse_connect.driver.client import Client

from callspan.stores.base import StoreError
from callspan.stores.columns import LAYOUT
from callspan.stores.schema import statements

_CONNECT_S: Final = 10
_ANSWER_S: Final = 60


def connect(url: str) -> Client:
    """Return a client of the server a store's URL names; `clickhouse+chdb:///directory` is the embedded engine.

    Raises clickhouse_connect's exceptions if it cannot be reached.
    """
    dsn = url.partition("+")[2] if url.lower().startswith("clickhouse+") else url
    if dsn.startswith("chdb:"):
        return create_client(dsn=dsn)
    return create_client(
        dsn=dsn, autogenerate_session_id=False, connect_timeout=_CONNECT_S, send_receive_timeout=_ANSWER_S
    )


def layout(client: Client) -> int:
    """Return the layout version of the tables; 0 if there are none."""
    if not client.command("EXISTS TABLE callspan_layout"):
        return 0
    return int(str(client.query("SELECT max(version) FROM callspan_layout").result_rows[0][0]))


def make_tables(client: Client, name: str) -> None:
    """Create or migrate the tables. Safe to repeat after a failure and to run concurrently.

    Raises StoreError for tables of a newer callspan.
    """
    found = layout(client)
    if found > LAYOUT:
        raise StoreError(f"{name}: layout {found} of a newer callspan, this one knows {LAYOUT}; upgrade")
    for later in range(found + 1, LAYOUT + 1):
        for statement in statements("clickhouse", later):
            client.command(statement)
        client.command(f"INSERT INTO callspan_layout VALUES ({later})")
