"""Commands over a large SQLite file keep to their bars of CPU and memory, the start of the command included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .large_file import make_sessions
from .test_long_session import run

CALLS = 200_000
"""`make nightly` measures a million, made by `bench/large_store.py`."""
RSS_MB = 300
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def large(once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(place: Path) -> None:
        place.mkdir()
        make_sessions(place / "calls.db", CALLS)

    return once_per_run("large-file-200000", make) / "calls.db"


@pytest.mark.parametrize(
    ("arguments", "cpu_s"),
    [
        (("calls",), 1.0),
        (("calls", "--offset", "100000"), 1.0),
        (("calls", "--error"), 1.0),
        (("sessions",), 1.0),
        (("stats",), 1.0),
        (("stats", "--by", "session"), 1.0),
        (("show",), 1.0),
        (("show", "--json"), 1.0),
        (("calls", "--text", "OOM 19 o"), 3.0),
        (("calls", "--text", "grid"), 3.0),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_over_a_large_file(large: Path, arguments: tuple[str, ...], cpu_s: float) -> None:
    cost = min(run(large, *arguments) for _ in range(2))
    assert cost.rss_mb < RSS_MB
    assert cost.cpu_s < cpu_s
