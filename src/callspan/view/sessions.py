"""Sessions: the list, a page of rows with first words, marks, scores, course and sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec

from callspan.formatting import exact, in_ms
from callspan.stores import IN_PROGRESS, INTERRUPTED, Reader, Run, SessionSummary
from callspan.view.source import Row, View, fields

_FIRST: Final = 100
"""Rows of the first page, which is shown soon, and read again after each write."""
_ROWS: Final = 500
"""Rows of the others: twice as many take more than a second of a million calls that are sorted by a sum."""
_AT_ONCE: Final = 200
"""Rows that are read together, as readers read their sums."""
_MAX_POINTS: Final = 64
"""Of a curve of rewards in a list."""
_MAX_EVENTS: Final = 10_000
"""A session with more has no curve in a list."""
_MAX_RUNS: Final = 256
"""A session with more calls and events has no course."""
_OF_SUMMARY: Final = (
    *("outcome", "succeeded", "errors", "first_error", "cancelled", "cut_off", "cut_by_length", "retries", "reward"),
    *("scores", "calls", "input_tokens", "output_tokens", "calls_without_cost", "models"),
)


class CourseBar(msgspec.Struct, array_like=True):
    """One call or tool in the drawing of a session's course."""

    kind: str
    start_ms: float
    """Since the first of them."""
    lasted_ms: float | None
    first_token_ms: float | None
    outcome: str | None
    retries: int | None


class SessionsPage(msgspec.Struct):
    """A page of the list."""

    rows: list[Row]
    next: str | None
    """How many rows come before the next page; None: this is the last."""


def page(view: View) -> SessionsPage:
    """Return a page of the sessions that the filter line `q` selects; `after` is how many come before."""
    (reader, which), offset = view.chosen(), view.after()
    most = _ROWS if offset else _FIRST
    found = reader.sessions(msgspec.structs.replace(which, offset=offset, limit=most + 1))
    rows: list[Row] = []
    while some := list(islice(found, min(_AT_ONCE, most - len(rows)))):
        rows += session_rows(reader, some)
    return SessionsPage(rows, None if next(found, None) is None else str(offset + most))


def session_rows(
    reader: Reader, found: list[SessionSummary], curves: Mapping[str, Sequence[tuple[int, float]]] | None = None
) -> list[Row]:
    """Return the rows of these sessions; `curves` are their rewards where they were read already.

    `course` has its calls and tools, `curve` the reward so far, where the environment gave several.
    """
    ids = [one.session.session_id for one in found]
    words = reader.first_words(ids)
    if curves is None:
        curves = reader.reward_curves([key for one, key in zip(found, ids, strict=True) if one.events <= _MAX_EVENTS])
    drawn = {key: [value for _, value in curve] for key, curve in curves.items() if len(curve) > 1}
    short = [key for one, key in zip(found, ids, strict=True) if one.calls + one.events <= _MAX_RUNS]
    courses = reader.courses([key for key in short if key not in drawn])
    return [
        _row(one, words.get(key), courses.get(key, []), thinned(drawn.get(key, []), _MAX_POINTS))
        for one, key in zip(found, ids, strict=True)
    ]


def _row(summary: SessionSummary, title: str | None, runs: Sequence[Run], curve: list[float]) -> Row:
    session = summary.session
    return {
        "id": session.session_id,
        "title": title,
        "user": session.user_id,
        "group": session.group_id,
        "task": session.task_id,
        **fields(session, ("name", "experiment", "metadata", "content_level")),
        "start_ms": in_ms(session.start_ns),
        "lasted_ms": in_ms(summary.duration_ns),
        "active_ms": in_ms(summary.active_ns),
        **fields(summary, _OF_SUMMARY),
        "steps": summary.timesteps,
        "cost_usd": exact(summary.cost_usd),
        "course": [_bar(run, runs[0].start_ns, summary.outcome) for run in runs],
        "curve": curve,
    }


def _bar(run: Run, first_ns: int, of_session: str) -> CourseBar:
    start, lasted, first = map(_short, (run.start_ns - first_ns, run.duration_ns, run.first_token_ns))
    outcome = of_session if (run.outcome, of_session) == (IN_PROGRESS, INTERRUPTED) else run.outcome
    return CourseBar(run.kind, start or 0.0, lasted, first, outcome, run.retries)


def _short(time_ns: int | None) -> float | None:
    """Return milliseconds with one digit; there are very many of them, and `round` takes long."""
    return None if time_ns is None else (time_ns + 50_000) // 100_000 / 10


def thinned(values: list[float], most: int) -> list[float]:
    """Return a curve with a limited number of points that keeps the minimum and maximum of each part."""
    if len(values) <= most:
        return values
    parts = most // 2
    found: list[float] = []
    for number in range(parts):
        some = values[number * len(values) // parts : (number + 1) * len(values) // parts]
        low, high = min(some), max(some)
        found += [low, high] if some.index(low) < some.index(high) else [high, low]
    return found
