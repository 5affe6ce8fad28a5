"""Sums: by any keys with intervals, in the view of the tables, exact, and unknown where nothing is known."""

from __future__ import annotations

import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from tests.machine import slowness
from tests.scale import scaled

from callspan.comparison.intervals import of_mean, of_means, of_shares, wilson
from callspan.file_lock import locked
from callspan.records import Cost, EventRecord, Record, RewardRecord, Timing, Usage
from callspan.stores import aggregates

from .conftest import SECOND, START_NS, Delivery, Records, run

Made = list[dict[str, Any]]


def made(number: int) -> Made:
    """Sessions as plain values."""
    chance = random.Random(7)
    found = []
    for at in range(number):
        version = chance.choice(["3", "4"])
        calls = [
            {"in": chance.randrange(5, 900), "usd": Decimal(chance.randrange(1, 10**9)) / 10**12}
            for _ in range(chance.randrange(1, 4))
        ]
        found.append({
            "id": f"s{at:05}", "version": version,
            "task": f"t{chance.randrange(40)}" if chance.random() < 0.9 else None,
            "tags": chance.sample(["a", "b", "c"], chance.randrange(3)), "calls": calls,
            "success": chance.choice([True, False, None]),
            "reward": chance.choice([None, round(chance.gauss(1, 2), 3)]),
            "judge": [round(chance.random() + (version == "4") / 10, 2) for _ in range(chance.randrange(3))],
            "lasted": chance.randrange(1, 90) * SECOND,
        })  # fmt: skip
    return found


def records_of(sessions: Made, records: Records) -> list[Record]:
    found: list[Record] = []
    for at, one in enumerate(sessions):
        start = START_NS + at * SECOND
        metadata = {"prompt_version": int(one["version"]), "tags": one["tags"]}
        found.append(
            records.session(
                one["id"], task_id=one["task"], start_ns=start, end_ns=start + one["lasted"], metadata=metadata,
                success=one["success"],
            )
        )  # fmt: skip
        for call in one["calls"]:
            found.append(
                records.call(
                    session_id=one["id"], usage=Usage(input_tokens=call["in"], output_tokens=1), trace_id=None,
                    cost=Cost(usd=call["usd"], source="mine"), timing=Timing(start_ns=start, duration_ns=SECOND),
                )
            )  # fmt: skip
        values = [("judge", value, "event") for value in one["judge"]]
        values += [("reward", one["reward"], "session")] if one["reward"] is not None else []
        found += [
            RewardRecord(
                reward_id=f"{one['id']}-{number}", session_id=one["id"], objective=name, value=value, scope=scope,
                time_ns=start + number,
            )
            for number, (name, value, scope) in enumerate(values)
        ]  # fmt: skip
    return found


def exact_mean(values: list[float]) -> float:
    return float(sum(Fraction(str(value)) for value in values) / len(values))


def check_group(row: dict[str, Any], sessions: Made) -> None:
    from scipy import stats

    known = [one["success"] for one in sessions if one["success"] is not None]
    assert (row["sessions"], row["judged"], row["successes"]) == (len(sessions), len(known), sum(known))
    if known:
        bounds = stats.binomtest(sum(known), len(known)).proportion_ci(method="wilson")
        assert (row["success_low"], row["success_high"]) == pytest.approx((bounds.low, bounds.high), abs=1e-12)
    judged = [exact_mean(one["judge"]) for one in sessions if one["judge"]]
    rewards = [one["reward"] for one in sessions if one["reward"] is not None]
    for name, values in (("judge", judged), ("reward", rewards)):
        if not values:
            assert name not in row["scores"]
            continue
        score = row["scores"][name]
        assert (score["mean"], score["count"]) == (pytest.approx(exact_mean(values), abs=1e-12), len(values))
        if len(values) >= 200:
            half = 1.96 * stdev(values) / len(values) ** 0.5
            assert (score["low"], score["high"]) == pytest.approx(
                (fmean(values) - half, fmean(values) + half), abs=half / 10
            )
    calls = [call for one in sessions for call in one["calls"]]
    assert row["calls"] == {"sum": len(calls), "mean": len(calls) / len(sessions), "count": len(sessions)}
    assert row["input_tokens"]["sum"] == sum(call["in"] for call in calls)
    spent = sum(call["usd"] for call in calls)
    assert Decimal(row["cost_usd"]["sum"]) == spent
    assert Fraction(row["cost_usd"]["mean"]) == pytest.approx(Fraction(spent) / len(sessions), rel=1e-24)
    assert row["duration_ms"]["sum"] == sum(one["lasted"] for one in sessions) / 10**6


def check_all(url: str, sessions: Made) -> None:
    def by(key: Callable[[dict[str, Any]], list[Any]]) -> dict[Any, Made]:
        found: dict[Any, Made] = defaultdict(list)
        for one in sessions:
            for value in key(one) or [None]:
                found[value].append(one)
        return found

    keys: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
        "meta:prompt_version": lambda one: [one["version"]],
        "tag": lambda one: one["tags"],
    }
    for name, key in keys.items():
        expected = by(key)
        rows = json.loads(run(url, "sessions", "--by", name, "--json"))
        assert {row[name] for row in rows} == {*expected}
        for row in rows:
            check_group(row, expected[row[name]])
    both = json.loads(run(url, "sessions", "--by", "task,meta:prompt_version", "--json"))
    for row in both:
        inside = [one for one in sessions if (one["task"], one["version"]) == (row["task"], row["meta:prompt_version"])]
        check_group(row, inside)
    assert sum(row["sessions"] for row in both) == len(sessions)
    check_comparison(url, sessions)


def check_comparison(url: str, sessions: Made) -> None:
    from numpy.random import default_rng
    from scipy import stats

    found = json.loads(run(url, "compare", "meta:prompt_version=3", "=4", "--json"))
    measures = {one["measure"]: one for one in found["measures"]}
    tasks = sorted({one["task"] for one in sessions if one["task"] is not None})

    def means(version: str, value: Callable[[dict[str, Any]], float | None]) -> dict[str, float]:
        of_task = {
            task: [x for s in sessions if (s["task"], s["version"]) == (task, version) and (x := value(s)) is not None]
            for task in tasks
        }
        return {task: exact_mean(values) for task, values in of_task.items() if values}

    values: dict[str, Callable[[dict[str, Any]], float | None]] = {
        "judge": lambda one: exact_mean(one["judge"]) if one["judge"] else None,
        "success": lambda one: None if one["success"] is None else float(one["success"]),
        "calls": lambda one: len(one["calls"]),
    }
    for name, value in values.items():
        a, b = means("3", value), means("4", value)
        common = sorted(a.keys() & b.keys())
        apart = [b[task] - a[task] for task in common]
        shown = measures[name]
        assert shown["paired"]
        assert shown["n"] == [len(common)] * 2
        assert shown["difference"] == pytest.approx(fmean(apart), abs=1e-9)
        own = stats.bootstrap([apart], fmean, vectorized=False, n_resamples=10_000, method="BCa", rng=default_rng(0))
        bounds = own.confidence_interval
        half = (bounds.high - bounds.low) / 15
        assert (shown["low"], shown["high"]) == pytest.approx((bounds.low, bounds.high), abs=half)
    assert Decimal(measures["cost_usd"]["b"]) - Decimal(measures["cost_usd"]["a"]) == Decimal(
        measures["cost_usd"]["difference"]
    )


@pytest.mark.timeout(600)
def test_groups_and_differences_of_many_sessions_equal_an_independent_computation(
    url: str, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    sessions = made(scaled(200, 10_000))
    store = deliver(url)
    written = records_of(sessions, records)
    for start in range(0, len(written), 5000):
        store.write(*written[start : start + 5000])
    store.sink.close()
    check_all(url, sessions)


@pytest.fixture
def few(url: str, records: Records, deliver: Callable[[str], Delivery]) -> str:
    store = deliver(url)
    sessions = made(12)
    for one in sessions:
        one["task"] = None
    store.write(*records_of(sessions, records))
    store.sink.close()
    return url


def test_too_few_sessions_for_an_interval_are_named(few: str) -> None:
    assert "too few to tell" in run(few, "compare", "meta:prompt_version=3", "=4")
    found = json.loads(run(few, "compare", "meta:prompt_version=3", "=4", "--json"))
    assert found["a"]["sessions"] + found["b"]["sessions"] == 12
    calls = next(one for one in found["measures"] if one["measure"] == "calls")
    assert (calls["paired"], sum(calls["n"])) == (False, 12)


def test_intervals() -> None:
    assert wilson(0, 0) is None
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert of_shares((48, 80), (56, 70)) == pytest.approx((0.0524, 0.3339), abs=1e-4)  # Newcombe 1998, method 10
    assert of_shares((1, 4), (5, 9)) is None
    assert of_mean([1.0] * 4) is of_mean([1.0] * 50) is of_mean([1.0, float("inf"), 2, 3, 4, 5]) is None
    first, second = [0.1, 0.5, 0.2, 0.9, 0.4, 0.3], [1.1, 1.5, 1.2, 1.9, 1.4, 1.3]
    found = of_means(first, second)
    assert found is not None
    assert found.low < 1 < found.high
    assert of_means(first, second) == found  # the seed is fixed


@pytest.mark.parametrize("number", [5, 30, 200, 500])
@pytest.mark.parametrize("power", [1, 3], ids=["even", "skewed"])
def test_intervals_of_means_equal_those_of_scipy(number: int, power: int) -> None:
    from numpy import mean
    from numpy.random import default_rng
    from scipy import stats

    chance = random.Random(number)
    first = [chance.random() ** power for _ in range(number)]
    second = [2 * chance.random() for _ in range(number + 2)]

    def bounds(*samples: list[float], statistic: Callable[..., Any]) -> Any:
        rng = default_rng(0)
        return stats.bootstrap(
            samples, statistic, n_resamples=20_000, batch=500, method="BCa", rng=rng
        ).confidence_interval

    one, two = of_mean(first), of_means(first, second)
    assert one is not None
    assert two is not None
    expected = bounds(first, statistic=mean)
    assert one == pytest.approx(tuple(expected), abs=(expected.high - expected.low) / 10)
    apart = bounds(first, second, statistic=lambda a, b, axis: b.mean(axis=axis) - a.mean(axis=axis))
    assert two == pytest.approx(tuple(apart), abs=(apart.high - apart.low) / 10)


def test_a_table_of_intervals_takes_no_time_to_speak_of() -> None:
    chance = random.Random(1)
    columns = [[chance.random() for _ in range(200)] for _ in range(40)]
    began = time.process_time()
    assert all(of_mean(column) for column in columns)
    assert time.process_time() - began < 0.5 * slowness()


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


HOUR_S = 3600


def test_the_view_has_the_sums_by_session_hour_model_and_provider(
    tmp_path: Path, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    store = deliver(f"sqlite:///{tmp_path}/calls.db")
    store.write(
        records.call(session_id="a"),
        records.call(session_id="a", cost=Cost(usd=Decimal("1E-20"), source="mine")),
        records.call(session_id="a", model="gpt-4o", at_s=2 * HOUR_S, outcome="timeout", usage=None, cost=None),
        records.call(session_id=None, outcome="cancelled"),
    )
    sql = """
        SELECT session_id, hour, model, provider, calls, errors, cancelled, in_tok, exact_costs, costs,
               last_ns >= first_ns
          FROM call_sums ORDER BY session_id, hour"""
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        rows = connection.execute(sql).fetchall()
    hour = rows[0][1]
    assert rows == [
        (None, hour, "gpt-5", "openai", 1, 0, 1, 10, 1, 1, 1),
        ("a", hour, "gpt-5", "openai", 2, 0, 0, 20, 1, 2, 1),
        ("a", hour + 2, "gpt-4o", "openai", 1, 1, 0, None, 0, 0, 1),
    ]


def test_a_later_version_of_a_call_counts_once(url: str, records: Records, deliver: Callable[[str], Delivery]) -> None:
    store, call_id = deliver(url), records.new_id()
    store.write(records.call(call_id=call_id, session_id="a", part="started", usage=None, cost=None, outcome="started"))
    store.write(records.call(call_id=call_id, session_id="a"))
    store.write(records.call(call_id=call_id, session_id="b", seen_ns=3, at_s=5 * HOUR_S))
    (found,) = store.read().summary("session")
    assert (found.key, found.calls, found.input_tokens) == ("b", 1, 10)
