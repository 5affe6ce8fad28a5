"""Writers that fork and are killed, two stores that fail: every acknowledged record is in both stores, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.rig import SqliteSink, deliver_left, rows
from tests.support.scale import scaled

ROUNDS = scaled(2, 12)


def test_killed_writers_lose_nothing(tmp_path: Path) -> None:
    chance = random.Random(1)
    for round_number in range(ROUNDS):
        writers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.spool.processes", "victim", str(tmp_path), str(10 * round_number + each)],
                cwd=Path(__file__).parents[2], start_new_session=True, stderr=subprocess.DEVNULL,
            )
            for each in range(2)
        ]  # fmt: skip
        time.sleep(chance.uniform(1.5, 3))
        for writer in writers:
            os.killpg(writer.pid, signal.SIGKILL)
            writer.wait()
    acknowledged = {line for path in tmp_path.glob("acknowledged-*") for line in path.read_text().splitlines() if line}
    for name in ("a", "b"):
        done = deliver_left(tmp_path / "spool", name, SqliteSink(tmp_path / f"{name}.db"), timeout_s=60)
        assert (done.error, done.damaged, done.rejected) == (None, 0, 0)
        found = rows(tmp_path / f"{name}.db")
        assert len(found) == len(set(found))
        assert acknowledged <= set(found)
        print(name, len(acknowledged), len(found), len(set(found) - acknowledged))
    # A new and empty segment is left for a minute: it may be the one of a process that begins to write.
    left = (tmp_path / "spool").glob("*/*.segment")
    assert [path for path in left if path.stat().st_size] == []
