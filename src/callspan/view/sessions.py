"""Sessions: the paged list of sessions and of calls outside of them, with words, marks, scores, course and sums."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from operator import attrgetter
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from callspan.joining.rules import runs_of
from callspan.records import CallRecord
from callspan.stores import (
    IN_PROGRESS,
    INTERRUPTED,
    UNKNOWN,
    CallFilter,
    Opening,
    Reader,
    Run,
    SessionSummary,
    as_row,
    call_facts,
    session_facts,
)
from callspan.view.calls import call_row
from callspan.view.source import BadQueryError, PageRequest, Row

_FIRST: Final = 100
"""Rows of the first page, which should appear quickly and is read again after each write."""
_ROWS: Final = 500
"""Rows of other pages. Twice as many take more than a second with a million calls sorted by a sum."""
_AT_ONCE: Final = 200
"""Rows read together, as in `Reader.sessions`."""
_MAX_COUNTED: Final = 200_000
"""Number of calls above which rows are not counted."""
_AFTER: Final = re.compile("[0-9]{1,15}_[0-9]{1,15}")
_MAX_POINTS: Final = 64
"""Maximum number of points of a reward curve in a list."""
_MAX_EVENTS: Final = 10_000
"""Number of events above which a session has no curve in lists."""
_MAX_RUNS: Final = 256
"""Number of calls and events above which a session has no course in lists."""


_UNKNOWN: Final = Opening(None, None)


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
    """Rows of sessions, and of calls outside of them, which have a `call_id` and the `run` that they belong to."""
    next: str | None
    """Numbers of sessions and of calls before the next page, as `12_3`; None on the last."""
    groups: dict[str, int] = {}
    """Number of selected sessions of each group that is on the page; empty in a store with very many calls."""


class _ListItem(NamedTuple):
    """A session or a call outside of sessions, with its sort key."""

    sort_key: tuple[float | Decimal, int]
    """The sort key and the start; the largest come first."""
    item: SessionSummary | CallRecord


def page(request: PageRequest) -> SessionsPage:
    """Return a page of the sessions, and of the calls outside of them, that the filter line `q` selects.

    `after` is the `next` of the page before.
    """
    (reader, selection), (sessions, calls) = request.filtered(), _before(request)
    page_size = _ROWS if sessions + calls else _FIRST
    list_items = list(islice(_list_items(reader, selection, sessions, calls, page_size + 1), page_size + 1))
    items = [list_item.item for list_item in list_items[:page_size]]
    summaries = [item for item in items if isinstance(item, SessionSummary)]
    next_page = f"{sessions + len(summaries)}_{calls + len(items) - len(summaries)}"
    group_ids = [*dict.fromkeys(ident for summary in summaries if (ident := summary.session.group_id) is not None)]
    groups = reader.count_grouped_sessions(group_ids, selection) if group_ids and _is_counted(reader) else {}
    return SessionsPage(_rows(reader, items), next_page if len(list_items) > page_size else None, groups)


def _before(request: PageRequest) -> tuple[int, int]:
    """Return the numbers of sessions and calls before the page. Raises BadQueryError."""
    after = request.query.get("after") or "0_0"
    if not _AFTER.fullmatch(after):
        raise BadQueryError("after is no number")
    sessions, _, calls = after.partition("_")
    return int(sessions), int(calls)


def _list_items(reader: Reader, selection: CallFilter, sessions: int, calls: int, limit: int) -> Iterator[_ListItem]:
    """Yield the sessions and the calls outside of sessions in the order of the list."""
    outside = msgspec.structs.replace(selection, in_session=False, offset=calls, limit=limit)
    outside_calls = list(reader.calls(outside))
    scores = reader.call_scores(outside_calls, selection.judged[:1])
    of_calls = (_ListItem(_sort_key(call, selection, scores[call.call_id]), call) for call in outside_calls)
    summaries = reader.sessions(msgspec.structs.replace(selection, offset=sessions, limit=limit))
    of_sessions = (_ListItem(_sort_key(summary, selection), summary) for summary in summaries)
    return heapq.merge(of_sessions, of_calls, key=attrgetter("sort_key"), reverse=True)


def _sort_key(
    item: SessionSummary | CallRecord, selection: CallFilter, scores: Mapping[str, float] = MappingProxyType({})
) -> tuple[float | Decimal, int]:
    """Return the sort key of a session or call, as stores sort them."""
    facts = call_facts(item, "page") if isinstance(item, CallRecord) else session_facts(item, "page")
    start_ns = int(str(facts["start_ns"] or 0))
    if selection.sort == "start_ns":
        return start_ns, start_ns
    if selection.sort == "score":
        objective = selection.judged[0]
        score = item.score(objective) if isinstance(item, SessionSummary) else scores.get(objective)
        return -math.inf if score is None else -score, start_ns
    sums = [facts["input_tokens"], facts["output_tokens"]] if selection.sort == "tokens" else [facts[selection.sort]]
    amounts = [Decimal(str(amount)) for amount in sums if amount is not None]
    return sum(amounts) if amounts else -1, start_ns


def _rows(reader: Reader, items: Sequence[SessionSummary | CallRecord]) -> list[Row]:
    """Return the rows of these sessions and calls, in their order."""
    summaries = [item for item in items if isinstance(item, SessionSummary)]
    calls = [item for item in items if isinstance(item, CallRecord)]
    session_row_iterator = iter(
        [
            row
            for start in range(0, len(summaries), _AT_ONCE)
            for row in session_rows(reader, summaries[start : start + _AT_ONCE])
        ]
    )
    runs = _folded(reader, calls)
    return [
        call_row(item) | {"run": runs[item.call_id]} if isinstance(item, CallRecord) else next(session_row_iterator)
        for item in items
    ]


def _folded(reader: Reader, calls: Sequence[CallRecord]) -> Mapping[str, str]:
    """Return what calls outside of sessions are folded by: their run, in a store that keeps none, and their trace."""
    runs = {} if reader.keeps_runs else runs_of(calls)
    traces = {call.call_id: call.trace_id or call.call_id for call in calls}
    return {ident: traces[runs.get(ident, ident)] for ident in traces}


def counts(request: PageRequest) -> dict[str, int]:
    """Return the number of rows that the filter line `q` with each of the `words` selects, by the word.

    `of` is `sessions`, with calls outside of them, or `calls`. Nothing is counted in a store with very many calls.
    """
    reader, of = request.reader, request.query.get("of", "sessions")
    if not _is_counted(reader):
        return {}
    line, words = request.query.get("q", ""), request.query.get("words", "").split(",")
    return {word: _count(reader, request.access.parse_filter(f"{line} {word}"), of) for word in words}


def _is_counted(reader: Reader) -> bool:
    return reader.count_calls() <= _MAX_COUNTED


def _count(reader: Reader, selection: CallFilter, of: str) -> int:
    if of == "calls":
        return reader.count_calls(selection)
    outside = msgspec.structs.replace(selection, in_session=False)
    return reader.count_sessions(selection) + reader.count_calls(outside)


def session_rows(
    reader: Reader, summaries: list[SessionSummary], curves: Mapping[str, Sequence[tuple[int, float]]] | None = None
) -> list[Row]:
    """Return the rows of these sessions; `curves` are their reward curves, if already read.

    `continues` has the session among these of which it is the next turn, `course` the calls and tools, `labels` the
    label of each score, if its values share one, `curve` the cumulative reward, if there were several rewards.
    """
    ids = [summary.session.session_id for summary in summaries]
    openings = reader.openings(ids)
    labels = reader.score_labels([key for summary, key in zip(summaries, ids, strict=True) if summary.scores])
    if curves is None:
        curves = reader.reward_curves(
            [key for summary, key in zip(summaries, ids, strict=True) if summary.events <= _MAX_EVENTS]
        )
    curve_points = {key: [value for _, value in curve] for key, curve in curves.items() if len(curve) > 1}
    with_course = [
        key for summary, key in zip(summaries, ids, strict=True) if summary.calls + summary.events <= _MAX_RUNS
    ]
    courses = reader.courses([key for key in with_course if key not in curve_points])
    return [
        _row(summary, courses.get(key, []))
        | {
            "title": opening.words,
            "continues": opening.continues,
            "labels": labels.get(key, {}),
            "curve": thinned(curve_points.get(key, []), _MAX_POINTS),
        }
        for summary, key in zip(summaries, ids, strict=True)
        for opening in [openings.get(key, _UNKNOWN)]
    ]


def _row(summary: SessionSummary, runs: Sequence[Run]) -> Row:
    course = [_bar(run, runs[0].start_ns, summary.outcome) for run in runs]
    return as_row(session_facts(summary, "page")) | {"course": course}


def _bar(run: Run, first_ns: int, of_session: str | None) -> CourseBar:
    start, duration_ms, first_token_ms = map(_short, (run.start_ns - first_ns, run.duration_ns, run.first_token_ns))
    is_over = run.outcome == IN_PROGRESS and of_session in (INTERRUPTED, UNKNOWN)
    outcome = of_session if is_over else run.outcome
    return CourseBar(run.kind, start or 0.0, duration_ms, first_token_ms, outcome, run.retries)


def _short(time_ns: int | None) -> float | None:
    """Return milliseconds with one digit. There are very many, and `round` is slow."""
    return None if time_ns is None else (time_ns + 50_000) // 100_000 / 10


def thinned(values: list[float], max_points: int) -> list[float]:
    """Return a curve reduced to a number of points, with the minimum and maximum of each part."""
    if len(values) <= max_points:
        return values
    parts = max_points // 2
    points: list[float] = []
    for number in range(parts):
        part = values[number * len(values) // parts : (number + 1) * len(values) // parts]
        low, high = min(part), max(part)
        points += [low, high] if part.index(low) < part.index(high) else [high, low]
    return points
