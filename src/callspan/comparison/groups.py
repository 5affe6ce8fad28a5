"""Groups: groups sessions by experiment, task, model, metadata etc., and measures groups to compare them.

A measure is a value of a session: its success, each score, and each sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from itertools import product
from typing import Final, Literal, NamedTuple, TypeAlias

from callspan.comparison.intervals import Interval, of_mean, wilson
from callspan.records import REWARD, labels, mean_of
from callspan.runtime.amounts import USUAL
from callspan.stores import META, SessionSummary, exact_sum

SESSION_GROUPINGS: Final = ("experiment", "task", "group", "name", "model", "user", "tag", "day", "hour")
"""The groupings of sessions besides `meta:KEY`. A session with several models, tags or values is in the group of each;
its day and hour are when it started, in UTC."""
_NS_PER_S: Final = 1_000_000_000
_FIELDS: Final = {"experiment": "experiment", "task": "task_id", "group": "group_id", "name": "name", "user": "user_id"}
_NAMES: Final = {fact: name for name, fact in _FIELDS.items()}
_FORMS: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z", "minute": "%Y-%m-%dT%H:%MZ"}

Number: TypeAlias = float | Decimal
Kind: TypeAlias = Literal["success", "score", "sum"]
"""Distinguishes objectives from sums of the same name."""


def checked_session_grouping(by: str) -> str:
    """Return a valid grouping of sessions, which may be the name of its fact. Raises ValueError otherwise."""
    by = _NAMES.get(by, by)
    if by in SESSION_GROUPINGS or (by.startswith(META) and by != META):
        return by
    raise ValueError(f"sessions cannot be grouped by {by!r}; use {', '.join(SESSION_GROUPINGS)} or {META}KEY")


def label_key(by: str) -> str | None:
    """Return the metadata key of a grouping; None if it groups by another fact.

    Sessions are grouped by the values in their calls too, which `Reader.sessions` reads as `call_labels`.
    """
    if by == "tag":
        return "tags"
    return by.removeprefix(META) if by.startswith(META) else None


def label_keys(groupings: Iterable[str]) -> list[str]:
    """Return the metadata keys of these groupings, each once."""
    return [*dict.fromkeys(key for key in map(label_key, groupings) if key is not None)]


def groups_of(summary: SessionSummary, by: str) -> list[str | None]:
    """Return the values of a session for a grouping; `[None]` without a value."""
    session = summary.session
    values: Iterable[str | None]
    if by in _FIELDS:
        values = [getattr(session, _FIELDS[by])]
    elif by == "model":
        values = summary.models
    elif by in _FORMS:
        values = [] if session.start_ns is None else [slot_name(session.start_ns, by)]
    else:
        key = label_key(by) or ""
        values = summary.call_labels.get(key) or labels(session.metadata, key)
    return [*dict.fromkeys(values)] or [None]


def slot_name(ns: int, unit: str) -> str:
    """Return the name that `Reader.summary` gives to the day, hour or minute of this time."""
    return datetime.fromtimestamp(ns // _NS_PER_S, tz=timezone.utc).strftime(_FORMS[unit])


@dataclass
class Group:
    """Sessions with the same values of the groupings."""

    keys: tuple[str | None, ...]
    sessions: list[SessionSummary] = field(default_factory=list)


def group_sessions(sessions: Iterable[SessionSummary], keys: Sequence[str]) -> list[Group]:
    """Group the sessions by these groupings; the largest groups come first."""
    groups: dict[tuple[str | None, ...], Group] = {}
    for summary in sessions:
        for values in _combinations(summary, keys):
            groups.setdefault(values, Group(values)).sessions.append(summary)
    return sorted(groups.values(), key=lambda group: (-len(group.sessions), tuple(key or "" for key in group.keys)))


def _combinations(summary: SessionSummary, keys: Sequence[str]) -> Iterator[tuple[str | None, ...]]:
    yield from product(*(groups_of(summary, key) for key in keys))


class Measure(NamedTuple):
    """A value of a session."""

    kind: Kind
    name: str

    def of(self, summary: SessionSummary) -> Number | None:
        """Return the value of a session; None if it is unknown."""
        if self.kind == "success":
            return summary.succeeded
        if self.kind == "score":
            return summary.score(self.name)
        if self.name == "cost_usd" and summary.calls_without_cost:
            return None
        if self.name.endswith("_tokens") and summary.calls_without_usage:
            return None
        value: int | Decimal | None = getattr(summary, self.name)
        return value

    @property
    def is_time(self) -> bool:
        """Whether its values are nanoseconds."""
        return self.kind == "sum" and self.name.endswith("_ns")


SUCCESS: Final = Measure("success", "success")
SUMS: Final = tuple(
    Measure("sum", name)
    for name in (
        *("timesteps", "calls", "errors", "input_tokens", "output_tokens", "reasoning_tokens", "cost_usd"),
        *("duration_ns", "active_ns"),
    )
)


class Mean(NamedTuple):
    """The sum and mean of a measure over the sessions that have it."""

    sum: Number | None
    """None for scores."""
    mean: Number | None
    number: int
    interval: Interval | None
    """Of the mean: Wilson's of a share, a bootstrap of a score; None for too few values, or if all are equal."""


def measures_of(sessions: Iterable[SessionSummary]) -> list[Measure]:
    """Return what sessions have: success, each objective, then the sums."""
    scores = (Measure("score", name) for name in objectives_of(sessions))
    return [SUCCESS, *scores, *SUMS]


def objectives_of(sessions: Iterable[SessionSummary]) -> list[str]:
    """Return the objectives of the sessions: the reward, then the others by frequency."""
    counts: Counter[str] = Counter()
    for summary in sessions:
        counts.update([*([REWARD] if summary.reward is not None else []), *summary.scores])
    return sorted(counts, key=lambda name: (name != REWARD, -counts[name], name))


def values_of(measure: Measure, sessions: Iterable[SessionSummary]) -> list[Number]:
    """Return the values of the rated sessions that have one."""
    return [value for summary in sessions if summary.is_rated and (value := measure.of(summary)) is not None]


def mean_of_measure(measure: Measure, sessions: Iterable[SessionSummary]) -> Mean:
    """Return the sum and mean over these sessions. Money is exact."""
    sessions = [*sessions]
    values = values_of(measure, sessions)
    every = [value for summary in sessions if (value := measure.of(summary)) is not None]
    return Mean(_total(measure, every), mean(values), len(values), _interval(measure, values))


def mean(values: Sequence[Number]) -> Number | None:
    """Return the mean; None without values."""
    amounts = [value for value in values if isinstance(value, Decimal)]
    total = exact_sum(amounts)
    return mean_of([*map(float, values)]) if total is None else USUAL.divide(total, Decimal(len(amounts)))


def _total(measure: Measure, values: Sequence[Number]) -> Number | None:
    if measure.kind == "score" or not values:
        return None
    return exact_sum(value for value in values if isinstance(value, Decimal)) or sum(values)


def _interval(measure: Measure, values: Sequence[Number]) -> Interval | None:
    match measure.kind:
        case "success":
            return wilson(int(sum(values)), len(values)) if values else None
        case "score":
            return of_mean([*map(float, values)])
    return None
