"""Large files and long sessions: commands keep to their bars of CPU and memory, content is stored once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.large_file import make_chats, make_session, make_sessions
from tests.support.machine import slowness

CALLS = 1_000_000
RSS_MB = 300
pytestmark = [pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def large(once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(place: Path) -> None:
        place.mkdir()
        make_sessions(place / "calls.db", CALLS)

    return once_per_run(f"large-file-{CALLS}", make) / "calls.db"


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
import re, sys
from callspan.cli import main
try:
    main()
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
