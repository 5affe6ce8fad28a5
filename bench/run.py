"""Measures the cost of callspan beside the bare SDKs and a raw span, and prints a table (`make bench`)."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import valgrind
from columns import columns
from rows import BARE, provider, rows
from timing import Measured, measure

_SECONDS = {True: 2.0, False: 20.0}
"""Seconds per column, by `--quick`."""
_LEAST = {True: 2, False: 7}
_HERE = Path(__file__).resolve().parent


def main() -> None:
    """Measure the requested columns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than two minutes")
    parser.add_argument("--only", default="", help="columns whose name contains this")
    parser.add_argument("--seconds", type=float, help="time per column")
    parser.add_argument("--instructions", action="store_true", help="count instructions and allocations, not times")
    options = parser.parse_args()
    if not options.instructions:
        show("µs of CPU added", _times(options), 1000)
    elif valgrind.usable():
        counted = _counted(options)
        show("thousands of instructions added", [each for each, _ in counted], 1000)
        show("allocations added", [each for _, each in counted if each.rounds], 1)
    else:
        print("Not counted: it takes valgrind on x86-64.")


def _times(options: argparse.Namespace) -> list[Measured]:
    tracing, done = provider(), []
    gc.collect()
    gc.freeze()
    for column in columns():
        if options.only in column.name:
            seconds = options.seconds or _SECONDS[options.quick]
            done.append(measure(column, rows(column, tracing), seconds, least=_LEAST[options.quick]))
    return done


def _counted(options: argparse.Namespace) -> list[tuple[Measured, Measured]]:
    with tempfile.TemporaryDirectory() as directory:
        only = options.only or ("plain sync" if options.quick else "")
        arguments = [str(_HERE / "counting.py"), directory, only]
        # A fixed hash seed, so that sets and dictionaries are equal in each run.
        valgrind.run(sys.executable, arguments, Path(directory), {**os.environ, "PYTHONHASHSEED": "0"})
        counted = json.loads(Path(directory, "counted.json").read_text())
    return [(Measured(**one), Measured(**other)) for one, other in counted]


def show(title: str, done: Sequence[Measured], scale: float) -> None:
    """Print the cost of the bare SDK and what each row adds."""
    names = [name for name in done[0].rounds if name != BARE] if done else []
    print_table((title, BARE, *names), (_cells(each, names, scale) for each in done))


def _cells(each: Measured, names: Sequence[str], scale: float) -> list[str]:
    added = [each.added(name, BARE) for name in names if name in each.rounds]
    return [f"{each.name}, per {each.unit}", *(f"{one / scale:.1f}" for one in (each.cost(BARE), *added))]


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
