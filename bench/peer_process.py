"""Runs in a peer's environment: measures calls of one row (bare, callspan or the peer) and writes the results as JSON.

Beside what a call takes, it measures the spans of the row alone: created directly, with the attributes that the row has
put on them. Under callgrind it counts instructions.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import logging
import statistics
import time
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider

import callspan
import floor
from columns import Column, columns
from peers import PEERS, THEIRS, native_options
from rows import BARE, DEFAULT, provider, same
from valgrind import Counter

_SETTLED, _CALLS = 500, 1000
"""Numbers of warm-up calls, until the interpreter has specialised its code, and of measured calls."""


def main() -> None:
    """Measure the columns whose names contain a text: CPU nanoseconds or instructions per unit, and of the spans."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--columns", default="")
    parser.add_argument("--row", choices=(BARE, DEFAULT, THEIRS), default=BARE)
    parser.add_argument("--count", type=Path, metavar="DIRECTORY", help="count instructions, under callgrind")
    options = parser.parse_args()
    # Printing the peers' warnings would cost them time.
    logging.getLogger().addHandler(logging.NullHandler())
    peer, tracing = PEERS[options.name], provider()
    counter = None if options.count is None else Counter(options.count)
    if options.row == DEFAULT:
        callspan.instrument(tracer_provider=tracing)
    elif options.row == THEIRS:
        peer.switch_on(tracing)
    found = {}
    for column in columns(**(native_options(tracing) if peer.built_in and options.row == THEIRS else {})):
        if options.columns in column.name and column.name.split()[0] in peer.families and not column.agent:
            whole = _measured(column, counter)
            spans = _spans_alone(column, tracing) if options.row != BARE else None
            found[column.name] = (whole, None if spans is None else _measured(spans, counter))
    options.file.write_text(json.dumps(found))


def _measured(column: Column, counter: Counter | None) -> float:
    """Return what a unit of a column takes."""
    few = column.per > 1
    column.run(column.warm if few else _SETTLED, same, time.thread_time_ns)
    gc.collect()
    if counter is None:
        spent = statistics.median(column.run(column.runs if few else _CALLS, same, time.thread_time_ns))
    else:
        spent = counter.count(lambda: column.run(column.counted, same, lambda: 0)).instructions / column.counted
    return spent / column.per


def _spans_alone(column: Column, tracing: TracerProvider) -> Column | None:
    """Return a column that only creates the spans of another one; None if there are none in this provider."""
    notes = floor.Notes()
    tracing.add_span_processor(notes)
    column.run(1, same, lambda: 0)
    notes.stop()
    if not notes.spans:
        return None
    one = floor.floor(notes.spans, provider(), agent=True, is_async=False)(bool)
    return dataclasses.replace(column, one=one, is_async=False)


if __name__ == "__main__":
    main()
