"""What is acknowledged survives: faults are injected into applications, and a row of a table counts each kind.

It prints the table of docs/durability.md. Acknowledged is a call or session that returned to the application. Lost is
what a store lacks and nothing says; doubled is what it has twice; shown is a key or a canary outside of the process.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
import openai
import psycopg
import pytest
from tests.conftest import Instrument
from tests.support.canaries import SETTINGS, everything, leaked, left_of
from tests.support.commands import ask
from tests.support.left_behind import cursors_of, leave_behind, losses_of
from tests.support.processes import ROOT, plain_environment, small_disk
from tests.support.records import keep
from tests.support.scale import scaled
from tests.support.waiting import HANG_MS, HANG_S, until

import callspan
from callspan import import_records, open_store
from callspan.records import encode
from callspan.stores import StoreError
from callspan.testing import ScriptedProvider

from .conftest import PostgresServer, Records, TcpProxy
from .faulty_service import CANARY, KEY, answer

pytestmark = pytest.mark.postgres
HEADER: Final = (
    "| Fault | Injected | Acknowledged | Lost, and said so | Lost | Doubled | Shown |\n" + "| --- " * 7 + "|"
)
_SEED: Final = 20


class Counts(NamedTuple):
    """The row of a fault."""

    injected: int
    acknowledged: int
    said: int = 0
    """Lost records that are counted, so that `doctor` says so."""
    lost: int = 0
    doubled: int = 0
    shown: int | None = None
    """None if nothing searched for it."""


Report = Callable[[str, Counts], None]


@pytest.fixture(scope="module")
def heading() -> list[str]:
    """What stands above the first row."""
    return [HEADER]


@pytest.fixture
def report(heading: list[str], capsys: pytest.CaptureFixture[str]) -> Report:
    """Print the row of a fault, of which nothing may be lost unsaid, doubled or shown."""

    def row(fault: str, counts: Counts) -> None:
        with capsys.disabled():
            cells = ["-" if count is None else f"{count:,}" for count in counts]
            print(*heading, f"| {fault} | {' | '.join(cells)} |", sep="\n", flush=True)
        heading.clear()
        assert (counts.lost, counts.doubled, counts.shown or 0) == (0, 0, 0)
        assert counts.injected
        assert counts.acknowledged

    return row


class Service:
    """Applications that write to the same stores, and what they noted."""

    def __init__(self, place: Path, stores: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self.place, self.stores, self._notes = place, stores, place / "notes"
        self._notes.mkdir()
        self._log = (place / "log").open("wb")
        script = Path(__file__).with_name("faulty_service.py")
        program = [sys.executable, "-W", "ignore", str(script), ",".join(stores), str(self._notes)]
        self._parent = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=ROOT,
            env=plain_environment(**environment or {}),
        )  # fmt: skip

    def start(self) -> int:
        """Start an application, which runs until it is ended; return its process id."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write("\n")
        self._parent.stdin.flush()
        started = int(self._parent.stdout.readline())
        until(lambda: any(one.name.startswith(f"{started}-") for one in self._notes.iterdir()))
        return started

    def close(self, *applications: int) -> None:
        """End these applications as a service manager does, and deliver what waits."""
        for one in applications:
            end(one, signal.SIGTERM)
        self._parent.communicate(timeout=HANG_S)
        self._log.close()
        shipped = ask("--store", ",".join(self.stores), "ship")
        assert shipped.code == 0, shipped.err

    def counts(self, injected: int) -> Counts:
        """Compare the notes with each store."""
        acknowledged = {line for path in self._notes.iterdir() for line in path.read_text().splitlines()}
        lost = doubled = shown = 0
        for url in self.stores:
            with closing(open_store(url)) as reader:
                calls = [*reader.calls()]
                ended = (call for call in calls if call.outcome != "in_progress")
                found = Counter(f"call {call.metadata['run_id']}" for call in ended)
                found.update(f"session {one.session.session_id}" for one in reader.sessions() if one.session.end_ns)
            lost += len(acknowledged - found.keys())
            doubled += sum(found.values()) - len(found)
            shown += sum(is_shown(encode(call)) for call in calls)
        shown += sum(is_shown(path.read_bytes()) for path in self.place.rglob("*") if path.is_file())
        return Counts(injected, len(acknowledged), self._said(), lost, doubled, shown)

    def _said(self) -> int:
        losses = losses_of(",".join(self.stores))
        kinds = (losses.dropped, losses.given_up, losses.rejected, losses.damaged)
        return sum(loss.count for kind in kinds for loss in kind.values())


def is_shown(data: bytes) -> bool:
    return KEY.encode() in data or CANARY.encode() in data


def end(application: int, by: signal.Signals) -> None:
    """End an application, and wait until it is gone."""
    os.kill(application, by)
    until(lambda: not Path(f"/proc/{application}").exists())


def test_killed_processes(tmp_path: Path, sqlite_url: str, report: Report) -> None:
    service, chance, kills = Service(tmp_path, [sqlite_url]), random.Random(_SEED), scaled(6, 40)
    running = [service.start() for _ in range(3)]
    for number in range(kills):
        time.sleep(chance.uniform(0.02, 0.3))
        end(running.pop(0), signal.SIGKILL)
        running.append(service.start())
        if number % 5 == 0:
            read(sqlite_url)
    service.close(*running)
    report("`kill -9` of a process that records", service.counts(kills))


def read(url: str) -> None:
    """Deliver what ended processes left and read, as a command does."""
    with closing(open_store(url, deliver=True)) as reader:
        next(iter(reader.calls()), None)


def test_stopped_processes(tmp_path: Path, sqlite_url: str, report: Report) -> None:
    """At any instruction, also while it holds a lock of the file; others write and read meanwhile."""
    service, chance, stops = Service(tmp_path, [sqlite_url]), random.Random(_SEED), scaled(6, 40)
    running = [service.start() for _ in range(3)]
    until(lambda: Path(sqlite_url.removeprefix("sqlite:///")).exists())
    for number in range(stops):
        stopped = chance.choice(running)
        os.kill(stopped, signal.SIGSTOP)
        if number % 5 == 0:
            read(sqlite_url)
        time.sleep(chance.uniform(0.01, 0.2))
        os.kill(stopped, signal.SIGCONT)
        time.sleep(chance.uniform(0.0, 0.05))
    service.close(*running)
    report("SIGSTOP at any instruction, later SIGCONT", service.counts(stops))


Damage = Callable[[Path, random.Random], None]


def overwrite(path: Path, chance: random.Random, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(chance.randrange(max(1, path.stat().st_size - len(data))))
        file.write(data)


def damage_a_byte(segment: Path, chance: random.Random) -> None:
    overwrite(segment, chance, bytes([chance.randrange(256)]))


def damage_a_block(segment: Path, chance: random.Random) -> None:
    overwrite(segment, chance, bytes(512))


def tear_the_last_line(segment: Path, chance: random.Random) -> None:
    with segment.open("ab") as file:
        file.write(segment.read_bytes()[: chance.randrange(1, 200)])


def damage_the_list(segment: Path, chance: random.Random) -> None:
    listed = segment.with_name("stores")
    listed.write_bytes(chance.choice((b"", b"\0" * 64, listed.read_bytes()[:9])))


def damage_the_cursor(segment: Path, chance: random.Random) -> None:
    for cursor in cursors_of(segment):
        cursor.write_bytes(chance.choice((b"", b"\0" * 20, b"%020d" % 10**12, b"%020d" % 77, b"x" * 20)))


def damage_the_counts(segment: Path, chance: random.Random) -> None:
    segment.with_name("losses").write_bytes(chance.randbytes(chance.randrange(90)))


DAMAGES: Final = (
    damage_a_byte, damage_a_block, tear_the_last_line, damage_the_list, damage_the_cursor, damage_the_counts,
)  # fmt: skip


def test_damaged_spool_files(tmp_path: Path, report: Report) -> None:
    chance, files, each = random.Random(_SEED), scaled(2, 15) * len(DAMAGES), 20
    said = lost = doubled = 0
    for number in range(files):
        store, records = f"sqlite:///{tmp_path}/{number}/calls.db", Records()
        segment = leave_behind(store, *(records.call(at_s=at) for at in range(each)))
        DAMAGES[number % len(DAMAGES)](segment, chance)
        with closing(open_store(store, deliver=True)) as reader:
            found = [call.call_id for call in reader.calls()]
        missing, is_said = each - len(set(found)), bool(losses_of(store).damaged)
        said, lost = (said + missing, lost) if is_said else (said, lost + missing)
        doubled += len(found) - len(set(found))
    report("a damaged file of the spool", Counts(files, each * files, said, lost, doubled))


def zero_pages(file: Path, chance: random.Random) -> None:
    overwrite(file, chance, bytes(4096 * chance.randrange(1, 4)))


def scatter(file: Path, chance: random.Random) -> None:
    for _ in range(20):
        overwrite(file, chance, chance.randbytes(8))


def cut_off(file: Path, chance: random.Random) -> None:
    os.truncate(file, chance.randrange(file.stat().st_size))


def lose_the_header(file: Path, chance: random.Random) -> None:
    with file.open("r+b") as opened:
        opened.write(chance.randbytes(100))


STORE_DAMAGES: Final = (zero_pages, scatter, cut_off, lose_the_header)


def test_damaged_stores(tmp_path: Path, report: Report) -> None:
    """Records wait meanwhile. The file is moved away, its rows are rescued, and what waits follows."""
    chance, files, each = random.Random(_SEED), scaled(1, 10) * len(STORE_DAMAGES), 40
    said = lost = doubled = 0
    for number in range(files):
        file, records = tmp_path / f"{number}" / "calls.db", Records()
        store = keep(f"sqlite:///{file}", *(records.call(at_s=at) for at in range(each)))
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        STORE_DAMAGES[number % len(STORE_DAMAGES)](file, chance)
        waiting = [records.call(at_s=each + at) for at in range(10)]
        leave_behind(store, *waiting)
        is_said = rescued(file)
        with closing(open_store(store, deliver=True)) as reader:
            found = [call.call_id for call in reader.calls()]
        assert {call.call_id for call in waiting} <= {*found}
        missing = each + len(waiting) - len(set(found))
        said, lost = (said + missing, lost) if is_said else (said, lost + missing)
        doubled += len(found) - len(set(found))
    report("a damaged SQLite file", Counts(files, (each + 10) * files, said, lost, doubled))


def rescued(file: Path) -> bool:
    """Move a damaged file away and load what can be read of it; return whether that said that rows are missing."""
    broken = file.with_name("broken.db")
    file.rename(broken)
    try:
        done = import_records(broken, file, damaged=True)
    except StoreError:
        return True
    return bool(done.cut_off or done.unreadable)


def test_full_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    """A disk with the store and its spool, which is made larger in the end."""
    disks, totals = scaled(1, 2), Counts(0, 0, shown=0)
    for number in range(disks):
        place = tmp_path / f"{number}"
        (temporary := place / "temporary").mkdir(parents=True)
        monkeypatch.setenv("TMPDIR", str(temporary))
        with small_disk(place / "disk", "size=2m") as disk:
            service = Service(place, [f"sqlite:///{disk}/calls.db"], {"TMPDIR": str(temporary)})
            running = [service.start() for _ in range(2)]
            until(lambda waiting=temporary: any(waiting.rglob("*.segment")))
            time.sleep(1)
            subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
            service.close(*running)
            totals = Counts(*map(sum, zip(totals, service.counts(1), strict=True)))
    report("a full disk below store and spool", totals)


def test_faults_of_postgres(postgres_server: PostgresServer, postgres_url: str, tmp_path: Path, report: Report) -> None:
    """Beside a healthy store."""
    proxy, chance = TcpProxy(postgres_server.port), random.Random(_SEED)
    url = postgres_url.replace(f":{postgres_server.port}", f":{proxy.port}")
    schema = postgres_url.rpartition("%3D")[2]

    def cut() -> None:
        proxy.cut()
        time.sleep(chance.uniform(0.05, 0.5))
        proxy.heal()

    def stall() -> None:
        proxy.stall()
        time.sleep(chance.uniform(0.05, 0.5))
        proxy.heal()

    def lock() -> None:
        with psycopg.connect(postgres_server.url) as connection:
            connection.execute(f"LOCK TABLE {schema}.calls IN ACCESS EXCLUSIVE MODE".encode())
            time.sleep(chance.uniform(0.05, 0.5))

    def disconnect() -> None:
        with psycopg.connect(postgres_server.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'callspan'"
            )

    service = Service(tmp_path, [f"sqlite:///{tmp_path}/calls.db", url])
    running = [service.start() for _ in range(2)]
    with closing(open_store_once_made(url)):
        pass
    faults = {"stopped at once": (postgres_server.restart_at_once, scaled(1, 2)), "locked": (lock, scaled(2, 5))}
    faults |= {
        "disconnected": (disconnect, scaled(2, 5)),
        "cut": (cut, scaled(1, 4)),
        "stalled": (stall, scaled(1, 2)),
    }
    acts = [act for act, times in faults.values() for _ in range(times)]
    chance.shuffle(acts)
    for act in acts:
        act()
        time.sleep(chance.uniform(0.2, 0.6))
    service.close(*running)
    named = ", ".join(f"{times} times {name}" for name, (_, times) in faults.items())
    report(f"Postgres: {named}", service.counts(len(acts)))
    proxy.close()


def open_store_once_made(url: str) -> Any:
    """Return a reader as soon as a store's tables are there."""
    made: list[Any] = []

    def is_there() -> bool:
        with suppress(StoreError):
            made.append(open_store(url))
        return bool(made)

    until(is_there)
    return made[0]


def test_cancelled_sessions(sqlite_url: str, instrumented: Instrument, report: Report) -> None:
    handle, chance = instrumented(stores=sqlite_url), random.Random(_SEED)
    sessions, calls = set[str](), set[str]()

    async def slowly(request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(chance.uniform(0, 0.01))
        return answer(request)

    async def episode(client: openai.AsyncOpenAI, key: str) -> None:
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        with callspan.session("s", session_id=key):
            sessions.add(key)
            for number in range(3):
                with callspan.timestep(), callspan.metadata(run_id=f"{key}-{number}"):
                    calls.add(f"{key}-{number}")
                    given = await client.chat.completions.create(**asked, stream=number == 1)
                    if number == 1:
                        async for _ in given:
                            await asyncio.sleep(0)

    async def main(count: int) -> None:
        transport = httpx2.MockTransport(slowly)
        async with openai.AsyncOpenAI(
            api_key=KEY, base_url="http://localhost/v1", http_client=httpx2.AsyncClient(transport=transport)
        ) as client:
            for start in range(0, count, 50):
                tasks = [asyncio.ensure_future(episode(client, f"s{start + each}")) for each in range(50)]
                for task in tasks:
                    await asyncio.sleep(chance.uniform(0, 0.002))
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main(scaled(100, 500)))
    gc.collect()  # a stream that was left open ends when it is collected
    assert handle.force_flush(HANG_MS)
    with closing(open_store(sqlite_url)) as reader:
        found = Counter(f"call {call.metadata['run_id']}" for call in reader.calls() if call.outcome != "in_progress")
        found.update(f"session {one.session.session_id}" for one in reader.sessions() if one.session.end_ns)
    begun = {f"call {key}" for key in calls} | {f"session {key}" for key in sessions}
    lost, doubled = len(begun - found.keys()), sum(found.values()) - len(found)
    report("cancelled sessions", Counts(len(sessions), len(begun), 0, lost, doubled))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("level", ["metadata", "off"])
def test_canaries(
    level: str, tmp_path: Path, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture, report: Report
) -> None:
    settings, kept = SETTINGS[level]
    program, channels = everything(tmp_path, provider, caplog, **settings)
    with closing(open_store(tmp_path / "a.db")) as reader:
        recorded = len([*reader.calls()]) + len([*reader.sessions()])
    shown = len(left_of(program, channels, kept)) + len(leaked(channels))
    report(f'canaries at `content="{level}"`', Counts(len(program.used), recorded, shown=shown))
