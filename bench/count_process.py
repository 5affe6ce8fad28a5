"""Runs under callgrind: counts the requested columns and writes the figures as JSON."""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
from pathlib import Path

from columns import columns
from counting import count
from rows import provider, rows
from valgrind import Counter


def main() -> None:
    """Count into the directory given the columns whose names contain the second argument, but not the long ones."""
    directory, only = Path(sys.argv[1]), sys.argv[2]
    tracing, counter = provider(), Counter(directory)
    gc.collect()
    gc.freeze()
    counted = []
    for column in columns():
        if only in column.name and not column.long:
            instructions, allocations = count(column, rows(column, tracing), counter)
            print(column.name, flush=True)
            counted.append((dataclasses.asdict(instructions), dataclasses.asdict(allocations)))
    (directory / "counted.json").write_text(json.dumps(counted))


if __name__ == "__main__":
    main()
