"""Large files and long sessions: commands keep to their bars of CPU and memory, content is stored once."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.large_file import make_chats, make_session, make_sessions
from tests.support.machine import slowness

from callspan.records import CallRecord, Place, Request, Response, TimestepRecord, encode
from callspan.stores import CallFilter

from .conftest import START_NS, Delivery, Records, raw

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
        (("calls", "--failed"), 1.0),
        (("calls", "--sort", "cost"), 1.2),
        (("calls", "--sort", "duration", "--min-duration", "1s"), 1.2),
        (("calls", "--finish", "stop"), 1.2),
        (("sessions", "--sort", "duration"), 1.2),
        (("sessions", "--min-cost", "0.0001"), 1.2),
        (("sessions",), 1.0),
        (("stats",), 2.6),
        (("stats", "--by", "session"), 2.1),
        (("stats", "--by", "day"), 2.6),
        (("show",), 1.0),
        (("show", "--json"), 1.0),
        (("calls", "--text", "OOM 19 o"), 2.5),
        (("calls", "--text", "grid"), 2.5),
        (("calls", "--text", "no such text"), 2.5),
        (("report", "-o", "-"), 20.0),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_over_a_large_file(large: Path, arguments: tuple[str, ...], cpu_s: float) -> None:
    cost = min(run(large, *arguments) for _ in range(2))
    assert cost.rss_mb < RSS_MB
    assert cost.cpu_s < cpu_s * slowness()


@pytest.mark.parametrize("arguments", [("calls", "--model", "gpt-5-mini"), ("sessions",)], ids="-".join)
def test_json_of_all_rows_is_not_held(large: Path, arguments: tuple[str, ...]) -> None:
    assert run(large, *arguments, "--json").rss_mb < 120


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


SYLLABLES = [f"{first}{second}" for first in "bcdfghklmnprstvw" for second in "aeiou"]


def prose(chance: random.Random, size: int) -> str:
    return " ".join("".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(size // 5))[:size]


def session(records: Records) -> Iterator[CallRecord]:
    """Yield 50 calls of an agent: 6 KB of system prompt, 8 KB of tools, about 2.1 KB more in each turn."""
    chance = random.Random(1)
    fields = {f"field_{number}": {"type": "string", "description": prose(chance, 80)} for number in range(60)}
    tools = [{"type": "function", "function": {"name": "tool", "parameters": {"type": "object", "properties": fields}}}]
    history: list[object] = [{"role": "system", "content": prose(chance, 6_000)}]
    for turn in range(50):
        history = [*history, {"role": "user", "content": prose(chance, 300)}]
        request = {"model": "gpt-5", "messages": history, "tools": tools, "temperature": 0.2}
        call = {"id": f"call_{chance.getrandbits(96):024x}", "type": "function",
                "function": {"name": "tool", "arguments": json.dumps({"field_1": prose(chance, 120)})}}  # fmt: skip
        reply = {"role": "assistant", "content": prose(chance, 250), "tool_calls": [call]}
        counts = {"prompt_tokens": 3_000 + turn * 500, "completion_tokens": 120, "total_tokens": 3_120 + turn * 500}
        response = {
            "id": f"chatcmpl-{chance.getrandbits(112):028x}", "object": "chat.completion", "created": turn,
            "model": "gpt-5-2025-08-07", "choices": [{"index": 0, "message": reply, "finish_reason": "tool_calls"}],
            "usage": counts, "service_tier": "default", "system_fingerprint": None,
        }  # fmt: skip
        yield records.call(
            session_id="01990000-0000-7000-8000-aaaaaaaaaaaa", at_s=turn,
            request=Request(model="gpt-5", params={"temperature": 0.2}, body=raw(request)),
            response=Response(id=str(response["id"]), model="gpt-5-2025-08-07", body=raw(response)),
        )  # fmt: skip
        result = {"role": "tool", "tool_call_id": call["id"], "content": prose(chance, 1_500)}
        history = [*history, reply, result]


def test_a_session_of_50_turns_takes_less_than_a_twelfth_of_its_plain_json(tmp_path: Path, records: Records) -> None:
    """The file without its empty tables, against the wire JSON as the spool held it."""
    made = [*session(records)]
    plain_bytes = sum(len(encode(record)) for record in made)
    delivery = Delivery(f"sqlite:///{tmp_path}/calls.db")
    empty_bytes = settled(delivery)
    delivery.write(*made[:25])
    delivery.write(*made[25:])
    stored_bytes = settled(delivery)
    ratio = plain_bytes / stored_bytes
    print(f"| Session of 50 turns: wire JSON as spooled | {plain_bytes:,} bytes |")
    print(f"| the same in SQLite, {empty_bytes:,} bytes of it empty tables | {stored_bytes:,} bytes, 1/{ratio:.1f} |")
    assert stored_bytes - empty_bytes <= plain_bytes / 12
    found = list(delivery.read().calls(CallFilter(newest_first=False)))
    assert [bytes(one.request.body) for one in found] == [bytes(one.request.body) for one in made]
    assert [one.response and bytes(one.response.body) for one in found] == [
        one.response and bytes(one.response.body) for one in made
    ]
    delivery.close()


def settled(delivery: Delivery) -> int:
    """Bytes of the file once its log is folded in."""
    delivery.close()
    path = Path(delivery.url.removeprefix("sqlite:///"))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    delivery.sink.open()
    return path.stat().st_size
