"""Measures what callspan costs and writes the table of `docs/benchmarks.md`; what `make bench` runs."""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path

import open_streams
import report
import startup
from columns import columns
from rows import provider, rows
from timing import Measured, measure

QUICK_S, FULL_S = 2.0, 20.0
_PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def main() -> None:
    """Measure the columns asked for and print, or write, the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than a minute; prints and writes no page")
    parser.add_argument("--only", default="", help="columns whose name contains this; prints and writes no page")
    parser.add_argument("--seconds", type=float, help="time per column")
    parser.add_argument("--page", type=Path, help="write the page there")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    seconds = options.seconds or (QUICK_S if options.quick else FULL_S)
    tracing = provider()
    done: list[Measured] = []
    gc.collect()
    gc.freeze()
    for column in columns():
        if options.only in column.name and not (options.quick and column.long):
            done.append(measure(column, rows(column, tracing), seconds, least=3 if options.quick else 7))
            print(report.summary(done[-1]), flush=True)
    starts = startup.measure(3 if options.quick else 15)
    page = report.page(done, starts, open_streams.measure())
    if options.json:
        options.json.write_text(json.dumps({each.column.name: each.rounds for each in done}))
    if options.page is not None or not (options.quick or options.only):
        (options.page or _PAGE).write_text(page)
    else:
        print(page)


if __name__ == "__main__":
    main()
