"""Stores that fail under load: no record is lost, doubled or wrong unless it is counted, other stores are not affected.

Outages of Postgres, each by itself; and the soak: a service with two workers and two stores under kills, reloads,
locks, outages and the cap of the spool, with commands and readers beside it. The chaos: calls and background responses
as fast as possible, by workers that are repeatedly killed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import psycopg
import pytest
from tests.support import processes
from tests.support.left_behind import losses_of, open_spool
from tests.support.provider import FullProvider
from tests.support.rig import coming_and_going
from tests.support.scale import scaled
from tests.support.waiting import HANG_S, until

from callspan import Settings, open_store
from callspan.records import CallRecord, encode
from callspan.stores import Reader

from .conftest import PostgresServer, Records, TcpProxy
from .soak_worker import FILLING

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
            until(lambda: {*sent} <= {*stored(healthy)})  # regardless of the other store
            end()
            sent += append(spool, records, BEFORE_S)
            assert spool.flush(HANG_S)
            counts = spool.counters()
            assert (counts["rejected"], counts["damaged"], spool.losses.totals("dropped")) == (0, 0, {})
            assert spool.close(HANG_S)
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
        for statement in statements:
            # Dropping takes locks in a different order.
            for _ in range(5):
                with contextlib.suppress(psycopg.errors.DeadlockDetected):
                    connection.execute(statement.encode())
                    break


DISCONNECT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'callspan'"


def test_restart(postgres_server: PostgresServer, postgres_url: str, outage: Outage) -> None:
    restart = postgres_server.restart_at_once
    outage(postgres_url, restart, restart)


@pytest.fixture
def small_disk(postgres_server: PostgresServer, postgres_url: str) -> Iterator[Path]:
    """A disk of 4 MB for the server's tables."""
    disk = postgres_server.directory / "small"
    change = "ALTER ROLE callspan {} default_tablespace"
    with processes.small_disk(disk, f"size=4m,mode=700,uid={pwd.getpwnam('nobody').pw_uid}"):
        try:
            admin(postgres_server, f"CREATE TABLESPACE small LOCATION '{disk}'", change.format("SET") + " = small")
            yield disk
        finally:
            schema = postgres_url.rpartition("%3D")[2]
            drop = (f"DROP SCHEMA {schema} CASCADE", change.format("RESET"), "DROP TABLESPACE small")
            admin(postgres_server, DISCONNECT, *drop)


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


MINUTES: Final = 10
WARM: Final = 0.4
"""Fraction of the time after which memory is measured."""
SLOPE_MIB: Final = 2.5
"""Maximum growth of memory per minute. Caches are still filling, such as that of spans with 4,096 calls."""
ALLOCATOR: Final = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Returns freed memory to the system. Otherwise the slope would be that of glibc's heap per thread."""
CALLS: Final = 5000
IN_FLIGHT: Final = 40
"""Records of a segment that a kill may leave counted as lost for the failing store, although delivered."""
STARTED: Final = ("in_progress", "interrupted", "unknown")
"""Outcomes of a call of which only the start has arrived. It reads as the others once its process has been killed."""
COMMANDS: Final = ("doctor", "delete --older-than 30d --yes", "calls --limit 5", "stats", "sessions --limit 5")


class Noted(NamedTuple):
    """A note of a worker: start and return of a call, Unix nanoseconds."""

    begun_ns: int
    returned_ns: int


class Service:
    """Two workers, their provider and their notes."""

    def __init__(self, mode: str, place: Path, stores: list[str]) -> None:
        self.mode, self.place, self.stores = mode, place, stores
        self.spool, self.notes = place / "spool", place / "notes"
        self.notes.mkdir()
        self.log = (place / "log").open("wb")
        self.provider = FullProvider()
        self.provider.reply(text="Fine.", input_tokens=10, output_tokens=5, repeat=True)
        self.kills = 0
        self.workers = {name: self._start(name) for name in "ab"}

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        script = str(Path(__file__).with_name("soak_worker.py"))
        arguments = [self.mode, ",".join(self.stores), str(self.spool), self.provider.url, str(self.notes), name]
        program = [sys.executable, "-W", "ignore", script, *arguments]
        environment = os.environ | ALLOCATOR
        worker = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=self.log, env=environment)
        until((self.notes / f"{name}-{worker.pid}").exists)
        return worker

    def kill(self, name: str) -> None:
        self.workers[name].kill()
        self.workers[name].wait()
        self.kills += 1
        self.workers[name] = self._start(name)

    def end(self) -> None:
        """End the workers and deliver the records they left."""
        for worker in self.workers.values():
            worker.send_signal(signal.SIGTERM)
        ends, log = [worker.wait(HANG_S) for worker in self.workers.values()], self.place / "log"
        assert ends == [0, 0], log.read_text(errors="replace")[-5000:]
        shipped = self.command("ship")
        assert shipped.returncode == 0, shipped.stdout + shipped.stderr
        self.provider.close()
        self.log.close()

    def command(self, *arguments: str, store: str | None = None) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "callspan.cli", "--store", store or ",".join(self.stores), *arguments]
        environment = os.environ | {"CALLSPAN_SPOOL_DIR": str(self.spool)}
        done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment, timeout=HANG_S)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def losses(self) -> Any:
        return losses_of(",".join(self.stores), Settings(spool_dir=self.spool))

    def noted(self, kind: str) -> dict[str, Noted]:
        """Return the notes of returned calls by key."""
        found: dict[str, Noted] = {}
        for path in self.notes.iterdir():
            for line in path.read_text().split("\n")[:-1]:
                word, key, begun, returned = line.split()
                if word == kind:
                    found[key] = Noted(int(begun), int(returned))
        return found


def wrong(key: str, call: CallRecord) -> bool:
    """Return whether a returned call differs from the provider's answer."""
    usage = call.usage and (call.usage.input_tokens, call.usage.output_tokens)
    unknown = call.api == "chat_completions" and call.request.stream
    return call.outcome != "success" or usage not in ((10, 5), *((None,) if unknown else ()))


def lacks_body(reader: Reader, key: str, call_id: str) -> bool:
    """Return whether a call's complete request is missing without a note."""
    call = reader.call(call_id)
    whole = call is not None and f"{key} {FILLING}".encode() in bytes(call.request.body)
    return not whole and not (call is not None and any(one.why == "size" for one in call.redactions))


class Account(NamedTuple):
    """The result of comparing notes with a store."""

    missing: list[Noted]
    """Calls and sessions; of each, only the start may have arrived."""
    lost: int
    """Number of records counted as lost."""
    first_ns: int
    last_ns: int
    """Time of the first and the last loss."""


def account(service: Service, url: str, losses: Any) -> Account:
    """Compare the notes with one store and its counted losses."""
    calls, sessions = service.noted("call"), service.noted("session")
    with contextlib.closing(open_store(url)) as reader:
        ended = [call for call in reader.calls() if call.outcome not in STARTED]
        found = {str(call.metadata.get("run_id")): call for call in ended}
        assert len(found) == len(ended), "doubled"
        there = sorted(calls.keys() & found.keys())
        assert [key for key in there if wrong(key, found[key])] == []
        sample = random.Random(1).sample(there, min(8, len(there)))
        assert [key for key in sample if lacks_body(reader, key, found[key].call_id)] == []
        over = {one.session.session_id for one in reader.sessions() if one.session.end_ns is not None}
    name = re.sub(r"callspan@|\?.*", "", url)
    lost = [*losses.dropped.values(), *(loss for store, loss in losses.given_up.items() if store == name)]
    return Account(
        [calls[key] for key in calls.keys() - found.keys()] + [sessions[key] for key in sessions.keys() - over],
        sum(one.count for one in lost),
        min((one.first_ns for one in lost), default=0),
        max((one.last_ns for one in lost), default=0),
    )


class Memory:
    """Resident memory of a worker that is never killed."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []

    def sample(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            self._samples.append((time.monotonic() / 60, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    def slope(self, warm: float) -> float:
        """Return MiB per minute after the warm-up: the median slope between samples of its two halves."""
        later = self._samples[int(len(self._samples) * warm) :]
        half = len(later) // 2
        return median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in zip(later[:half], later[half:], strict=False))


class Faults:
    """The faults of the service, by second."""

    def __init__(self, service: Service, proxy: TcpProxy, server: PostgresServer) -> None:
        self.service, self.proxy = service, proxy
        self.memory = Memory()
        self._commands = 0
        self.done: Counter[str] = Counter()
        self._acts: dict[str, tuple[int, int, Act]] = {
            "outage": (60, 15, proxy.cut),
            "healed": (60, 45, self.heal),
            "restart": (120, 100, server.restart_at_once),
            "kill": (40, 30, partial(service.kill, "b")),
            "reload": (50, 12, self.reload),
            "lock": (30, 20, self.lock),
            "command": (20, 8, self.command),
            "reader": (5, 0, self.read),
        }
        """Each with its interval and its second in it."""

    def run(self, seconds: float) -> None:
        began, second = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            second += 1
            for name, (every, at, act) in self._acts.items():
                if second % every == at:
                    act()
                    self.done[name] += 1
            self.memory.sample(self.service.workers["a"].pid)
            time.sleep(max(0.0, began + second - time.monotonic()))
        self.proxy.heal()

    def heal(self) -> None:
        # A busy machine takes longer to reach the cap.
        until(lambda: bool(self.service.losses().given_up))
        self.proxy.heal()

    def reload(self) -> None:
        for worker in self.service.workers.values():
            worker.send_signal(signal.SIGUSR1)

    def lock(self) -> None:
        """Lock the file as another application does."""
        path = self.service.place / "calls.db"
        with contextlib.closing(sqlite3.connect(path, timeout=HANG_S, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(3)
            connection.execute("COMMIT")

    def command(self) -> None:
        stores = [None, *self.service.stores]
        command = COMMANDS[self._commands % len(COMMANDS)].split()
        self.service.command(*command, store=stores[self._commands % len(stores)])
        self._commands += 1

    def read(self) -> None:
        with contextlib.closing(open_store(self.service.stores[0])) as reader:
            next(iter(reader.calls()), None)


@pytest.mark.timeout(60 * (2 * MINUTES + 15))
def test_soak_loses_only_counted_records(postgres_server: PostgresServer, postgres_url: str, tmp_path: Path) -> None:
    """While Postgres is unavailable the spool reaches its cap: only its records go, each counted with its own time."""
    proxy = TcpProxy(postgres_server.port)
    postgres = postgres_url.replace(f":{postgres_server.port}", f":{proxy.port}")
    service = Service("soak", tmp_path, [f"sqlite:///{tmp_path}/calls.db", postgres])
    until(lambda: bool(service.noted("session")))
    faults = Faults(service, proxy, postgres_server)
    faults.run(60 * MINUTES)
    service.end()
    healthy, down = (account(service, url, service.losses()) for url in service.stores)
    slope = faults.memory.slope(WARM)
    print(f"| {MINUTES:g} minutes: {len(service.noted('call')):,} calls, {dict(faults.done)} |")
    print(f"| memory {slope:+.3f} MiB a minute; {len(down.missing):,} missing, {down.lost:,} records counted |")
    assert (healthy.missing, healthy.lost) == ([], 0)
    assert down.missing, "the cap was reached"
    # Steps and events are counted too, but not the last second of a killed process's counts.
    assert len(down.missing) <= down.lost + IN_FLIGHT * service.kills
    for noted in down.missing:
        assert down.first_ns <= noted.returned_ns
        assert noted.begun_ns <= down.last_ns
    assert slope <= SLOPE_MIB
    proxy.close()


@pytest.mark.timeout(1800)
def test_repeatedly_killed_workers_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    url, made, chance = f"sqlite:///{tmp_path}/calls.db", 0, random.Random(5)
    service = Service("chaos", tmp_path, [url])
    while made < CALLS:
        # By calls, because on a busy machine a worker might be killed before it has done anything.
        at_least = made + chance.randint(30, 200)
        until(lambda at_least=at_least: len(service.noted("call")) >= at_least)
        made = len(service.noted("call"))
        service.kill(chance.choice("ab"))
        service.command("calls", "--limit", "5")
        with contextlib.closing(open_store(url)) as reader:
            assert next(iter(reader.calls()), None) is not None
    service.end()
    found = account(service, url, service.losses())
    print(f"| {made} calls, {service.kills} kills |")
    assert (found.missing, found.lost) == ([], 0)
    losses = service.losses()
    assert not any((losses.dropped, losses.given_up, losses.rejected, losses.damaged, losses.unrecorded))
