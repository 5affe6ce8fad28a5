"""Charts: cost, tokens, time and scores by time, and sums by user and model, each as numbers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec

from callspan.comparison.groups import Group, Measure, Number, group_sessions, mean, objectives_of, values_of
from callspan.records import REWARD
from callspan.stores import CallFilter, Reader, Summary
from callspan.view.source import BadQueryError, View

Unit: TypeAlias = Literal["day", "hour", "minute"]
_HOURS_BELOW_NS: Final = 3 * 86_400 * 1_000_000_000
"""Charts of a shorter time are by hour."""
_MINUTES_BELOW_NS: Final = 3 * 3_600 * 1_000_000_000
"""Charts of a shorter time are by minute."""
_ROWS: Final = 50
_SESSIONS: Final = 2_000
"""Scores are of the newest sessions."""
_TABLES: Final = ("user", "model", "provider", "name", "experiment")


class Charts(msgspec.Struct):
    """Sums of calls by time."""

    unit: str
    """`day`, `hour` or `minute`, of UTC."""
    sums: list[Summary]
    """By time, the oldest first."""
    by_model: list[Summary]
    """By time and model."""
    span: tuple[str, str] | None
    """The first and the last time of all calls; None: there are none."""


class SumsTable(msgspec.Struct):
    """Sums of calls by one key, those with most calls first."""

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
    """The mean of each time."""
    more: bool
    """Whether there are older sessions, which are left out."""


def page(view: View) -> Charts:
    """Return sums by time of the calls that the filter line `q` selects."""
    reader, which = view.chosen()
    first, last = _start(reader, which, newest=False), _start(reader, which, newest=True)
    if first is None or last is None:
        return Charts("day", [], [], None)
    unit = _unit([(first, last)])
    sums = sorted(reader.summary(unit, which), key=_time_of)
    by_model = sorted(reader.summary((unit, "model"), which, latencies=False), key=_time_of)
    return Charts(unit, sums, by_model, (_slot(first, unit), _slot(last, unit)))


def table(view: View) -> SumsTable:
    """Return sums by `by`: user, model, provider, name or experiment. Raises BadQueryError for another."""
    reader, which = view.chosen()
    by = view.required("by")
    if by not in _TABLES:
        raise BadQueryError(f"there is no table by {by}")
    found = [*reader.summary(by, which)]
    return SumsTable(found[:_ROWS], max(0, len(found) - _ROWS))


def scores(view: View) -> Scores:
    """Return scores of the newest sessions that `q` selects, of the `objective`, by time."""
    reader, which = view.chosen()
    found = [*reader.sessions(msgspec.structs.replace(which, limit=_SESSIONS + 1))]
    some = found[:_SESSIONS]
    unit = _unit([(one.session.start_ns, one.session.start_ns) for one in some])
    objectives = objectives_of(some)
    objective = view.query.get("objective") or next(iter(objectives), REWARD)
    groups, score = group_sessions(some, [unit]), Measure("score", objective)
    return Scores(
        unit=unit,
        objectives=objectives,
        objective=objective,
        points=[point for group in groups for point in _points(group, objective)],
        means={group.keys[0]: mean(values_of(score, group.sessions)) for group in groups if group.keys[0] is not None},
        more=len(found) > _SESSIONS,
    )


def _start(reader: Reader, which: CallFilter, *, newest: bool) -> int | None:
    """Return the start of the newest or the oldest of these calls; None if there is none."""
    one = msgspec.structs.replace(which, sort="start", newest_first=newest, limit=1, offset=0, content="none")
    return next((call.timing.start_ns for call in reader.calls(one)), None)


def _slot(time_ns: int, unit: str) -> str:
    """Return the time as sums by this unit name it."""
    at = dt.datetime.fromtimestamp(time_ns // 1_000_000_000, dt.timezone.utc)
    return at.strftime({"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z", "minute": "%Y-%m-%dT%H:%MZ"}[unit])


def _unit(times: Iterable[tuple[int | None, int | None]]) -> Unit:
    known = [(first, last) for first, last in times if first is not None and last is not None]
    if not known:
        return "day"
    span = max(last for _, last in known) - min(first for first, _ in known)
    return "minute" if span < _MINUTES_BELOW_NS else "hour" if span < _HOURS_BELOW_NS else "day"


def _time_of(one: Summary) -> str:
    return one.key or ""


def _points(group: Group, objective: str) -> Iterable[Point]:
    for one in group.sessions:
        value = one.score(objective)
        if value is not None and group.keys[0] is not None:
            yield Point(group.keys[0], one.session.session_id, value, one.succeeded)
