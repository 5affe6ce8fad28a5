"""Connection: how to connect to ClickHouse, over HTTP or in this process; its tables and their version; its errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from clickhouse_connect.driver import create_client
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from callspan.record.formats import check_format
from callspan.stores.base import StoreError
from callspan.stores.schema import statements

_CONNECT_S: Final = 10
_ANSWER_S: Final = 60
CODE: Final = re.compile(r"[Cc]ode: (\d+)")
_ERRNO: Final = re.compile(r"(?:\[Errno -?\d+\] |Error\(\d+, ')([A-Z][\w ]+)")
_ADVICE: Final = {
    60: "a table was dropped: restore it from a backup, or create it: python -m callspan.stores.schema clickhouse",
    81: "the database does not exist (dropped?); create it: CREATE DATABASE",
    164: "this user, or the server, is read-only",
    242: "the table is read-only; has the server lost its Keeper?",
    243: "the server's disk is full; make room",
    497: "grant the right to this user",
    516: "user or password is wrong",
}
"""What to do, by the code of an error."""


def connect(url: str) -> Client:
    """Return a client of the server a store's URL names; `clickhouse+chdb:///directory` is the embedded engine.

    Raises clickhouse_connect's exceptions if it cannot be reached.
    """
    dsn = url.partition("+")[2] if url.lower().startswith("clickhouse+") else url
    if dsn.startswith("chdb:"):
        return create_client(dsn=dsn)
    return create_client(
        dsn=dsn,
        autogenerate_session_id=False,
        connect_timeout=_CONNECT_S,
        send_receive_timeout=_ANSWER_S,
    )


def layout(client: Client) -> int:
    """Return the format of the tables; 0 if there are none."""
    if not client.command("EXISTS TABLE callspan_layout"):
        return 0
    return int(str(client.query("SELECT max(version) FROM callspan_layout").result_rows[0][0]))


def make_tables(client: Client, name: str) -> bool:
    """Create the tables, return whether there were none. Safe to repeat after a failure and to run concurrently.

    Raises OtherFormatError for tables of another format.
    """
    found = layout(client)
    if found:
        check_format(name, found)
        return False
    for statement in statements("clickhouse"):
        client.command(statement)
    return True


@contextmanager
def explaining(name: str) -> Iterator[None]:
    """Context manager that replaces known ClickHouse errors by a StoreError that says what to do."""
    try:
        yield
    except ClickHouseError as error:
        found = CODE.search(str(error))
        advice = None if found is None else _ADVICE.get(int(found[1]))
        if advice is None:
            # The driver's message includes a page of text of its HTTP library.
            if why := _ERRNO.search(str(error)):
                raise OperationalError(why[1]) from error
            raise
        raise StoreError(f"{name}: {advice}") from error
