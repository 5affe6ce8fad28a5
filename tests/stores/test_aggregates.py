"""Aggregates: sums, percentiles and order, as readers return them."""

from __future__ import annotations

import os
import random
import socket
import statistics
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.file_lock import locked
from callspan.records import EventRecord, MessageRecord, RewardRecord
from callspan.stores import aggregates

HERE = socket.gethostname()


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=60))
def test_percentiles_agree_with_the_standard_library(values: list[int]) -> None:
    ordered = sorted(values)
    cuts = statistics.quantiles(ordered, n=20, method="inclusive")
    assert aggregates.percentile_ms(ordered, 0.5) == pytest.approx(statistics.median(ordered) / 1e6)
    assert aggregates.percentile_ms(ordered, 0.95) == pytest.approx(cuts[18] / 1e6)


def test_a_percentile_of_no_values_is_unknown_and_of_one_value_is_that_value() -> None:
    assert aggregates.percentile_ms([], 0.5) is None
    assert aggregates.percentile_ms([3_000_000], 0.95) == 3


@given(st.lists(st.decimals(-(10**15), 10**15, places=15), max_size=40))
def test_sums_of_money_are_exact(values: list[Decimal]) -> None:
    found = aggregates.exact_sum(values)
    assert (None if found is None else Fraction(found)) == (sum(map(Fraction, values)) if values else None)


def test_sums_with_more_than_28_digits_are_not_rounded() -> None:
    found = aggregates.exact_sum([Decimal(10**18), Decimal("0.000000000000000000000000123")])
    assert found is not None
    assert format(found, "f") == "1000000000000000000.000000000000000000000000123"


def test_missing_is_not_zero() -> None:
    assert aggregates.known_sum([None, None]) is None
    assert aggregates.known_sum([None, 0]) == 0
    assert aggregates.exact_sum([None]) is None
    assert aggregates.exact_sum([Decimal(0), None]) == 0


@pytest.mark.parametrize(
    ("outcome", "error"),
    [("success", False), ("started", False), ("error", True), ("timeout", True), ("cancelled", False), (None, False)],
)
def test_what_counts_as_an_error(outcome: str | None, error: bool) -> None:
    assert aggregates.is_error(outcome) is error


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


def test_events_of_the_same_time_are_in_the_order_of_writing() -> None:
    """Whatever their ids and kinds are: the sequence number decides."""
    records = [
        MessageRecord(message_id="z", message_type="x", time_ns=2, sequence=1),
        EventRecord(event_id="y", event_type="x", time_ns=2, sequence=2),
        EventRecord(event_id="b", event_type="x", time_ns=2, sequence=3),
        MessageRecord(message_id="a", message_type="x", time_ns=2, sequence=10),
    ]
    mixed = [records[at] for at in (3, 1, 0, 2)]
    assert sorted(mixed, key=aggregates.event_order) == records


def test_events_have_one_order() -> None:
    message = MessageRecord(message_id="m", message_type="x", time_ns=2, sequence=1)
    ordered = [event(None, 1), EventRecord(event_id="b", event_type="x", time_ns=2), message, reward(1.0, 3)]
    for seed in range(5):
        mixed = list(ordered)
        random.Random(seed).shuffle(mixed)
        assert sorted(mixed, key=aggregates.event_order) == ordered


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
