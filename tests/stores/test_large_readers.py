"""Commands over a large SQLite file keep to their bars of CPU and memory, the start of the command included."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.machine import slowness
from tests.scale import scaled

from .large_file import make_chats, make_sessions
from .test_long_session import run

CALLS = scaled(200_000, 1_000_000)
"""`make nightly` takes a million, and measures another million, made by `bench/large_store.py`."""
AT = 200_000
"""Number of calls of the lower bars."""
RSS_MB = 300
pytestmark = [pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def large(once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(place: Path) -> None:
        place.mkdir()
        make_sessions(place / "calls.db", CALLS)

    return once_per_run(f"large-file-{CALLS}", make) / "calls.db"


@pytest.mark.parametrize(
    ("arguments", "cpu_s", "million_cpu_s"),
    [
        (("calls",), 1.0, 1.5),
        (("calls", "--offset", "100000"), 1.0, 1.5),
        (("calls", "--failed"), 1.0, 1.5),
        (("calls", "--sort", "cost"), 1.2, 3.0),
        (("calls", "--sort", "duration", "--min-duration", "1s"), 1.2, 3.0),
        (("calls", "--finish", "stop"), 1.2, 3.0),
        (("sessions", "--sort", "duration"), 1.2, 3.0),
        (("sessions", "--min-cost", "0.0001"), 1.2, 3.0),
        (("sessions",), 1.0, 1.5),
        (("stats",), 1.0, 1.5),
        (("stats", "--by", "session"), 1.0, 1.5),
        (("show",), 1.0, 1.5),
        (("show", "--json"), 1.0, 1.5),
        (("calls", "--text", "OOM 19 o"), 1.0, 8.0),
        (("calls", "--text", "grid"), 1.0, 8.0),
        # Here one text in 25 is stored in two parts, and each answer twice.
        (("calls", "--text", "no such text"), 1.2, 8.0),
        (("report", "-o", "-"), 10.0, 30.0),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_over_a_large_file(
    large: Path, arguments: tuple[str, ...], cpu_s: float, million_cpu_s: float
) -> None:
    cost = min(run(large, *arguments) for _ in range(2))
    assert cost.rss_mb < RSS_MB
    assert cost.cpu_s < (cpu_s if CALLS <= AT else million_cpu_s) * slowness()


@pytest.mark.parametrize("arguments", [("calls", "--model", "gpt-5-mini"), ("sessions",)], ids="-".join)
def test_json_of_all_rows_is_not_held(large: Path, arguments: tuple[str, ...]) -> None:
    assert run(large, *arguments, "--json").rss_mb < 120


def test_10000_sessions_are_erased_in_15_seconds(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    make_chats(path, "ann")
    cost = run(path, "delete", "--user", "ann", "--yes")
    assert "10,000 sessions" in " ".join(path.with_name("out").read_text().split())
    with closing(sqlite3.connect(path)) as connection:
        for table in ("sessions", "calls", "content"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert cost.cpu_s < 15 * slowness()
