"""Stores under test: new ones of each kind, a real Postgres on loopback, and a proxy that can cut its connections."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from tests.support.commands import run
from tests.support.records import SECOND, START_NS, Delivery, Records, event, left, message, raw, reward, step
from tests.support.waiting import HANG_S, until

from callspan.comparison.bill_reports import Billed, Measure, ReportError, read_report
from callspan.cost import pricer_for
from callspan.joining.joints import RULES, Joints, agrees, joints_of, mentions_of
from callspan.joining.partition import run_id
from callspan.joining.prompt_cache import Turn, cache_use
from callspan.joining.request_pieces import PieceReader, Sent
from callspan.joining.rules import runs_of as together
from callspan.process.processors import caller_processors
from callspan.providers import registry
from callspan.records import Cost, Record, Response, Stream, Timing, Usage
from callspan.stores import find_store
from callspan.stores.base import CallIds
from callspan.stores.removal import RetentionTimes
from callspan.stores.tables.scores import Kind, definitions

__all__ = [
    "RULES", "SECOND", "START_NS", "Billed", "CallIds", "Deliver", "Delivery", "Joints", "Kind", "Measure",
    "PieceReader", "PostgresServer", "Records", "ReportError", "RetentionTimes", "Sent", "TcpProxy", "Turn", "agrees",
    "cache_use", "caller_processors", "cells", "clickhouse", "definitions", "event", "joints_of", "left",
    "mentions_of", "message", "new_schema", "on_disk", "pooled", "pricer_for", "raw", "read_report", "recorded",
    "registry", "reward", "run", "run_id", "step", "together",
]  # fmt: skip

_SCHEMAS = count(1)
Deliver = Callable[[str], Delivery]


def cells(store: Delivery, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query of the tables."""
    with closing(find_store(store.url).database()) as database:  # type: ignore[attr-defined]
        return [*database.tuples(sql)]


READABLE: Final = ("sqlite", "postgres", "clickhouse")
"""The kinds of stores that are read. The last is read and inserted into."""


@pytest.fixture(params=["sqlite", *(pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in READABLE[1:])])
def url(request: pytest.FixtureRequest) -> str:
    """A new store of each readable kind; only those that write in transactions where a test is marked so."""
    return str(request.getfixturevalue(f"{request.param}_url"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests that ClickHouse cannot pass: each says why, as the argument of its marker."""
    items[:] = [item for item in items if not (_is_of_clickhouse(item) and item.get_closest_marker("transactional"))]


def _is_of_clickhouse(item: pytest.Item) -> bool:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return "clickhouse" in parameters.values()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path}/calls.db"


@pytest.fixture
def deliver() -> Iterator[Deliver]:
    """Open a store by its URL; closed at the end."""
    with ExitStack() as opened:
        yield lambda url: opened.enter_context(closing(Delivery(url)))


@pytest.fixture
def store(url: str, deliver: Deliver) -> Delivery:
    return deliver(url)


def needs_module(name: str, install: str) -> None:
    """Fail if a module cannot be imported: markers select the tests that need one."""
    if importlib.util.find_spec(name) is None:
        pytest.fail(f"needs {name}: {install}")


@pytest.fixture
def clickhouse_url(tmp_path: Path) -> str:
    """A directory of the embedded engine."""
    needs_module("clickhouse_connect", "pip install 'callspan[clickhouse]'")
    needs_module("chdb", "pip install chdb (about 900 MB)")
    return f"clickhouse+chdb://{tmp_path}/clickhouse"


def client_of(url: str) -> Any:
    from clickhouse_connect.driver import create_client

    return create_client(dsn=url.partition("+")[2])


def clickhouse(url: str) -> Any:
    return closing(client_of(url))


def on_disk(url: str) -> str:
    """All rows of ClickHouse's tables after a merge, also those that are only marked as deleted."""
    with clickhouse(url) as client:
        sql = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
        tables = [name for (name,) in client.query(sql).result_rows]
        for table in tables:
            client.command(f"OPTIMIZE TABLE {table} FINAL")
        return str(
            [client.query(f"SELECT * FROM {table} SETTINGS apply_deleted_mask = 0").result_rows for table in tables]
        )


def recorded(records: Records) -> list[Record]:
    """A session of 100 s with an expensive call, one with cut calls, and a running one known only from its calls."""

    def one(name: str, at_s: float, session_id: str, words: Sequence[str] = ("stop",), **fields: object) -> Record:
        response = Response(id=name, model="m", finish_reasons=[*words])
        return records.call(call_id=name, at_s=at_s, session_id=session_id, response=response, **fields)

    slow = Timing(start_ns=START_NS + 8 * SECOND, duration_ns=8 * SECOND)
    dear = Cost(usd=Decimal("2.5"), source="x")
    return [
        records.session("s-plain", start_ns=START_NS, end_ns=START_NS + 100 * SECOND, outcome="success"),
        records.session("s-cut", start_ns=START_NS + 2 * SECOND, outcome="success"),
        one("whole", 0, "s-plain", cost=Cost(usd=Decimal("0.01"), source="x")),
        one("cut", 2, "s-cut", words=["max_tokens"], usage=Usage(input_tokens=1, output_tokens=20)),
        one("off", 3, "s-cut", stream=Stream(end="cut_off")),
        one("gone", 4, "s-cut", outcome="cancelled", stream=Stream(end="closed")),
        # The second of its choices was cut.
        one("dear", 5, "s-plain", words=["stop", "length"], cost=dear, retries=1,
            timing=Timing(start_ns=START_NS + 5 * SECOND, duration_ns=9 * SECOND)),
        one("tiny", 6, "s-cut", cost=Cost(usd=Decimal("0.000000000123456789"), source="x")),
        one("storm", 8, "s-storm", retries=4, rate_limited=True, usage=Usage(output_tokens=90), timing=slow),
        one("unknown", 9, "s-storm", words=[], usage=None, cost=None, retries=None, outcome="error",
            timing=Timing(start_ns=START_NS + 9 * SECOND)),
    ]  # fmt: skip


class PostgresServer:
    """A Postgres cluster in its own directory, started by `start` and deleted by `remove`."""

    @staticmethod
    def programs() -> Path | None:
        """Return the directory of initdb and pg_ctl, from the PATH or else the newest installed one; None if absent."""
        found = shutil.which("initdb")
        if found is not None and shutil.which("pg_ctl") is not None:
            return Path(found).parent
        places = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
        return max(places, key=lambda place: float(place.parent.name), default=None)

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.directory = Path(tempfile.mkdtemp(prefix="callspan-pg-"))
        # Postgres refuses to run as root.
        self.user = "nobody" if os.geteuid() == 0 else None
        if self.user is not None:
            shutil.chown(self.directory, self.user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run(
            "initdb", "-D", str(self.directory / "data"), "-A", "trust", "-U", "callspan", "--no-sync", "-E", "UTF8"
        )

    @property
    def url(self) -> str:
        return f"postgresql://callspan@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -c fsync=off -p {self.port} -k {self.directory}"
        self._control("-w", "-o", options, "-l", str(self.directory / "log"), "start")

    def restart_at_once(self) -> None:
        """Stop immediately and start again, as after a crash."""
        self._control("-m", "immediate", "-w", "stop")
        self.start()

    def remove(self) -> None:
        self._control("-m", "fast", "-w", "stop")
        shutil.rmtree(self.directory)

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", "data", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        # Output is discarded, because the server would keep a pipe open.
        subprocess.run(
            (str(self._programs / program), *arguments),
            check=True,
            user=self.user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=HANG_S,
            cwd=self.directory,
        )


_POOLER = """
[databases]
{database} = host=127.0.0.1 port={to} user=callspan
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
"""


@contextmanager
def pooled(server: PostgresServer, database: str) -> Iterator[str]:
    """A new database behind PgBouncer in transaction mode, which gives each transaction one of three sessions."""
    import psycopg

    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("needs PgBouncer: pgbouncer on the PATH or in /usr/sbin")
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {database}".encode())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = server.directory / f"{database}.ini"
    settings.write_text(_POOLER.format(database=database, to=server.port, port=port))
    settings.chmod(0o644)
    process = subprocess.Popen(
        (program, str(settings)), user=server.user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: _accepts(port))
        yield f"postgresql://callspan@127.0.0.1:{port}/{database}"
    finally:
        process.terminate()
        process.wait(HANG_S)


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


_RESET = struct.pack("ii", 1, 0)


class TcpProxy:
    """Forwards to a port until it is changed."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._refuses = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection, and each new one at once."""
        self._refuses = True
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def stall(self) -> None:
        """Accept data without forwarding it."""
        self._flows.clear()

    def heal(self) -> None:
        self._refuses = False
        self._flows.set()

    def close(self) -> None:
        self.cut()
        self._flows.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                if self._refuses or not self._connect(near):
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    near.close()

    def _connect(self, near: socket.socket) -> bool:
        """Forward a connection; return False if nobody listens, as while a server restarts."""
        try:
            far = socket.create_connection(("127.0.0.1", self._to))
        except ConnectionRefusedError:
            return False
        with self._lock:
            self._sockets |= {near, far}
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(one, other), daemon=True).start()
        return True

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._flows.wait()
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
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
    """A new schema in the server of this run."""
    return new_schema(postgres_server)


def new_schema(server: PostgresServer) -> str:
    import psycopg

    name = f"t{next(_SCHEMAS)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{server.url}?options=-csearch_path%3D{name}"
