"""Large stores: commands, pages and every SQL example of the documents keep to their bars of time and memory."""

from __future__ import annotations

import os
import re
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from tests.support.large_file import ORIGINALS, TABLES, agents, copies, make_chats, make_session, make_sessions
from tests.support.scale import scaled, slowness
from tests.view.conftest import Page, Show, show

from .conftest import Deliver, Records, clickhouse

CALLS = 1_000_000
RSS_MB = 300
pytestmark = [pytest.mark.timeout(1800)]
__all__ = ["show"]


@pytest.fixture(scope="module")
def large(once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(place: Path) -> None:
        place.mkdir()
        make_sessions(place / "calls.db", CALLS)

    return once_per_run("large-file", make) / "calls.db"


@pytest.mark.parametrize(
    ("arguments", "cpu_s"),
    [
        (("calls",), 1.0),
        (("calls", "--sort", "cost"), 1.2),
        (("sessions", "--sort", "duration"), 1.2),
        (("stats",), 2.6),
        (("stats", "--by", "session"), 2.1),
        (("show", "--json"), 1.0),
        (("calls", "--text", "no such text"), 2.5),
        (("report", "-o", "-"), 20.0),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_over_a_large_file(large: Path, arguments: tuple[str, ...], cpu_s: float) -> None:
    cost = min(run(large, *arguments) for _ in range(2))
    assert cost.rss_mb < RSS_MB
    assert cost.cpu_s < cpu_s * slowness()


LINES = ("", "user:user-7", "failed", "min-cost:0.0001", "sort:cost", "sort:duration", "sort:tokens")
PAGES_AND_BARS = (
    ("now", {}, 1.0),
    *((page, {"q": line}, 1.5) for page in ("sessions", "calls") for line in LINES),
    ("charts", {"q": ""}, 5.0),
    ("table", {"q": "", "by": "user"}, 5.0),
    ("table", {"q": "", "by": "model"}, 5.0),
    ("scores", {"q": ""}, 5.0),
)
"""Each with the seconds of CPU that it may take with so many calls."""


def read(page: Page, name: str, query: dict[str, Any], at_most_s: float) -> Any:
    """The JSON of a page that takes no more CPU than this."""
    began = time.process_time()
    answer = page.ask(f"/api/{name}?{urlencode(query)}")
    took_s = time.process_time() - began
    print(f"| {name} {query} | {took_s:.2f} s CPU, {len(answer.body):,} bytes |")
    assert answer.status == 200, answer.body
    assert took_s < at_most_s * slowness(), (name, query)
    return answer.json


def test_the_pages_of_a_million_calls(large: Path, show: Show) -> None:
    page = show(f"sqlite:///{large}")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the tests before
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, query, at_most_s in PAGES_AND_BARS:
        following = read(page, name, query, at_most_s).get("next")
        if following is not None:
            read(page, name, {**query, "after": following}, at_most_s)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000


def test_10000_sessions_are_erased_in_15_seconds(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    make_chats(path, "ann")
    cost = run(path, "delete", "--user", "ann", "--yes")
    assert "10,000 sessions" in " ".join(path.with_name("out").read_text().split())
    with closing(sqlite3.connect(path)) as connection:
        for table in ("sessions", "calls", "contents"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert cost.cpu_s < 15 * slowness()


MB = 1_000_000
STEPS = 10_000
"""Of one session. Each command took 20 to 120 MB more when it held all of them."""


class Cost(NamedTuple):
    """What a command took."""

    cpu_s: float
    rss_mb: float


@pytest.fixture(scope="module")
def long(once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A file with one session of so many steps, each with a call and an event."""

    def make(place: Path) -> None:
        place.mkdir()
        make_session(place / "calls.db", STEPS)

    return once_per_run("long-session", make) / "calls.db"


MAIN = """
import re, runpy, sys
try:
    runpy.run_module("callspan.cli", run_name="__main__")
finally:
    # Unlike `ru_maxrss` without the memory of the process that started this one.
    with open(sys.argv[2].removeprefix("sqlite:///") + ".peak", "w") as file:
        file.write(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


def run(path: Path, *arguments: str) -> Cost:
    """Run a command; its output goes to `out` beside the store."""
    command = [sys.executable, "-c", MAIN, "--store", f"sqlite:///{path}", *arguments]
    # Records that wait for other stores would be looked at first.
    alone = {**os.environ, "XDG_STATE_HOME": str(path.parent)}
    # As installed: modules are compiled once, not by each command.
    alone.pop("PYTHONDONTWRITEBYTECODE", None)
    with path.with_name("out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, env=alone)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # 1: nothing was found.
    assert process.returncode == 0 or (process.returncode == 1 and "--text" in arguments)
    cost = Cost(used.ru_utime + used.ru_stime, int(Path(f"{path}.peak").read_text()) * 1024 / MB)
    print(f"| {path.parent.name}: {' '.join(arguments)} | {cost.cpu_s:.1f} s CPU, {cost.rss_mb:.0f} MB |")
    return cost


@pytest.mark.parametrize(
    ("arguments", "cpu_s", "rss_mb", "least_bytes"),
    [
        (("show", "last"), 5.0, 98, 50_000),
        (("export", "openai", "-o", "-"), 60.0, 140, 500 * STEPS),
        # Its steps say the same again and again, so that it has no more rows than 10,000 steps have.
        (("export", "openai-session", "-o", "-"), 60.0, 140, 30 * STEPS),
        (("export", "atif", "-o", "-"), 60.0, 160, 300 * STEPS),
        (("delete", "--older-than", "2030-01-01", "--dry-run"), 5.0, 130, 10),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_holds_little(
    long: Path, arguments: tuple[str, ...], cpu_s: float, rss_mb: float, least_bytes: int
) -> None:
    cost = run(long, *arguments)
    assert long.with_name("out").stat().st_size >= least_bytes
    assert cost.rss_mb < rss_mb
    assert cost.cpu_s < cpu_s * slowness()


ROOT = Path(__file__).parents[2]
SERVER_CALLS = scaled(50_000, 500_000)
LONGEST_S = 1.0
SESSION_ID = "01990000-0000-7000-8000-000000000001"
PARAMETERS = {
    "session_id": SESSION_ID,
    "trace_id": f"{7:032x}",
    "request_id": "req_7",
    "user_id": "user-7",
    "experiment": "experiment-1",
    "conversation_id": "conv_7",
    "response_id": "resp_19",
    "model": "gpt-5-mini",
}
"""What the agents of `large_file` have."""
_BLOCK = re.compile(r"<!-- sql: ([\w ]+) -->\s*```sql\n(.*?)```", re.DOTALL)
_SHELL = re.compile(r'^sqlite3 callspan\.db "(select [^"]+)"', re.MULTILINE)
_SCAN = re.compile(r"(SCAN|MATERIALIZE) (?!\w+ VIRTUAL|up$|e$|earlier$|CONSTANT ROW$|\(subquery)")
"""A virtual table is the JSON list of one row."""
_INDEX_IN_ORDER = re.compile(r"SCAN \w+ USING (COVERING )?INDEX ")
"""Reads the first rows of an index, for a LIMIT or a maximum."""
_TABLE_READ = re.compile(r"Seq Scan on (calls|sessions|events)\b")
"""Contents are few here, of the originals and of the last copy: Postgres may read them all."""


class Example(NamedTuple):
    """One statement of a page."""

    sql: str
    stores: frozenset[str]
    looks_up: bool


def _found() -> Iterator[tuple[str, Example]]:
    """Yield the examples of all pages, each with where it stands."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))):
        text = page.read_text()
        assert text.count("```sql") == len(_BLOCK.findall(text)), f"{page}: say above each block for which store it is"
        statements = [
            (words, sql) for words, block in _BLOCK.findall(text) for sql in block.split(";\n") if sql.strip()
        ]
        for number, (words, sql) in enumerate(statements):
            unique = frozenset(words.split())
            yield f"{page.name}:{number}", Example(sql.strip(), unique, "lookups" in unique)
        for sql in _SHELL.findall(text):
            yield page.name, Example(sql, frozenset({"sqlite"}), looks_up=True)


FOUND = list(_found())


def _of(store: str) -> list[Example]:
    return [example for _, example in FOUND if store in example.stores]


IN_SQLITE = [pytest.param(example, id=name) for name, example in FOUND if "sqlite" in example.stores]


def test_there_are_examples_for_every_store() -> None:
    assert all(len(_of(store)) >= least for store, least in {"sqlite": 8, "postgres": 8, "clickhouse": 10}.items())


@pytest.fixture(scope="module")
def connection(large: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{large}?mode=ro", uri=True)) as connection:
        yield connection


@pytest.mark.parametrize("example", IN_SQLITE)
def test_an_example_on_a_large_file_takes_less_than_a_second(example: Example, connection: sqlite3.Connection) -> None:
    began = time.process_time()
    found = connection.execute(example.sql, PARAMETERS).fetchall()
    took_s = time.process_time() - began
    print(f"| SQLite, {CALLS:,} calls: {_title(example)}, {len(found):,} rows | {took_s:.3f} s CPU |")
    assert found
    assert took_s < LONGEST_S * slowness()
    plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {example.sql}", PARAMETERS)]
    scans = [step for step in plan if _SCAN.match(step) and not _INDEX_IN_ORDER.match(step)]
    assert scans == [] or not example.looks_up, plan


def _title(example: Example) -> str:
    return " ".join(example.sql.split())[:90]


@pytest.mark.postgres
def test_the_examples_on_postgres(postgres_url: str, deliver: Deliver) -> None:
    deliver(postgres_url).write(*agents(Records()))
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url) as connection:
        last = SERVER_CALLS // ORIGINALS - 1
        for table in ("contents", *TABLES):
            names = [column.name for column in connection.execute(f"SELECT * FROM {table} LIMIT 0").description]
            connection.execute(copies(table, names, last if table == "contents" else 1, last))
        connection.execute("ANALYZE")
        for example in _of("postgres"):
            sql = re.sub(r":(\w+)", r"%(\1)s", example.sql)
            times = []
            for _ in range(2):  # others use the machine too
                began = time.perf_counter()
                found = connection.execute(sql, PARAMETERS).fetchall()
                times.append(time.perf_counter() - began)
            plan = "\n".join(str(row[0]) for row in connection.execute(f"EXPLAIN {sql}", PARAMETERS))
            print(f"| Postgres, {SERVER_CALLS:,} calls: {_title(example)}, {len(found):,} rows | {min(times):.3f} s |")
            assert found, sql
            assert min(times) < LONGEST_S * slowness(), sql
            assert not example.looks_up or not _TABLE_READ.search(plan), f"{sql}\n{plan}"


@pytest.mark.clickhouse
def test_the_examples_on_clickhouse(clickhouse_url: str, deliver: Deliver) -> None:
    store = deliver(clickhouse_url)
    store.write(*agents(Records()))
    store.close()
    with clickhouse(clickhouse_url) as client:
        for example in _of("clickhouse"):
            sql = re.sub(r":(\w+)", lambda found: f"'{PARAMETERS[found[1]]}'", example.sql)
            assert client.query(sql).result_rows or "now()" in sql, sql
