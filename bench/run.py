"""Measures what callspan costs and writes its parts of `docs/benchmarks.md`; what `make bench` runs."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from pathlib import Path

import caller_latency
import delivery
import open_streams
import page
import repeated
import report
import startup
import valgrind
from columns import columns
from rows import provider, rows
from timing import Measured, measure

_SECONDS = {True: 2.0, False: 20.0}
"""Per column, by whether the run is a quick one."""
_LEAST = {True: 2, False: 7}
_HERE = Path(__file__).resolve().parent


def main() -> None:
    """Measure the requested columns and print, or write, the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than two minutes; prints and writes no page")
    parser.add_argument("--only", default="", help="columns whose name contains this; prints and writes no page")
    parser.add_argument("--seconds", type=float, help="time per column")
    parser.add_argument("--instructions", action="store_true", help="count instructions and allocations, not times")
    parser.add_argument("--page", type=Path, help="write the page there")
    options = parser.parse_args()
    name, text = ("instructions", _instructions(options)) if options.instructions else ("times", _times(options))
    if options.page is not None or not (options.quick or options.only):
        page.put(name, text, options.page or page.PAGE)
    else:
        print(text)


def _times(options: argparse.Namespace) -> str:
    seconds = options.seconds or _SECONDS[options.quick]
    tracing, neighbours = provider(), page.Neighbours()
    done: list[Measured] = []
    gc.collect()
    gc.freeze()
    for column in columns():
        if options.only in column.name and not (options.quick and column.long):
            share = 0.1 if column.alone else 1.0
            done.append(measure(column, rows(column, tracing), share * seconds, least=_LEAST[options.quick]))
            print(report.summary(done[-1]), flush=True)
    pieces = repeated.measure(tracing)
    starts, held_kb = startup.measure(3 if options.quick else 15), open_streams.measure()
    felt = caller_latency.section(caller_latency.measure(4.0 if options.quick else caller_latency.SECONDS))
    return report.times(done, pieces, starts, held_kb, neighbours, delivery.times_section(), felt)


def _instructions(options: argparse.Namespace) -> str:
    if not valgrind.usable():
        return report.instructions([])
    with tempfile.TemporaryDirectory() as directory:
        only = options.only or ("plain sync" if options.quick else "")
        arguments = [str(_HERE / "count_process.py"), directory, only]
        # A fixed seed for hashes: sets and dictionaries fill the same way in each run.
        valgrind.run(sys.executable, arguments, Path(directory), {**os.environ, "PYTHONHASHSEED": "0"})
        counted = json.loads(Path(directory, "counted.json").read_text())
    found = [(Measured(**one), Measured(**other)) for one, other in counted]
    return report.instructions(found, "" if options.only else delivery.instructions_section())


if __name__ == "__main__":
    main()
