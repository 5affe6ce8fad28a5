"""Charts: cost, tokens, time and scores by time, and sums by user and model, each as numbers."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import msgspec

from callspan.comparison.groups import (
    Group,
    Measure,
    group_sessions,
    mean,
    objectives_of,
    session_values,
    slot_name,
    values_of,
)
from callspan.records import REWARD
from callspan.stores import META, CallFilter, Number, Reader, Summary
from callspan.view.source import BadQueryError, PageRequest

Unit: TypeAlias = Literal["day", "hour", "minute"]
_HOURS_BELOW_NS: Final = 3 * 86_400 * 1_000_000_000
"""Charts of a shorter period have a value per hour."""
_MINUTES_BELOW_NS: Final = 3 * 3_600 * 1_000_000_000
"""Charts of a shorter period have a value per minute."""
_MAX_ROWS: Final = 50
_MAX_SESSIONS: Final = 2_000
"""Scores are shown for this number of newest sessions."""
_TABLE_KEYS: Final = ("user", "model", "provider", "name", "experiment")


class Charts(msgspec.Struct):
    """Sums of calls by time."""

    unit: str
    """`day`, `hour` or `minute`, in UTC."""
    sums: list[Summary]
    """By time, the oldest first."""
    by_model: list[Summary]
    """By time and model."""
    span: tuple[str, str] | None
    """The first and last unit of time with calls or sessions; None without any."""


class SumsTable(msgspec.Struct):
    """Sums of calls by one key, the dearest first."""

    rows: list[Summary]
    more: int


class Point(msgspec.Struct, array_like=True):
    """The score of one session."""

    time: str
    id: str
    value: float
    succeeded: bool | None


class Scores(msgspec.Struct):
    """Scores of the newest sessions."""

    unit: str
    objectives: list[str]
    objective: str | None
    points: list[Point]
    means: dict[str, Number | None]
    """The mean score by day, hour or minute."""
    more: bool
    """Whether there are older sessions, which are left out."""


def page(request: PageRequest) -> Charts:
    """Return sums by time of the calls that the filter line `q` selects."""
    reader, selection = request.filtered()
    period = _period(reader, selection)
    if period is None:
        return Charts("day", [], [], None)
    unit = _unit(period)
    sums = sorted(reader.summary(unit, selection), key=_time_of)
    by_model = sorted(reader.summary((unit, "model"), selection, latencies=False), key=_time_of)
    return Charts(unit, sums, by_model, (slot_name(period[0], unit), slot_name(period[1], unit)))


def table(request: PageRequest) -> SumsTable:
    """Return sums by the query's `by`: user, model, provider, name, experiment or `meta:KEY`.

    Raises BadQueryError for others.
    """
    reader, selection = request.filtered()
    by = request.required("by")
    if by not in _TABLE_KEYS and (by == META or not by.startswith(META)):
        raise BadQueryError(f"there is no table by {by}")
    sums = sorted(reader.summary(by, selection), key=_dearest_first)
    return SumsTable(sums[:_MAX_ROWS], max(0, len(sums) - _MAX_ROWS))


def scores(request: PageRequest) -> Scores:
    """Return the scores of the newest sessions that `q` selects, for the query's `objective`, by time."""
    reader, selection = request.filtered()
    unit = _unit(_period(reader, selection) or (0, _HOURS_BELOW_NS))
    newest = session_values(reader, msgspec.structs.replace(selection, limit=_MAX_SESSIONS + 1), [unit])
    groups = group_sessions(newest, [unit], _MAX_SESSIONS)
    objectives = objectives_of(groups)
    objective = request.query.get("objective") or next(iter(objectives), REWARD)
    score = Measure("score", objective)
    return Scores(
        unit=unit,
        objectives=objectives,
        objective=objective,
        points=[point for group in groups for point in _points(group, objective)],
        means={group.keys[0]: mean(values_of(score, group)) for group in groups if group.keys[0] is not None},
        more=len(newest) > _MAX_SESSIONS,
    )


def _period(reader: Reader, selection: CallFilter) -> tuple[int, int] | None:
    """Return the first and last start of the selected calls and sessions in Unix nanoseconds: the axis of all charts.

    None without any.
    """
    starts: list[int] = []
    for newest in (False, True):
        edge_selection = msgspec.structs.replace(
            selection, sort="start_ns", newest_first=newest, limit=1, offset=0, content="none"
        )
        starts += [call.timing.start_ns for call in reader.calls(edge_selection)]
        starts += [
            summary.session.start_ns
            for summary in reader.sessions(edge_selection)
            if summary.session.start_ns is not None
        ]
    return (min(starts), max(starts)) if starts else None


def _unit(period: tuple[int, int]) -> Unit:
    span = period[1] - period[0]
    return "minute" if span < _MINUTES_BELOW_NS else "hour" if span < _HOURS_BELOW_NS else "day"


def _dearest_first(sums: Summary) -> tuple[Decimal, int]:
    return (sums.cost_usd or Decimal(0)).copy_negate(), -sums.calls


def _time_of(sums: Summary) -> str:
    return sums.key or ""


def _points(group: Group, objective: str) -> Iterable[Point]:
    sessions, (time,) = group.sessions, group.keys
    scores = sessions.scores.get(objective)
    if scores is None or time is None:
        return
    for position in group.positions:
        if (value := scores[position]) is not None:
            succeeded = sessions.succeeded[position]
            yield Point(time, sessions.ids[position], float(value), None if succeeded is None else bool(succeeded))
