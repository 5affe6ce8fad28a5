"""Sessions: the paged list, with first words, marks, scores, course and sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec

from callspan.stores import IN_PROGRESS, INTERRUPTED, UNKNOWN, Reader, Run, SessionSummary, as_row, session_facts
from callspan.view.source import PageRequest, Row

_FIRST: Final = 100
"""Rows of the first page, which should appear quickly and is read again after each write."""
_ROWS: Final = 500
"""Rows of other pages. Twice as many take more than a second with a million calls sorted by a sum."""
_AT_ONCE: Final = 200
"""Rows read together, as in `Reader.sessions`."""
_MAX_POINTS: Final = 64
"""Maximum number of points of a reward curve in a list."""
_MAX_EVENTS: Final = 10_000
"""Number of events above which a session has no curve in lists."""
_MAX_RUNS: Final = 256
"""Number of calls and events above which a session has no course in lists."""


class CourseBar(msgspec.Struct, array_like=True):
    """One call or tool in the course of a session."""

    kind: str
    start_ms: float
    """Time since the first one."""
    lasted_ms: float | None
    first_token_ms: float | None
    outcome: str | None
    retries: int | None


class SessionsPage(msgspec.Struct):
    """A page of the list."""

    rows: list[Row]
    next: str | None
    """Number of rows before the next page; None on the last."""


def page(request: PageRequest) -> SessionsPage:
    """Return a page of the sessions selected by the filter line `q`; `after` is the number of sessions before it."""
    (reader, selection), offset = request.filtered(), request.after()
    most = _ROWS if offset else _FIRST
    summaries = reader.sessions(msgspec.structs.replace(selection, offset=offset, limit=most + 1))
    rows: list[Row] = []
    while batch := list(islice(summaries, min(_AT_ONCE, most - len(rows)))):
        rows += session_rows(reader, batch)
    return SessionsPage(rows, None if next(summaries, None) is None else str(offset + most))


def session_rows(
    reader: Reader, summaries: list[SessionSummary], curves: Mapping[str, Sequence[tuple[int, float]]] | None = None
) -> list[Row]:
    """Return the rows of these sessions; `curves` are their reward curves, if already read.

    `course` has the calls and tools; `curve` the cumulative reward, if there were several rewards.
    """
    ids = [summary.session.session_id for summary in summaries]
    words = reader.first_words(ids)
    if curves is None:
        curves = reader.reward_curves(
            [key for summary, key in zip(summaries, ids, strict=True) if summary.events <= _MAX_EVENTS]
        )
    drawn = {key: [value for _, value in curve] for key, curve in curves.items() if len(curve) > 1}
    with_course = [
        key for summary, key in zip(summaries, ids, strict=True) if summary.calls + summary.events <= _MAX_RUNS
    ]
    courses = reader.courses([key for key in with_course if key not in drawn])
    return [
        _row(summary, words.get(key), courses.get(key, []), thinned(drawn.get(key, []), _MAX_POINTS))
        for summary, key in zip(summaries, ids, strict=True)
    ]


def _row(summary: SessionSummary, title: str | None, runs: Sequence[Run], curve: list[float]) -> Row:
    course = [_bar(run, runs[0].start_ns, summary.outcome) for run in runs]
    return as_row(session_facts(summary, "page")) | {"title": title, "course": course, "curve": curve}


def _bar(run: Run, first_ns: int, of_session: str | None) -> CourseBar:
    start, lasted, first_token_ms = map(_short, (run.start_ns - first_ns, run.duration_ns, run.first_token_ns))
    is_over = run.outcome == IN_PROGRESS and of_session in (INTERRUPTED, UNKNOWN)
    outcome = of_session if is_over else run.outcome
    return CourseBar(run.kind, start or 0.0, lasted, first_token_ms, outcome, run.retries)


def _short(time_ns: int | None) -> float | None:
    """Return milliseconds with one digit. There are very many, and `round` is slow."""
    return None if time_ns is None else (time_ns + 50_000) // 100_000 / 10


def thinned(values: list[float], most: int) -> list[float]:
    """Return a curve reduced to a number of points, with the minimum and maximum of each part."""
    if len(values) <= most:
        return values
    parts = most // 2
    points: list[float] = []
    for number in range(parts):
        part = values[number * len(values) // parts : (number + 1) * len(values) // parts]
        low, high = min(part), max(part)
        points += [low, high] if part.index(low) < part.index(high) else [high, low]
    return points
