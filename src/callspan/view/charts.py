"""Charts: cost, tokens, time and scores by time, and sums by user, model and prompt version, each as numbers."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, Literal, TypeAlias

import msgspec

from callspan.comparison.differences import success_difference
from callspan.comparison.groups import Group, group_sessions, objectives_of
from callspan.formatting import in_ms
from callspan.record.labels import labels
from callspan.record.reward_sums import REWARD, mean_of
from callspan.stores.base import SessionSummary, Summary
from callspan.stores.filters import CallFilter
from callspan.stores.reader import Reader
from callspan.stores.sums import META
from callspan.view.source import BadQueryError, View

Unit: TypeAlias = Literal["day", "hour", "minute"]
_HOURS_BELOW_NS: Final = 3 * 86_400 * 1_000_000_000
"""Charts of a shorter time are by hour."""
_MINUTES_BELOW_NS: Final = 3 * 3_600 * 1_000_000_000
"""Charts of a shorter time are by minute."""
_ROWS: Final = 50
_SESSIONS: Final = 2_000
"""Scores are of the newest sessions."""
_MIN_VALUES: Final = 2
_MAX_VALUES: Final = 10
"""Keys of metadata with more values name no versions."""
_LIKELY: Final = ("prompt_version", "version", "prompt", "variant")
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


class Score(msgspec.Struct):
    """The mean score of a group, and its successes."""

    key: str | None
    time: str | None
    sessions: int
    judged: int
    successes: int
    interval: tuple[float, float] | None
    """Of the share that succeeded: 95 %, by Wilson."""
    mean: float | None
    cost_usd: str | None
    """The mean."""
    lasted_ms: float | None
    """The mean."""


class Scores(msgspec.Struct):
    """Scores and successes of the newest sessions."""

    unit: str
    objectives: list[str]
    objective: str | None
    points: list[Point]
    by_time: list[Score]
    keys: list[str]
    """Of metadata, those that may name versions."""
    key: str | None
    by_key: list[Score]
    by_key_and_time: list[Score]
    difference: tuple[str, str, float, float, float] | None
    """The last two versions, by how much their successes differ, and its interval of 95 %; None: too few to tell."""
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
    """Return scores of the newest sessions that `q` selects, of the `objective`, by time and by metadata `key`."""
    reader, which = view.chosen()
    found = [*islice(reader.sessions(since_ns=which.since_ns, which=which, limit=_SESSIONS + 1), _SESSIONS + 1)]
    some = found[:_SESSIONS]
    unit = _unit([(one.session.start_ns, one.session.start_ns) for one in some])
    objectives = objectives_of(some)
    objective = view.query.get("objective") or next(iter(objectives), REWARD)
    keys = _version_keys(some)
    key = view.query.get("key") or next(iter(keys), None)
    versions = _versions(some, key)
    return Scores(
        unit=unit,
        objectives=objectives,
        objective=objective,
        points=[point for group in group_sessions(some, [unit]) for point in _points(group, objective)],
        by_time=_scores(group_sessions(some, [unit]), objective, timed=True),
        keys=keys,
        key=key,
        by_key=_scores(versions, objective),
        by_key_and_time=_scores(group_sessions(some, [META + key, unit]), objective, timed=True) if key else [],
        difference=_difference(versions),
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


def _version_keys(sessions: Sequence[SessionSummary]) -> list[str]:
    """Return the keys of metadata with few values, those that are likely to name versions first."""
    values: dict[str, set[str | None]] = {}
    for one in sessions:
        for key in one.session.metadata:
            seen = values.setdefault(key, set())
            if len(seen) <= _MAX_VALUES:
                seen.update(labels(one.session.metadata, key))
    fit = [key for key, seen in values.items() if _MIN_VALUES <= len(seen) <= _MAX_VALUES]
    return sorted(fit, key=lambda key: (_LIKELY.index(key) if key in _LIKELY else len(_LIKELY), key))


def _versions(sessions: Sequence[SessionSummary], key: str | None) -> list[Group]:
    groups = group_sessions(sessions, [META + key]) if key else []
    return sorted(
        (group for group in groups if group.keys[0] is not None), key=lambda group: _natural(str(group.keys[0]))
    )


def _natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts `v10` behind `v9`."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", text)]


def _points(group: Group, objective: str) -> Iterable[Point]:
    for one in group.sessions:
        value = one.score(objective)
        if value is not None and group.keys[0] is not None:
            yield Point(group.keys[0], one.session.session_id, value, one.succeeded)


def _scores(groups: Sequence[Group], objective: str, *, timed: bool = False) -> list[Score]:
    found = [_score(group, objective, timed=timed) for group in groups]
    return sorted(found, key=lambda one: (one.key or "", one.time or "")) if timed else found


def _score(group: Group, objective: str, *, timed: bool) -> Score:
    share = group.success_interval
    cost, lasted = group.amount("cost_usd").mean, group.amount("duration_ns").mean
    return Score(
        key=None if timed and len(group.keys) == 1 else group.keys[0],
        time=group.keys[-1] if timed else None,
        sessions=len(group.sessions),
        judged=len(group.judged),
        successes=group.successes,
        interval=None if share is None else (share.low, share.high),
        mean=mean_of(group.scores(objective)),
        cost_usd=None if cost is None else str(cost),
        lasted_ms=None if lasted is None else in_ms(int(lasted)),
    )


def _difference(versions: Sequence[Group]) -> tuple[str, str, float, float, float] | None:
    if len(versions) < _MIN_VALUES:
        return None
    before, after = versions[-2:]
    success = success_difference(before, after)
    if success.is_too_few or success.difference is None or success.interval is None:
        return None
    low, high = success.interval
    return str(before.keys[0]), str(after.keys[0]), float(success.difference), low, high
