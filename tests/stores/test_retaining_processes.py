"""Retention of real processes: what a broken store still lacks stays in the others, whichever process holds it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.machine import slowness

from callspan.delivery.retaining import _reduced
from callspan.spool.segment import Segment
from callspan.stores import StoreError
from callspan.stores.base import Keep
from callspan.stores.protocol import Retainable
from callspan.stores.urls import find_store, open_store

from .conftest import SECOND, START_NS, Delivery, Records
from .large_file import make_sessions

DAY = 86_400 * SECOND

PROCESS = """
import os, signal, sys
import callspan, openai
from callspan.delivery import retaining
from callspan.testing import ScriptedProvider
retaining._IDLE_S = 0.5
name = sys.argv[1]
with ScriptedProvider() as provider:
    provider.reply(text="All is well.", repeat=True)
    callspan.instrument()
    client = openai.OpenAI(base_url=provider.openai_url, api_key="x")
    with callspan.session(session_id=name):
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": name}])
    print("recorded", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""
ABOUT_A_SECOND = "0.00001"


def sessions_in(url: str) -> set[str]:
    try:
        with closing(open_store(url)) as reader:
            return {one.session.session_id for one in reader.sessions()}
    except StoreError:
        return set()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.timeout(300)
def test_what_a_broken_store_lacks_stays_until_it_has_it(tmp_path: Path) -> None:
    """After a kill, while another process has taken the segment, and after a restart."""
    good, broken, spool = f"sqlite:///{tmp_path}/calls.db", tmp_path / "calls.jsonl", tmp_path / "spool"
    broken.mkdir()
    environment = {
        **os.environ,
        "CALLSPAN_STORES": f"{good},jsonl:///{broken}",
        "CALLSPAN_SPOOL_DIR": str(spool),
        "CALLSPAN_RETAIN_DAYS": ABOUT_A_SECOND,
    }

    with ExitStack() as ended:

        def start(name: str) -> subprocess.Popen[str]:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            made = subprocess.Popen([sys.executable, "-c", PROCESS, name], env=environment, text=True, **pipes)
            ended.enter_context(made)
            ended.callback(made.kill)
            assert made.stdout is not None
            assert made.stdout.readline() == "recorded\n"
            until(lambda: name in sessions_in(good))
            return made

        def passes() -> None:
            for _ in range(3):
                before = (tmp_path / "calls.db.retained").stat().st_mtime_ns
                until(lambda before=before: (tmp_path / "calls.db.retained").stat().st_mtime_ns > before)

        first = start("first")
        until((tmp_path / "calls.db.retained").exists)
        passes()
        assert sessions_in(good) == {"first"}
        first.communicate("\n")
        taken = [Segment.adopt(path) for path in spool.glob("*.segment")]
        assert all(taken)
        assert taken
        start("second")
        passes()
        assert sessions_in(good) == {"first", "second"}
        for segment in taken:
            assert segment is not None
            segment.release()
        passes()
        assert sessions_in(good) == {"first", "second"}
        broken.rmdir()
        until(lambda: not sessions_in(good))
        assert sessions_in(f"jsonl:///{broken}") == {"first", "second"}


@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_no_step_in_postgres_takes_longer_than_a_slice(
    postgres_url: str, deliver: Callable[[str], Delivery], records: Records
) -> None:
    """Of CPU, the server's included, over 24,000 calls with contents of their own: half go, while others come."""
    store = deliver(postgres_url)
    store.write(records.call([{"role": "user", "content": "a question"}], session_id="s", call_id="template"))
    store.write(records.session("s", start_ns=START_NS, end_ns=START_NS))
    grow(postgres_url, 24_000)
    counts, took = Counter[str](), list[float]()
    found = find_store(postgres_url)
    assert isinstance(found, Retainable)
    until_ns = START_NS + 1000 * DAY
    steps = found.retention(Keep(until_ns, until_ns, START_NS + 10 * DAY), counts)
    while True:
        before_s = cpu_s(postgres_url)
        if next(steps, steps) is steps:
            break
        took.append(cpu_s(postgres_url) - before_s)
        if len(took) % 20 == 0:
            store.write(records.call([{"role": "user", "content": f"{len(took)}"}], at_s=50 * 86_400))
    assert (counts["calls"], counts["contents"]) == (12_001, 12_000)
    assert max(took[1:]) < 0.05 * slowness(), "the first one connects"
    calls = list(store.read().calls())
    assert len(calls) == 12_000 + len(took) // 20
    assert all(call.response is not None and call.response.body for call in calls)


def cpu_s(url: str) -> float:
    """CPU time of this thread, and of the server's processes that work for callspan."""
    with pytest.importorskip("psycopg").connect(url) as connection:
        found = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'callspan'").fetchall()
    served = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for (pid,) in found)
    return time.thread_time() + served / 1e9


def grow(url: str, calls: int) -> None:
    """Repeat the call `template`, each with an answer of its own; every second one is old."""
    day = f"CASE WHEN n % 2 = 0 THEN 0 ELSE {50 * DAY} END"
    with pytest.importorskip("psycopg").connect(url) as connection:
        names = [row[0] for row in connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'calls'"
            " AND table_schema = current_schema()")]  # fmt: skip
        changed = {
            "call_id": "'c' || n", "session_id": "NULL", "start_ns": f"start_ns + {day}", "end_ns": "NULL",
            "output": "sha256(('c' || n)::bytea)",
        }  # fmt: skip
        values = ", ".join(changed.get(name, name) for name in names)
        numbers = f"generate_series(1, {calls}) n"
        connection.execute(
            "INSERT INTO content (hash, role, size, text) SELECT sha256(('c' || n)::bytea), 'assistant', 2000,"
            f" repeat(md5(n::text), 60) FROM {numbers}"
        )
        connection.execute(
            f"INSERT INTO calls ({', '.join(names)}) SELECT {values} FROM calls, {numbers} WHERE call_id = 'template'"
        )


@pytest.fixture
def in_engine(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """CPU time that this thread spends in the embedded engine, which is a server elsewhere."""
    chdb, found = pytest.importorskip("chdb.state.sqlitelike"), [0.0]
    query = chdb.Connection.query

    def timed(*arguments: object, **named: object) -> object:
        began_s = time.thread_time()
        try:
            return query(*arguments, **named)
        finally:
            found[0] += time.thread_time() - began_s

    monkeypatch.setattr(chdb.Connection, "query", timed)
    return found


@pytest.mark.clickhouse
@pytest.mark.timeout(300)
@pytest.mark.parametrize("takes", ["records", "contents"])
def test_no_step_in_clickhouse_takes_longer_than_a_slice(
    clickhouse_url: str, deliver: Callable[[str], Delivery], records: Records, takes: str, in_engine: list[float]
) -> None:
    """Of our thread's CPU, over 20,000 calls, of which a tenth is old; it also waits for the server."""
    from callspan.stores.clickhouse.connection import connect

    store = deliver(clickhouse_url)
    store.write(records.call([{"role": "user", "content": "a question"}], call_id="template"))
    changed = {
        "call_id": "concat('c', toString(number))",
        "output": "lower(hex(SHA256(concat('c', toString(number)))))",
    }
    changed["start_ns"] = f"start_ns + if(number % 10 = 0, 0, {50 * DAY})"
    client = connect(clickhouse_url)
    names = [row[0] for row in client.query("DESCRIBE calls").result_rows if row[0] != "version"]
    client.command(
        f"INSERT INTO content SELECT {changed['output']}, 'assistant', 9, NULL, toString(number), 1 FROM numbers(20000)"
    )
    client.command(
        f"INSERT INTO calls ({', '.join(names)}) SELECT {', '.join(changed.get(name, name) for name in names)}"
        " FROM calls CROSS JOIN numbers(20000) AS n WHERE call_id = 'template'"
    )
    found = find_store(clickhouse_url)
    assert isinstance(found, Retainable)
    until_ns, before_ns = START_NS + 1000 * DAY, START_NS + 10 * DAY
    keep = Keep(until_ns, until_ns, before_ns)
    if takes == "contents":
        keep = Keep(until_ns, until_ns, content_before_ns=before_ns, reduced=_reduced)
    counts, took = Counter[str](), list[float]()
    steps = found.retention(keep, counts)
    while True:
        before_s = time.thread_time() - in_engine[0]
        if next(steps, steps) is steps:
            break
        took.append(time.thread_time() - in_engine[0] - before_s)
    assert counts["calls" if takes == "records" else "reduced"] == 2001
    assert counts["contents"] == 2001
    assert max(took[1:]) < 0.05 * slowness(), "the first one connects"


@pytest.mark.parametrize("by_bytes", [False, True])
def test_no_step_in_sqlite_takes_longer_than_a_slice_and_no_more_goes_than_has_to(
    tmp_path: Path, by_bytes: bool
) -> None:
    """Of CPU, over 20,000 calls in sessions of 50, each with a step and an event."""
    path = tmp_path / "calls.db"
    make_sessions(path, 20_000)
    until_ns = START_NS + 1000 * DAY
    keep = Keep(until_ns, until_ns, None if by_bytes else START_NS + 2_000 * SECOND)
    if by_bytes:
        keep = keep._replace(most_bytes=int(path.stat().st_size * 0.9))
    counts, took = Counter[str](), list[float]()
    found = find_store(f"sqlite:///{path}")
    assert isinstance(found, Retainable)
    steps = found.retention(keep, counts)
    while True:
        before_s = time.thread_time()
        if next(steps, steps) is steps:
            break
        took.append(time.thread_time() - before_s)
    assert 1_900 <= counts["calls"] <= 4_000
    assert max(took[:-1]) < 0.05 * slowness(), "the last one empties the WAL"
