"""Fixtures of the store tests: records of every kind, a small agent, and ways to deliver them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.commands import run
from tests.support.records import SECOND, START_NS, Delivery, Records, event, message, raw, reward, step

from callspan import open_store

if TYPE_CHECKING:
    from .servers import PostgresServer

__all__ = [
    "SECOND", "START_NS", "Delivery", "Records", "clickhouse", "event", "left", "message", "raw", "reward", "run",
    "step",
]  # fmt: skip

_SCHEMAS = count(1)


def left(url: str) -> tuple[set[str], set[str]]:
    """The ids of the sessions and calls that are there."""
    with closing(open_store(url)) as reader:
        return {one.session.session_id for one in reader.sessions()}, {one.call_id for one in reader.calls()}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new store of each kind that is read."""
    return f"sqlite:///{tmp_path}/calls.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def deliver(tmp_path: Path) -> Iterator[Callable[[str], Delivery]]:
    """Open a store by its URL; closed at the end."""
    opened: list[Delivery] = []

    def start(url: str) -> Delivery:
        opened.append(Delivery(url))
        return opened[-1]

    yield start
    for delivery in opened:
        delivery.close()


@pytest.fixture
def store(url: str, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(url)


def needs_module(name: str, install: str) -> None:
    """Fail where a module cannot be imported: tests that need one are chosen by their marker."""
    if importlib.util.find_spec(name) is None:
        pytest.fail(f"needs {name}: {install}")


@pytest.fixture
def clickhouse_url(tmp_path: Path) -> str:
    """A directory of the embedded engine."""
    needs_module("clickhouse_connect", "pip install 'callspan[clickhouse]'")
    needs_module("chdb", "pip install chdb (about 900 MB)")
    return f"clickhouse+chdb://{tmp_path}/clickhouse"


def clickhouse(url: str) -> Any:
    """A client of the embedded engine, to be closed."""
    from clickhouse_connect.driver import create_client

    return closing(create_client(dsn=url.partition("+")[2]))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    from .servers import PostgresServer

    needs_module("psycopg", "pip install 'callspan[postgres]'")
    programs = PostgresServer.programs()
    if programs is None:
        pytest.fail("needs Postgres: initdb and pg_ctl on the PATH or in /usr/lib/postgresql")
    server = PostgresServer(programs)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """A schema of its own in the server of this run."""
    import psycopg

    name = f"t{next(_SCHEMAS)}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{postgres_server.url}?options=-csearch_path%3D{name}"
