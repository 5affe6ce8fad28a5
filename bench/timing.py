"""Interleaved rounds: each round runs every row, in rotating order, so that a slow moment affects all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from columns import Column
from rows import Row


@dataclass
class Measured:
    """The rounds of one column: row -> one value per round, in CPU nanoseconds of the calling thread per unit."""

    name: str
    unit: str
    agent: bool
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def cost(self, row: str) -> float:
        """Return the cost of a unit in a row: the median of all rounds."""
        return statistics.median(self.rounds[row])

    def added(self, row: str, over: str) -> float:
        """Return what a row adds to another in the same round. The session API has no baseline."""
        if self.agent:
            return self.cost(row)
        return statistics.median(a - b for a, b in zip(self.rounds[row], self.rounds[over], strict=True))


def measure(column: Column, rows: Sequence[Row], seconds: float, least: int = 5) -> Measured:
    """Run rounds for about `seconds`, at least `least` of them."""
    measured = Measured(column.name, column.unit, column.agent, {row.name: [] for row in rows})
    deadline = time.monotonic() + seconds
    number = 0
    while number < least or time.monotonic() < deadline:
        turn = number % len(rows)
        for row in (*rows[turn:], *rows[:turn]):
            measured.rounds[row.name].append(_block(column, row))
        number += 1
    return measured


def _block(column: Column, row: Row) -> float:
    """Return the median of a block's runs, because a few disturbed ones would dominate a mean."""
    with row.around() as wrap:
        column.run(column.warm, wrap, time.thread_time_ns)
        gc.collect()
        spent = column.run(column.runs, wrap, time.thread_time_ns)
    return statistics.median(spent) / column.per
