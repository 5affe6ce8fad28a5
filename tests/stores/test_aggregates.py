"""Aggregates: sums, percentiles and order, as readers return them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from callspan.file_lock import locked
from callspan.records import EventRecord, RewardRecord
from callspan.stores import aggregates

HERE = socket.gethostname()


def reward(value: float | None, number: int, **fields: object) -> RewardRecord:
    return RewardRecord(reward_id=f"r{number}", value=value, time_ns=number, **fields)  # type: ignore[arg-type]


def event(value: float | None, number: int) -> EventRecord:
    return EventRecord(event_id=f"e{number}", event_type="environment", time_ns=number, reward=value)


def reward_of(*items: EventRecord | RewardRecord) -> float | None:
    return aggregates.rewards_of(items).reward


def test_the_reward_of_a_session() -> None:
    assert reward_of() is None
    assert reward_of(event(None, 1)) is None
    assert reward_of(event(1.0, 1), event(-0.5, 2)) == 0.5
    assert reward_of(event(1.0, 1), reward(1.0, 2, event_id="e1"), reward(3.0, 3, event_id="e9")) == 4.0
    assert reward_of(reward(1.0, 1), reward(2.0, 2, objective="style"), reward(4.0, 3, scope="call")) == 1.0
    assert reward_of(event(1.0, 1), reward(0.0, 2, scope="session")) == 0.0
    assert reward_of(reward(9.0, 5, scope="session"), reward(1.0, 2, scope="session")) == 9.0
    assert reward_of(reward(None, 1, scope="session"), event(2.0, 2)) == 2.0


def test_a_process_counts_as_gone_only_if_that_is_certain() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert aggregates.is_gone(HERE, gone.pid)
    assert not aggregates.is_gone(HERE, os.getpid())
    assert not aggregates.is_gone(HERE, os.getppid())
    assert not aggregates.is_gone("another-host", gone.pid)
    assert not aggregates.is_gone(None, gone.pid)
    assert not aggregates.is_gone(HERE, None)
    assert not aggregates.is_gone(HERE, 0)
    assert not aggregates.is_gone(HERE, 2**70)


def test_a_lock_is_held_against_other_processes_and_freed_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom callspan.file_lock import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    waiter = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        waiter.wait(0.3)
    holder.kill()
    assert waiter.wait(20) == 0
    holder.wait()
    for process in (holder, waiter):
        assert process.stdout is not None
        process.stdout.close()
    holder.stdin.close()
    with locked(path):
        assert path.stat().st_mode & 0o777 == 0o600
