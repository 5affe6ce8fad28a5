"""What an append costs its caller, beside one raw write of the same size in the same run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from callspan.spool.spool import Spool

from .rig import SqliteSink, record

PAYLOAD = record("id", 10_000)
ROUNDS = 4000


def interleaved(
    first: Callable[[], object], second: Callable[[], object], pause_s: float
) -> tuple[list[int], list[int]]:
    """Return the times in ns of both, taken in turns so that a noisy moment meets both."""
    times: tuple[list[int], list[int]] = ([], [])
    for number in range(ROUNDS):
        for function, taken in zip((first, second), times, strict=True):
            begun = time.perf_counter_ns()
            function()
            taken.append(time.perf_counter_ns() - begun)
        if pause_s and number % 4 == 0:
            time.sleep(pause_s)
    return times


def p99(times: list[int]) -> float:
    return statistics.quantiles(times, n=100)[98]


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.parametrize(("shipping", "median_limit", "p99_limit"), [(False, 2.5, 6.0), (True, 4.0, 30.0)])
def test_an_append_costs_little_more_than_a_raw_write(
    tmp_path: Path, shipping: bool, median_limit: float, p99_limit: float
) -> None:
    """The best of five runs must keep the budget; while shipping, threads also take turns at the interpreter."""
    found = []
    for run in range(5):
        raw = os.open(tmp_path / f"raw{run}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        database = tmp_path / f"{run}.db"
        spool = Spool(tmp_path / f"spool{run}", lambda path=database: [SqliteSink(path)] if shipping else [])
        spool.append(PAYLOAD)
        assert spool.flush(10)
        writes, appends = interleaved(
            lambda raw=raw: os.write(raw, PAYLOAD), lambda spool=spool: spool.append(PAYLOAD), 0.002 * shipping
        )
        os.close(raw)
        spool.close(20)
        base = statistics.median(writes)
        found.append((statistics.median(appends) / base, p99(appends) / base))
        print(
            f"raw {base / 1000:.1f} us, p99 {p99(writes) / 1000:.1f}; "
            f"append {statistics.median(appends) / 1000:.1f} us, p99 {p99(appends) / 1000:.1f}: "
            f"{found[-1][0]:.2f} x, {found[-1][1]:.2f} x"
        )
    assert min(median for median, _ in found) <= median_limit
    assert min(tail for _, tail in found) <= p99_limit
