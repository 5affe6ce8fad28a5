"""Large stores: commands, pages and every SQL example of the documents keep to their bars of time and memory."""

from __future__ import annotations

import os
import re
import resource
import sqlite3
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec
import pytest
from msgspec.structs import replace
from tests.support.large_stores import (
    ORIGINALS,
    TABLES,
    agents,
    copies,
    make_chats,
    make_session,
    make_sessions,
    make_short_sessions,
    scored,
)
from tests.support.records import SECOND, Records, keep
from tests.support.scale import scaled, slowness
from tests.view.conftest import Page, Show, show

from callspan import open_store
from callspan.stores import CallFilter, Reader

from .conftest import PostgresServer, clickhouse, new_schema

CALLS = 1_000_000
RSS_MB = 300
pytestmark = [pytest.mark.timeout(1800)]
__all__ = ["show"]


@pytest.fixture(scope="module")
def large(once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    return once_per_run("large-file", lambda place: make_sessions(place / "calls.db", CALLS)) / "calls.db"


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
    assert answer.status == 200, answer.body
    assert took_s < at_most_s * slowness(), (name, query)
    return answer.json


def test_page_times_with_a_million_calls(large: Path, show: Show) -> None:
    page = show(f"sqlite:///{large}")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the tests before
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, query, at_most_s in PAGES_AND_BARS:
        following = read(page, name, query, at_most_s).get("next")
        if following is not None:
            read(page, name, {**query, "after": following}, at_most_s)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000


def test_first_sessions_of_a_million_calls(large: Path) -> None:
    """A page that the newest calls have is found among these; the one behind 600 sessions among all."""
    with closing(open_store(f"sqlite:///{large}")) as reader:
        oldest = [*reader.listed_session_ids(replace(PAGE, limit=None, newest_first=False))]
        (since_ns,) = (summary.session.start_ns for summary in reader.sessions(CallFilter(ids=(oldest[-40],))))
        for selection, bar_s in (
            (PAGE, 0.05), (replace(PAGE, offset=50), 0.05), (replace(PAGE, offset=600), 0.5),
            (replace(PAGE, since_ns=since_ns), 0.05), (replace(PAGE, since_ns=since_ns, sort="cost_usd"), 0.05),
            (replace(PAGE, since_ns=since_ns, errors=True), 0.05),
        ):  # fmt: skip
            began = time.process_time()
            page = [*reader.listed_session_ids(selection)]
            assert time.process_time() - began < bar_s * slowness(), selection
            newest = oldest[: -1 - selection.offset - 50 : -1][selection.offset :]
            assert page and (page == newest or selection.since_ns), selection
            assert {*page} <= {*newest}, selection


def test_erasing_10000_sessions_takes_15_seconds(tmp_path: Path) -> None:
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
    return once_per_run("long-session", lambda place: make_session(place / "calls.db", STEPS)) / "calls.db"


@pytest.fixture(scope="module")
def many(once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A file of 25,000 sessions of 4 calls, in two experiments that have 1,250 tasks in common."""
    return once_per_run("many-sessions", lambda place: make_short_sessions(place / "calls.db", 25_000)) / "calls.db"


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
    assert process.returncode == 0 or (process.returncode == 1 and {"--text", "--min-score"} & {*arguments})
    return Cost(used.ru_utime + used.ru_stime, int(Path(f"{path}.peak").read_text()) * 1024 / MB)


@pytest.mark.parametrize(
    ("file", "arguments", "cpu_s", "rss_mb", "least_bytes"),
    [
        ("large", "calls", 1.0, RSS_MB, 10),
        ("large", "calls --sort cost", 1.2, RSS_MB, 10),
        ("large", "sessions --sort duration", 1.2, RSS_MB, 10),
        ("large", "stats", 2.6, RSS_MB, 10),
        ("large", "stats --by session", 2.1, RSS_MB, 10),
        ("large", "show --json", 1.0, RSS_MB, 10),
        ("large", "calls --text nowhere", 2.5, RSS_MB, 0),
        # With a score or reward of each of the million: at most 1.5 times the same without, and 100 MB.
        ("large", "calls --objective judge --min-score 0.5", 1.5, 100, 10),
        ("large", "calls --objective judge --min-score 2", 1.2, 100, 0),
        ("large", "calls --min-score 1000000", 1.2, 100, 0),
        ("large", "calls --min-reward 0.5", 1.5, 100, 10),
        ("large", "calls --sort score", 1.5, 100, 10),
        ("large", "calls --objective judge --sort score", 1.8, 100, 10),
        ("large", "sessions --objective judge --sort score", 1.8, 100, 10),
        ("large", "sessions --objective judge --min-score 0.5", 1.5, 100, 10),
        ("large", "sessions --objective judge --min-score 2", 1.2, 100, 0),
        ("large", "sessions --min-score 0.5", 1.5, 100, 10),
        ("large", "sessions --min-score 1000000", 1.2, 100, 0),
        # A summary of each session took 4.2 s and 106 MB, ten times that with ten times the sessions.
        ("many", "compare experiment-0 experiment-1", 2.5, 75, 10),
        ("many", "sessions --by experiment,name", 2.5, 75, 10),
        ("large", "report -o -", 15.0, RSS_MB, 10),
        ("long", "show last", 5.0, 98, 50_000),
        ("long", "export openai -o -", 60.0, 140, 500 * STEPS),
        # Its steps say the same again and again, so that it has no more rows than 10,000 steps have.
        ("long", "export openai-session -o -", 60.0, 140, 30 * STEPS),
        ("long", "export atif -o -", 60.0, 160, 300 * STEPS),
        ("long", "delete --older-than 2030-01-01 --dry-run", 5.0, 130, 10),
    ],
)
def test_command_times_on_a_large_store(
    file: str, arguments: str, cpu_s: float, rss_mb: float, least_bytes: int, request: pytest.FixtureRequest
) -> None:
    """Over a file of a million calls, or one with a long session."""
    path = request.getfixturevalue(file)
    cost = min(run(path, *arguments.split()) for _ in range(1 if file == "long" else 2))
    assert path.with_name("out").stat().st_size >= least_bytes
    assert cost.rss_mb < rss_mb
    assert cost.cpu_s < cpu_s * slowness()


ROOT = Path(__file__).parents[2]
SERVER_CALLS = scaled(50_000, 1_000_000)
LOOKUP_S, SUM_S = 1.0, 2.0
"""The limits of an example that looks something up, and of one over a million values."""
SESSION_ID = "01990000-0000-7000-8000-000000000001"
CALL_ID = "01990000-0000-7000-8000-00000000000b"
PARAMETERS = {
    "session_id": SESSION_ID,
    "trace_id": f"{7:032x}",
    "request_id": "req_7",
    "user_id": "user-7",
    "experiment": "experiment-1",
    "conversation_id": "conv_7",
    "response_id": "resp_19",
    "model": "gpt-5-mini",
    "call_id": CALL_ID,
}
"""What the agents have."""
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

    @property
    def limit_s(self) -> float:
        return LOOKUP_S if self.looks_up else SUM_S


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


def test_every_store_has_examples() -> None:
    assert all(len(_of(store)) >= least for store, least in {"sqlite": 8, "postgres": 8, "clickhouse": 10}.items())


SIZES = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sizes import CALLS, stored_bytes
directory, numbers = Path(sys.argv[2]), map(int, sys.argv[3:])
print(json.dumps([stored_bytes(directory / f"{number}.db", CALLS, number) / CALLS / 1000 for number in numbers]))
"""


def test_calls_are_as_large_as_documented(tmp_path: Path) -> None:
    """By how many share a session, as `bench/sizes.py` measures them."""
    root = Path(__file__).parents[2]
    page = (root / "docs/stores.md").read_text()
    numbers, documented = (
        re.findall(r"none|[\d.]+", re.findall(rf"^\| {words} \|(.*)$", page, re.MULTILINE)[0])
        for words in ("Calls that share a session", "KB a call in SQLite")
    )
    command = [sys.executable, "-c", SIZES, str(root / "bench"), str(tmp_path)]
    counted = ["0" if number == "none" else number for number in numbers]
    printed = subprocess.run([*command, *counted], check=True, capture_output=True).stdout
    assert msgspec.json.decode(printed) == pytest.approx([float(size) for size in documented], rel=0.1)


@pytest.fixture(scope="module")
def connection(large: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{large}?mode=ro", uri=True)) as connection:
        yield connection


@pytest.mark.parametrize("example", IN_SQLITE)
def test_example_on_a_large_file_is_answered_in_time(example: Example, connection: sqlite3.Connection) -> None:
    began = time.process_time()
    found = connection.execute(example.sql, PARAMETERS).fetchall()
    took_s = time.process_time() - began
    assert found
    assert took_s < example.limit_s * slowness()
    plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {example.sql}", PARAMETERS)]
    scans = [step for step in plan if _SCAN.match(step) and not _INDEX_IN_ORDER.match(step)]
    assert scans == [] or not example.looks_up, plan


@pytest.fixture(scope="module")
def large_server(postgres_server: PostgresServer) -> str:
    """A schema with so many calls."""
    import psycopg

    url = new_schema(postgres_server)
    with psycopg.connect(keep(url, *agents(Records())), autocommit=True) as connection:
        last = SERVER_CALLS // ORIGINALS - 1
        for table in ("contents", *TABLES):
            every = [column.name for column in connection.execute(f"SELECT * FROM {table} LIMIT 0").description]
            names = [name for name in every if (table, name) != ("calls", "model")]  # computed by the database
            connection.execute(copies(table, names, last if table == "contents" else 1, last))
        for statement in scored("postgres"):
            connection.execute(statement)
        connection.execute("VACUUM ANALYZE")
    return url


@pytest.mark.postgres
def test_examples_on_postgres(large_server: str) -> None:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(large_server) as connection:
        for example in _of("postgres"):
            sql = re.sub(r":(\w+)", r"%(\1)s", example.sql)
            times = []
            for _ in range(2):  # others use the machine too
                began = time.perf_counter()
                found = connection.execute(sql, PARAMETERS).fetchall()
                times.append(time.perf_counter() - began)
            plan = "\n".join(str(row[0]) for row in connection.execute(f"EXPLAIN {sql}", PARAMETERS))
            assert found, sql
            assert min(times) < example.limit_s * slowness(), sql
            assert not example.looks_up or not _TABLE_READ.search(plan), f"{sql}\n{plan}"


PAGE: Final = CallFilter(limit=50, content="none")
JUDGED: Final = replace(PAGE, objectives=("judge",))
NONE, HIGH, HIGHEST = 10**15, 2.0, 1e6
"""More tokens than any call, a score above every one of the judge, and one above every reward."""
ABOVE: Final = [
    replace(JUDGED, min_score=HIGH), replace(PAGE, min_score=HIGHEST), replace(PAGE, min_reward=HIGHEST),
]  # fmt: skip
MATCHING: Final = [replace(JUDGED, min_score=0.5), replace(PAGE, min_score=0.5), replace(PAGE, min_reward=0.5)]
SORTED: Final = [
    replace(one, sort="score", newest_first=newest_first) for one in (JUDGED, PAGE) for newest_first in (True, False)
]
BESIDE: Final[list[tuple[str, CallFilter, list[CallFilter]]]] = [
    ("calls", PAGE, MATCHING),
    ("calls", replace(PAGE, min_tokens=NONE), ABOVE),
    ("calls", replace(PAGE, sort="cost_usd"), SORTED),
    # The newest sessions are found by an index; those with a score are not, as little as the longest ones.
    ("sessions", replace(PAGE, sort="duration_ns"), MATCHING),
    ("sessions", replace(PAGE, min_tokens=NONE), ABOVE),
    ("sessions", replace(PAGE, sort="duration_ns"), SORTED),
    ("ids", replace(PAGE, min_tokens=NONE), ABOVE),
    ("count_calls", replace(PAGE, min_tokens=NONE), ABOVE),
    ("count_sessions", replace(PAGE, min_tokens=NONE), ABOVE),
]
"""What the reader answers without scores, and with them."""


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_scores_take_at_most_half_as_long_again(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{request.getfixturevalue('large')}"
    else:
        # Other processes would not be measured.
        url = f"{request.getfixturevalue('large_server')}%20-cmax_parallel_workers_per_gather%3D0"
    with closing(open_store(url)) as reader:
        used_s = _cpu_of(reader)

        def took_s(method: str, selection: CallFilter) -> float:
            times = []
            for _ in range(2):
                began = used_s()
                answer = getattr(reader, method)(selection)
                if not isinstance(answer, int):
                    deque(answer, maxlen=0)
                times.append(used_s() - began)
            return min(times)

        for method, without, with_scores in BESIDE:
            limit_s = 1.5 * took_s(method, without) + 0.03  # the few queries of a page that is found at once
            took = {selection: took_s(method, selection) for selection in with_scores}
            assert max(took.values()) < limit_s, (method, limit_s, took)


def _cpu_of(reader: Reader) -> Callable[[], float]:
    """Return the clock of this process and of the server's process that answers it, in seconds of CPU."""
    if reader.name.startswith("sqlite"):
        return time.process_time
    ((pid,),) = reader._database.tuples("SELECT pg_backend_pid()")
    of_server = Path(f"/proc/{pid}/schedstat")
    return lambda: time.process_time() + int(of_server.read_text().split()[0]) / SECOND


@pytest.mark.clickhouse
def test_examples_on_clickhouse(clickhouse_url: str) -> None:
    with clickhouse(keep(clickhouse_url, *agents(Records()))) as client:
        for example in _of("clickhouse"):
            sql = re.sub(r":(\w+)", lambda found: f"'{PARAMETERS[found[1]]}'", example.sql)
            assert client.query(sql).result_rows or "now()" in sql, sql
