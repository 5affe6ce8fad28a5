"""Counts instructions and allocations of every row of a column, which other load does not affect."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from columns import Column
from rows import Row
from timing import Measured
from valgrind import Counter


def count(column: Column, rows: Sequence[Row], counter: Counter) -> tuple[Measured, Measured]:
    """Return instructions per unit and allocations per unit, each row being its own only round."""
    instructions = Measured(column.name, column.unit, column.agent)
    allocations = Measured(column.name, column.unit, column.agent)
    runs = column.counted or max(1, column.runs // 3)
    for row in rows:
        with row.around() as wrap:
            column.run(column.warm, wrap, _no_clock)
            gc.collect()
            counted = counter.count(lambda wrap=wrap: column.run(runs, wrap, _no_clock))  # type: ignore[misc]
        instructions.rounds[row.name] = [counted.instructions / runs / column.per]
        if counted.allocations is not None:
            allocations.rounds[row.name] = [counted.allocations / runs / column.per]
    return instructions, allocations


def _no_clock() -> int:
    return 0
