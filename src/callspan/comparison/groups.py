"""Groups: groups sessions by experiment, task, model, metadata etc., and measures groups to compare them.

A measure is a value of a session: its success, each score, and each sum.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from functools import reduce
from itertools import compress, product
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from callspan.comparison.intervals import Interval, of_mean, wilson
from callspan.records import REWARD, mean_of
from callspan.runtime.amounts import EXACT, USUAL
from callspan.stores import META, SESSION_FACTS, CallFilter, Number, Reader, SessionValues, exact_sum

SESSION_GROUPINGS: Final = ("experiment", "task", "group", "name", "model", "user", "tag", "day", "hour")
"""The groupings of sessions besides `meta:KEY`. A session with several models, tags or values is in the group of each;
its day and hour are when it started, in UTC."""
_NS_PER_S: Final = 1_000_000_000
_FACTS: Final = {
    **{"experiment": "experiment", "task": "task_id", "group": "group_id", "name": "name", "user": "user_id"},
    **{"model": "models", "day": "start_ns", "hour": "start_ns", "minute": "start_ns"},
}
"""The facts of sessions that the groupings are made of."""
_NAMES: Final = {fact: name for name, fact in _FACTS.items() if fact in SESSION_FACTS}
_FORMS: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z", "minute": "%Y-%m-%dT%H:%MZ"}

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

    Sessions are grouped by the values in their calls too.
    """
    if by == "tag":
        return "tags"
    return by.removeprefix(META) if by.startswith(META) else None


def label_keys(groupings: Iterable[str]) -> list[str]:
    """Return the metadata keys of these groupings, each once."""
    return [*dict.fromkeys(key for key in map(label_key, groupings) if key is not None)]


def session_values(reader: Reader, selection: CallFilter, groupings: Iterable[str]) -> SessionValues:
    """Read the values of the sessions that a filter selects, with what these groupings need."""
    groupings = [*groupings]
    facts = {_FACTS.get(by, by) for by in groupings} & {*SESSION_FACTS, "models", "start_ns"}
    return reader.session_values(selection, groupings=facts, label_keys=label_keys(groupings))


def groups_of(sessions: SessionValues, by: str) -> Callable[[int], Sequence[str | None]]:
    """Return the function for the values of a session, by its position, for a grouping; `[None]` without a value."""
    key = label_key(by)
    if key is not None:
        labels_of = sessions.labels[key]
        return lambda position: [*dict.fromkeys(labels_of.get(position, ()))] or [None]
    facts = sessions.facts[_FACTS[by]]
    if by in _FORMS:
        return lambda position: [None if facts[position] is None else slot_name(facts[position], by)]
    return lambda position: facts[position] or [None] if by == "model" else [facts[position]]


def slot_name(ns: int, unit: str) -> str:
    """Return the name that `Reader.summary` gives to the day, hour or minute of this time."""
    return datetime.fromtimestamp(ns // _NS_PER_S, tz=timezone.utc).strftime(_FORMS[unit])


@dataclass
class Group:
    """Sessions with the same values of the groupings."""

    keys: tuple[str | None, ...]
    sessions: SessionValues
    """The values of all sessions, of which the group has some."""
    positions: array[int] = field(default_factory=lambda: array("q"))
    """Those of its sessions, in the order of the list."""

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def rated(self) -> Iterator[int]:
        """The positions of its rated sessions."""
        return compress(self.positions, map(self.sessions.is_rated.__getitem__, self.positions))


def group_sessions(sessions: SessionValues, keys: Sequence[str], most: int | None = None) -> list[Group]:
    """Group the sessions, or the first `most` of them, by these groupings; the largest groups come first."""
    groups: dict[tuple[str | None, ...], Group] = {}
    groupings = [groups_of(sessions, key) for key in keys]
    for position in range(len(sessions))[:most]:
        for values in product(*(grouping(position) for grouping in groupings)):
            group = groups.get(values)
            if group is None:
                group = groups[values] = Group(values, sessions)
            group.positions.append(position)
    return sorted(groups.values(), key=lambda group: (-len(group), tuple(key or "" for key in group.keys)))


class Measure(NamedTuple):
    """A value of a session."""

    kind: Kind
    name: str

    def known(self, sessions: SessionValues, positions: Iterable[int]) -> list[Number]:
        """Return the known values of the sessions at these positions, without sums that lack a call."""
        if self.kind == "success":
            return sessions.succeeded.known(positions)
        if self.kind == "sum":
            return sessions.complete(self.name, positions)
        column = sessions.scores.get(self.name)
        return [] if column is None else column.known(positions)

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
    """The sum and mean of a measure over the sessions of a group."""

    sum: Number | None
    """Of all that is known, as `Reader.summary` sums; None for scores."""
    is_lower_bound: bool
    """Whether the sum is unknown for some calls."""
    mean: Number | None
    number: int
    interval: Interval | None
    """Of the mean: Wilson's of a share, a bootstrap of a score; None for too few values, or if all are equal."""


def measures_of(groups: Iterable[Group]) -> list[Measure]:
    """Return what the sessions of these groups have: success, each objective, then the sums."""
    scores = (Measure("score", name) for name in objectives_of(groups))
    return [SUCCESS, *scores, *SUMS]


def objectives_of(groups: Iterable[Group]) -> list[str]:
    """Return the objectives of the groups' sessions: the reward, then the others by frequency."""
    counts: Counter[str] = Counter()
    for group in groups:
        for name, column in group.sessions.scores.items():
            counts[name] += column.count(group.positions)
    return sorted(filter(counts.get, counts), key=lambda name: (name != REWARD, -counts[name], name))


def values_of(measure: Measure, group: Group) -> list[Number]:
    """Return the values of the rated sessions that have one."""
    return measure.known(group.sessions, group.rated)


def mean_of_measure(measure: Measure, group: Group) -> Mean:
    """Return the sum and mean over the sessions of a group. Money is exact."""
    values = values_of(measure, group)
    is_partial = measure.kind == "sum" and any(group.sessions.lacks(measure.name, at) for at in group.positions)
    return Mean(total(measure, group), is_partial, mean(values), len(values), _interval(measure, values))


def mean(values: Sequence[Number]) -> Number | None:
    """Return the mean of amounts, or of other numbers; None without values."""
    if values and isinstance(values[0], Decimal):
        return USUAL.divide(reduce(EXACT.add, cast("Sequence[Decimal]", values)), Decimal(len(values)))
    return mean_of(cast("Sequence[float]", values))


def total(measure: Measure, group: Group) -> Number | None:
    """Return the sum of all that is known of a group's sessions; None for scores, or if nothing is known."""
    if measure.kind == "score":
        return None
    column = group.sessions.succeeded if measure.kind == "success" else group.sessions.sums[measure.name]
    values = column.known(group.positions)
    if not values:
        return None
    return exact_sum(value for value in values if isinstance(value, Decimal)) or sum(values)


def _interval(measure: Measure, values: Sequence[Number]) -> Interval | None:
    match measure.kind:
        case "success":
            return wilson(int(sum(values)), len(values)) if values else None
        case "score":
            return of_mean([*map(float, values)])
    return None
