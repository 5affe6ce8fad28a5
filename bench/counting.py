"""Counts instructions and allocations of every row of a column, independently of other load.

Runs under callgrind, counts the requested columns and writes the figures as JSON.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
from pathlib import Path

from columns import Column, columns
from rows import Row, provider, rows
from timing import Measured
from valgrind import Counter


def main() -> None:
    """Count the columns whose names contain the second argument; write to the directory in the first."""
    directory, only = Path(sys.argv[1]), sys.argv[2]
    tracing, counter = provider(), Counter(directory)
    gc.collect()
    gc.freeze()
    counted = []
    for column in columns():
        if only in column.name:
            counted.append([dataclasses.asdict(one) for one in count(column, rows(column, tracing), counter)])
            print(column.name, flush=True)
    (directory / "counted.json").write_text(json.dumps(counted))


def count(column: Column, rows: list[Row], counter: Counter) -> tuple[Measured, Measured]:
    """Return instructions and allocations per unit, with one round per row."""
    instructions = Measured(column.name, column.unit, column.agent)
    allocations = Measured(column.name, column.unit, column.agent)
    for row in rows:
        with row.around() as wrap:
            column.run(column.warm, wrap, _no_clock)
            gc.collect()
            counted = counter.count(lambda wrap=wrap: column.run(column.counted, wrap, _no_clock))  # type: ignore[misc]
        units = column.counted * column.per
        instructions.rounds[row.name] = [counted.instructions / units]
        if counted.allocations is not None:
            allocations.rounds[row.name] = [counted.allocations / units]
    return instructions, allocations


def _no_clock() -> int:
    return 0


if __name__ == "__main__":
    main()
