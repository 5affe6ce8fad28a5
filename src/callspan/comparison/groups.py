"""Groups: groups sessions by experiment, task, model, metadata etc., with the sums and means of each group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from itertools import product
from typing import Final

import msgspec

from callspan.comparison.intervals import Interval, of_mean, wilson
from callspan.records import REWARD, labels, mean_of
from callspan.stores import META, SessionSummary, exact_sum

SESSION_GROUPINGS: Final = ("experiment", "task", "group", "name", "model", "user", "tag", "day", "hour")
"""The groupings of sessions besides `meta:KEY`. A session with several models, tags or values is in the group of each;
days and hours are those of its start, in UTC."""
_NS_PER_S: Final = 1_000_000_000
_FIELDS: Final = {"experiment": "experiment", "task": "task_id", "group": "group_id", "name": "name", "user": "user_id"}
_FORMS: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z", "minute": "%Y-%m-%dT%H:%MZ"}
MEASURES: Final = ("steps", "calls", "errors", "input_tokens", "output_tokens", "cost_usd", "duration_ns", "active_ns")
"""The values that are summed over sessions, besides successes and scores."""


def checked_session_grouping(by: str) -> str:
    """Return a valid grouping of sessions. Raises ValueError otherwise."""
    if by in SESSION_GROUPINGS or (by.startswith(META) and by != META):
        return by
    raise ValueError(f"sessions cannot be grouped by {by!r}; use {', '.join(SESSION_GROUPINGS)} or {META}KEY")


def values_of(summary: SessionSummary, by: str) -> list[str | None]:
    """Return the values of a session for a grouping; `[None]` without a value."""
    session = summary.session
    found: Iterable[str | None]
    if by in _FIELDS:
        found = [getattr(session, _FIELDS[by])]
    elif by == "model":
        found = summary.models
    elif by in _FORMS:
        found = [] if session.start_ns is None else [_moment(session.start_ns, _FORMS[by])]
    else:
        found = labels(session.metadata, "tags" if by == "tag" else by.removeprefix(META))
    return [*dict.fromkeys(found)] or [None]


def _moment(ns: int, form: str) -> str:
    return datetime.fromtimestamp(ns // _NS_PER_S, tz=timezone.utc).strftime(form)


def measure_of(summary: SessionSummary, name: str) -> int | Decimal | None:
    """Return one of `MEASURES` of a session; None if it is unknown."""
    value: int | Decimal | None = getattr(summary, "timesteps" if name == "steps" else name)
    return None if isinstance(value, Decimal) and not value.is_finite() else value


class Amount(msgspec.Struct, frozen=True):
    """The sum and mean of a measure over the sessions of a group for which it is known."""

    sum: int | Decimal | None = None
    mean: float | Decimal | None = None
    count: int = 0


class Mean(msgspec.Struct, frozen=True):
    """The mean of an objective over the sessions of a group with a score."""

    mean: float
    count: int
    interval: Interval | None
    """None for too few values, or if all values are equal."""


@dataclass
class Group:
    """Sessions with the same values of the groupings."""

    keys: tuple[str | None, ...]
    sessions: list[SessionSummary] = field(default_factory=list)

    @property
    def judged(self) -> list[bool]:
        """Success or failure of each session for which it is known."""
        return [one.succeeded for one in self.sessions if one.succeeded is not None]

    @property
    def successes(self) -> int:
        """Number of successful sessions."""
        return sum(self.judged)

    @property
    def success_rate(self) -> float | None:
        """The share of successes among the known outcomes; None if there are none."""
        return self.successes / len(self.judged) if self.judged else None

    @property
    def success_interval(self) -> Interval | None:
        """The Wilson interval of the success rate."""
        return wilson(self.successes, len(self.judged))

    def scores(self, objective: str) -> list[float]:
        """Return the scores of the sessions with a score."""
        return [score for one in self.sessions if (score := one.score(objective)) is not None]

    def mean(self, objective: str) -> Mean | None:
        """Return the mean of the reward or another objective, with its interval; None if no session has a score."""
        values = self.scores(objective)
        mean = mean_of(values)
        return None if mean is None else Mean(mean, len(values), of_mean(values))

    def amount(self, name: str) -> Amount:
        """Return the sum and mean of one of `MEASURES`. Money is exact."""
        values = [value for one in self.sessions if (value := measure_of(one, name)) is not None]
        amounts = [value for value in values if isinstance(value, Decimal)]
        total = exact_sum(amounts) if amounts else sum(value for value in values if isinstance(value, int))
        return Amount() if total is None or not values else Amount(total, total / len(values), len(values))


def objectives_of(sessions: Iterable[SessionSummary]) -> list[str]:
    """Return the objectives of the sessions: the reward, then the others by frequency."""
    found: Counter[str] = Counter()
    for one in sessions:
        found.update([*([REWARD] if one.reward is not None else []), *one.scores])
    return sorted(found, key=lambda name: (name != REWARD, -found[name], name))


def group_sessions(sessions: Iterable[SessionSummary], keys: Sequence[str]) -> list[Group]:
    """Group the sessions by these groupings; the largest groups come first."""
    found: dict[tuple[str | None, ...], Group] = {}
    for one in sessions:
        for values in _combinations(one, keys):
            found.setdefault(values, Group(values)).sessions.append(one)
    return sorted(found.values(), key=lambda group: (-len(group.sessions), tuple(key or "" for key in group.keys)))


def _combinations(summary: SessionSummary, keys: Sequence[str]) -> Iterator[tuple[str | None, ...]]:
    yield from product(*(values_of(summary, key) for key in keys))
