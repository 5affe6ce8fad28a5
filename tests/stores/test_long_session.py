"""Commands over a session of very many steps hold only a small part of it in memory.

`make nightly` takes 100,000 steps.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.machine import slowness
from tests.scale import scaled

from callspan.records import Place, TimestepRecord

from .conftest import START_NS, Delivery, Records
from .large_file import make_session

STEPS = scaled(10_000, 100_000)
pytestmark = [pytest.mark.timeout(1200)]
MB = 1_000_000
AT = 10_000
"""The bars of memory are for so many steps, at which each command took 20 to 120 MB more when it held all of them."""


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
        (("show", "last", "--offset", str(2 * STEPS - 100)), 15.0, 112, 1_000),
        (("export", "openai", "-o", "-"), 60.0, 140, 500 * STEPS),
        # Its steps say the same again and again, so that it has no more rows than 10,000 steps have.
        (("export", "openai-session", "-o", "-"), 60.0, 140, 30 * min(STEPS, AT)),
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
    assert cost.rss_mb < (rss_mb if STEPS <= AT else 300)
    assert cost.cpu_s < cpu_s * slowness()


def test_pages_of_a_large_file_are_not_held(tmp_path: Path) -> None:
    """A session of 1,000 long answers in 100 steps: mapped pages count as memory of the process."""
    records, chance, delivery = Records(), random.Random(1), Delivery(f"sqlite:///{tmp_path}/calls.db")
    session_id, step_ids = records.new_id(), [records.new_id() for _ in range(100)]
    delivery.write(records.session(session_id, name="long", start_ns=START_NS))
    for number, step_id in enumerate(step_ids):
        delivery.write(TimestepRecord(timestep_id=step_id, session_id=session_id, seen_ns=START_NS, index=number))
        place = Place(session_id=session_id, timestep=number, timestep_id=step_id)
        delivery.write(*(records.call([], chance.randbytes(65_000).hex(), place=place) for _ in range(10)))
    delivery.close()
    assert (tmp_path / "calls.db").stat().st_size > 64 << 20
    assert run(tmp_path / "calls.db", "show", session_id, "--json").rss_mb < 100
