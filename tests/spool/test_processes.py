"""Many processes: forks, pools, hard exits and kills. Acknowledged records are delivered once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from callspan.spool.spool import ship_once
from callspan.stores.sqlite.reader import SQLiteReader
from callspan.stores.sqlite.store import SQLiteStore
from tests.stores.readers import coming_and_going

from .rig import SqliteSink, python, rows, until

REAL = "real.db"
"""Name of a database that is the real store's, as victims know it."""

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


class Scene:
    """A spool directory, a database and the acknowledgements of any number of victims."""

    def __init__(self, root: Path, database: str = "rows.db") -> None:
        self.place = root / "spool"
        self.database = root / database
        self.acks = root / "acks"
        self.acks.mkdir()
        self._number = 0

    def start(self, mode: str, *, own_sink: bool = True) -> subprocess.Popen[str]:
        self._number += 1
        database = str(self.database) if own_sink else "none"
        victim = str(Path(__file__).with_name("victim.py"))
        prefix = f"{'r' if self.database.name == REAL else 'v'}{self._number}"
        command = python(victim, mode, str(self.place), database, str(self.acks), prefix)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, mode: str, *, own_sink: bool = True, code: int = 0) -> None:
        process = self.start(mode, own_sink=own_sink)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors

    def acknowledged(self) -> list[str]:
        return [line for path in self.acks.iterdir() for line in path.read_text().split("\n")[:-1]]

    def delivered(self) -> list[str]:
        if not self.database.exists():
            return []
        if self.database.name != REAL:
            return rows(self.database)
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return [row[0] for row in connection.execute("SELECT call_id FROM calls")]

    def ship_the_rest(self) -> None:
        def empty() -> bool:
            real = self.database.name == REAL
            ship_once(self.place, [SQLiteStore(self.database) if real else SqliteSink(self.database)], 10)
            return not list(self.place.glob("*.segment"))

        until(empty, 60)

    def assert_all_once(self, at_least: int) -> None:
        acknowledged, delivered = self.acknowledged(), self.delivered()
        assert len(acknowledged) >= at_least
        assert not set(acknowledged) - set(delivered), "acknowledged but lost"
        assert len(delivered) == len(set(delivered)), "delivered twice"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill and let go of the pipes without reading them out: a forked child may hold their other end."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def test_forks_while_other_threads_append_lose_nothing(scene: Scene) -> None:
    scene.run("forks_while_appending")
    scene.ship_the_rest()
    scene.assert_all_once(4 * 300 + 8 * 50)


def test_a_forked_child_ships_for_itself(scene: Scene) -> None:
    scene.run("forked_child_ships")
    scene.assert_all_once(60)


def test_a_normal_exit_ships_what_is_left(scene: Scene) -> None:
    scene.run("exits")
    scene.assert_all_once(100)
    assert not list(scene.place.glob("*.segment"))


def test_an_exit_by_exception_ships_too(scene: Scene) -> None:
    scene.run("raises", code=3)
    scene.assert_all_once(100)


@pytest.mark.parametrize(("mode", "code"), [("exits_hard", 0), ("is_terminated", -signal.SIGTERM)])
@pytest.mark.parametrize("own_sink", [True, False])
def test_records_of_a_killed_process_are_delivered_by_the_next(
    scene: Scene, mode: str, code: int, own_sink: bool
) -> None:
    scene.run(mode, code=code, own_sink=own_sink)
    for _ in range(5):  # the next processes adopt by themselves, each for as long as its exit may take
        scene.run("exits")
        if not list(scene.place.glob("*.segment")):
            break
    scene.assert_all_once(200)


def test_children_of_multiprocessing_ship_although_they_run_no_atexit(scene: Scene) -> None:
    scene.run("runs_processes")
    scene.assert_all_once(155)


def test_terminated_pool_workers_lose_nothing(scene: Scene) -> None:
    scene.run("runs_a_pool")
    scene.ship_the_rest()
    scene.assert_all_once(125)


def test_an_append_inside_an_interrupted_append_neither_hangs_nor_corrupts_data(scene: Scene) -> None:
    scene.run("handles_signals_in_appends")
    scene.ship_the_rest()
    scene.assert_all_once(3000)


def test_sqlite_survives_forks_at_any_moment_of_a_delivery(scene: Scene) -> None:
    scene.run("forks_and_ships_many_times")
    scene.ship_the_rest()
    scene.assert_all_once(25 * 25)


def test_a_hanging_sink_holds_up_forks_and_exits_for_a_bounded_time_only(scene: Scene) -> None:
    begun = time.monotonic()
    scene.run("hangs")
    assert time.monotonic() - begun < 30
    scene.ship_the_rest()
    scene.assert_all_once(10)


def test_records_of_exit_handlers_reach_the_disk(scene: Scene) -> None:
    scene.run("writes_at_exit")
    scene.ship_the_rest()
    scene.assert_all_once(15)


def chaos(scene: Scene, writers: int, shipper_kills: int, seed: int, at_once: int = 4) -> None:
    """Writers and the shipper are killed by SIGKILL at random moments while forked children go on writing."""
    chance = random.Random(seed)
    pending = writers
    alive: list[tuple[subprocess.Popen[str], float]] = []
    kills = 0
    while pending or alive or kills < shipper_kills:
        while pending and len(alive) < at_once:
            victim = scene.start("writes_until_killed", own_sink=pending % 2 == 0)
            assert victim.stdout is not None
            assert victim.stdout.readline() == "running\n"
            alive.append((victim, time.monotonic() + chance.uniform(0.2, 1.5)))
            pending -= 1
        shipper = scene.start("ships")
        assert shipper.stdout is not None
        assert shipper.stdout.readline() == "running\n"
        time.sleep(chance.uniform(0.0, 0.15))
        kill(shipper)
        kills += 1
        for victim, due in list(alive):
            if time.monotonic() >= due:
                kill(victim)
                alive.remove((victim, due))
        if not pending and not alive and kills < shipper_kills:
            pending = 1
    scene.ship_the_rest()


def outcome(scene: Scene) -> str:
    return f"{len(scene.acknowledged()):,} acknowledged, {len(scene.delivered()):,} stored, none missing, none twice"


def test_kills_of_writers_and_shippers_lose_and_double_nothing(scene: Scene) -> None:
    chaos(scene, writers=3, shipper_kills=5, seed=1)
    scene.assert_all_once(200)


def test_many_kills_of_writers_and_shippers_lose_and_double_nothing(scene: Scene) -> None:
    chaos(scene, writers=12, shipper_kills=60, seed=2)
    scene.assert_all_once(5000)
    print(f"| Chaos into a plain table: 12 writers, 60 kills of the shipper | {outcome(scene)} |")


@pytest.mark.timeout(600)
def test_the_real_store_survives_many_kills_of_writers_and_shippers(tmp_path: Path) -> None:
    """Eight writers at once, each with a forked child, at least 50 kills of the shipper, and readers all the time."""
    scene = Scene(tmp_path, REAL)
    with coming_and_going(scene.database):
        chaos(scene, writers=12, shipper_kills=55, seed=3, at_once=8)
    scene.assert_all_once(3000)
    acknowledged = scene.acknowledged()
    print(f"| Chaos into the SQLite store: 12 writers, 8 at once, 55 kills of the shipper | {outcome(scene)} |")
    with contextlib.closing(sqlite3.connect(scene.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM dead_letter").fetchall() == [(0,)]
    reader = SQLiteReader(scene.database)
    for call_id in random.Random(4).sample(acknowledged, 200):
        found = reader.call(call_id)
        assert found is not None
        assert call_id.encode() in bytes(found.request.body)
    reader.close()
