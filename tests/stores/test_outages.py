"""Outages of Postgres under load: nothing is lost or doubled, other stores are not affected."""

from __future__ import annotations

import contextlib
import pwd
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from tests.support.left_behind import open_spool
from tests.support.rig import coming_and_going, until
from tests.support.scale import scaled

from callspan import open_store
from callspan.records import encode

from .conftest import PostgresServer, Records, TcpProxy

pytestmark = pytest.mark.postgres
BEFORE_S, OUTAGE_S = 0.3, scaled(1.0, 20.0)
ATTEMPTS_IN_OUTAGE = 16
"""50 ms, doubling, at least half of each: five waits in a second; each reconnects, and the proxy counts both sides."""


class Outcome(NamedTuple):
    """What was logged of the failing store in an outage, and how often it was tried again."""

    warnings: list[str]
    retried: int


Act = Callable[[], object]
Outage = Callable[[str, Act, Act], Outcome]


@pytest.fixture
def outage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Outage:
    """Append records beside readers while a server fails. In the end both stores have each record once."""
    healthy = f"sqlite:///{tmp_path}/healthy.db"

    def through(url: str, begin: Act, end: Act) -> Outcome:
        records, spool = Records(), open_spool(tmp_path / "spool", healthy, url)
        with coming_and_going(tmp_path / "healthy.db"):
            sent = append(spool, records, BEFORE_S)
            while spool.states()[1].delivered <= 10:
                sent += append(spool, records, BEFORE_S)
            begin()
            before = spool.states()[1].retried
            sent += append(spool, records, OUTAGE_S)
            retried = spool.states()[1].retried - before
            until(lambda: {*sent} <= {*stored(healthy)}, 5)  # regardless of the other store
            end()
            sent += append(spool, records, BEFORE_S)
            assert spool.flush(30)
            counts = spool.counters()
            assert (counts["rejected"], counts["damaged"], spool.drops()) == (0, 0, {})
            assert spool.close(10)
            assert sorted(stored(healthy)) == sorted(stored(url)) == sorted(sent)
        logged = [record.getMessage() for record in caplog.records if record.name == "callspan"]
        return Outcome([message for message in logged if "healthy" not in message], retried)

    return through


def append(spool: Any, records: Records, seconds: float) -> list[str]:
    """Append 200 records a second; return their ids."""
    sent: list[str] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        made = records.call([{"role": "user", "content": f"q{len(sent)}"}])
        assert spool.append(encode(made))
        sent.append(made.call_id)
        time.sleep(0.005)
    return sent


def stored(url: str) -> list[str]:
    with contextlib.closing(open_store(url)) as reader:
        found = [call.call_id for call in reader.calls()]
    assert len(found) == len(set(found)), "doubled"
    return found


def was_patient(outcome: Outcome) -> None:
    """It retried only a few times, and logged each reason once and the recovery once."""
    assert outcome.retried <= ATTEMPTS_IN_OUTAGE, "tried too often"
    reasons = [re.sub(r"\d[\d,]* records? waits? .*", "", message) for message in outcome.warnings]
    assert len(reasons) == len(set(reasons)) <= 4, reasons
    assert sum("accepts records again" in message for message in outcome.warnings) == 1


def admin(server: PostgresServer, *statements: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        for statement in statements:
            # Dropping takes locks in a different order.
            for _ in range(5):
                with contextlib.suppress(psycopg.errors.DeadlockDetected):
                    connection.execute(statement.encode())
                    break


DISCONNECT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'callspan'"


@pytest.fixture
def schema(postgres_url: str) -> str:
    return postgres_url.rpartition("%3D")[2]


def test_restart(postgres_server: PostgresServer, postgres_url: str, outage: Outage) -> None:
    restart = postgres_server.restart_at_once
    outage(postgres_url, restart, restart)


@pytest.fixture
def small_disk(postgres_server: PostgresServer, schema: str) -> Iterator[Path]:
    """A disk of 4 MB for the server's tables."""
    disk = postgres_server.directory / "small"
    disk.mkdir()
    options = f"size=4m,mode=700,uid={pwd.getpwnam('nobody').pw_uid}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(disk)], check=False).returncode:
        pytest.skip("cannot mount a small tmpfs here")
    change = "ALTER ROLE callspan {} default_tablespace"
    try:
        admin(postgres_server, f"CREATE TABLESPACE small LOCATION '{disk}'", change.format("SET") + " = small")
        yield disk
    finally:
        drop = (f"DROP SCHEMA {schema} CASCADE", change.format("RESET"), "DROP TABLESPACE small")
        admin(postgres_server, DISCONNECT, *drop)
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_full_disk(small_disk: Path, postgres_url: str, outage: Outage) -> None:
    def begin() -> None:
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def end() -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)

    outcome = outage(postgres_url, begin, end)
    assert any("No space left on device; make room" in message for message in outcome.warnings)
    was_patient(outcome)


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_network_cut(postgres_server: PostgresServer, postgres_url: str, how: str, outage: Outage) -> None:
    proxy = TcpProxy(postgres_server.port)
    url = postgres_url.replace(f":{postgres_server.port}", f":{proxy.port}")
    outcome = outage(url, getattr(proxy, how), proxy.heal)
    proxy.close()
    if how == "cut":
        was_patient(outcome)
        assert proxy.connections <= 2 * ATTEMPTS_IN_OUTAGE
