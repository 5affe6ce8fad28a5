"""The time of parts of a call within the SDK's work, and when repeated immediately."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from opentelemetry.sdk.trace import Tracer, TracerProvider

from callspan.observe.live_call import CallFactory, LiveCall
from callspan.process.processors import Processors
from callspan.providers.openai.chat import ChatCompletions
from callspan.semconv.call import Projection
from columns import Column, columns
from rows import DEFAULT, FLOOR, Row, Wrap, rows

COLUMNS: Final = ("openai plain sync", "openai 200 KB request")
_PIECES: Final[tuple[tuple[str, type, str], ...]] = (
    ("of callspan's: OpenTelemetry's `start_span`", Tracer, "start_span"),
    ("a call begun, that span included", CallFactory, "start"),
    ("info of the response", ChatCompletions, "response_info"),
    ("content and attempts for the record", LiveCall, "_content_fields"),
    ("processors", Processors, "process"),
    ("attributes in both vocabularies", Projection, "end"),
)
"""What leaves nothing behind that would make it another piece of work the next time."""
_AGAIN: Final = 5
_LEAST: Final = 100


@dataclass(frozen=True)
class Piece:
    """Medians in microseconds."""

    name: str
    column: str
    in_place: float
    again: float
    """The last of several times in a row."""


def measure(tracing: TracerProvider, names: Sequence[str] = COLUMNS) -> list[Piece]:
    """Return every piece in every one of these columns, and a raw span with the same attributes."""
    done: list[Piece] = []
    for column in (each for each in columns() if each.name in names):
        made = {row.name: row for row in rows(column, tracing)}
        with made[FLOOR].around() as wrap:
            done.append(_piece("a raw span, same attributes (floor)", column, _after(column, wrap)))
        done += [_piece(name, column, _within(column, made[DEFAULT], owner, of)) for name, owner, of in _PIECES]
    return done


def _piece(name: str, column: Column, taken: list[list[int]]) -> Piece:
    first, *_, last = zip(*taken, strict=True)
    return Piece(name, column.name, statistics.median(first) / 1000, statistics.median(last) / 1000)


def _after(column: Column, wrap: Wrap) -> list[list[int]]:
    """The times of a raw span after a call of the bare SDK."""
    span = wrap(lambda: None)
    taken = []
    for _ in range(_runs(column) + column.warm):
        column.one()
        taken.append(_times(span))
    return taken[column.warm :]


def _within(column: Column, row: Row, owner: type, name: str) -> list[list[int]]:
    """The times of one method in each call. Raises LookupError if calls do not use it."""
    # Callspan binds some methods when it is set up.
    with _repeated(owner, name) as taken, row.around() as wrap:
        column.run(column.warm, wrap, time.perf_counter_ns)
        taken.clear()
        column.run(_runs(column), wrap, time.perf_counter_ns)
    if not taken:
        raise LookupError(f"{owner.__name__}.{name} is no part of a call")
    return taken


@contextmanager
def _repeated(owner: type, name: str) -> Iterator[list[list[int]]]:
    original = getattr(owner, name)
    taken: list[list[int]] = []

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter_ns()
        result = original(*args, **kwargs)
        first = time.perf_counter_ns() - started
        taken.append([first, *_times(lambda: original(*args, **kwargs), _AGAIN)])
        return result

    setattr(owner, name, timed)
    try:
        yield taken
    finally:
        setattr(owner, name, original)


def _times(work: Callable[[], Any], count: int = _AGAIN + 1) -> list[int]:
    moments = [time.perf_counter_ns()]
    for _ in range(count):
        work()
        moments.append(time.perf_counter_ns())
    return [after - before for before, after in pairwise(moments)]


def _runs(column: Column) -> int:
    return max(column.runs, _LEAST)
