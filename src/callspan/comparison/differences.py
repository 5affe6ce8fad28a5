"""Differences: what two groups of sessions differ in, paired by task where both have enough tasks in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from operator import methodcaller
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from callspan.comparison.groups import MEASURES, Group, checked_session_grouping, measure_of, objectives_of, values_of
from callspan.comparison.intervals import FEWEST, Interval, of_mean, of_means, of_shares
from callspan.record.reward_sums import mean_of, written
from callspan.stores.aggregates import exact_sum
from callspan.stores.base import SessionSummary

Kind: TypeAlias = Literal["success", "score", "sum"]
"""An objective may have any name, also that of a sum."""
Number: TypeAlias = float | Decimal
_Value: TypeAlias = Callable[[SessionSummary], Number | None]


class Choice(NamedTuple):
    """Which sessions are in a group: those with a value for a grouping; None: those without one."""

    by: str
    value: str | None

    @property
    def label(self) -> str:
        """The choice as it is written on the command line."""
        return f"{self.by}={self.value or ''}"

    def has(self, summary: SessionSummary) -> bool:
        """Return whether a session is in the group."""
        return self.value in values_of(summary, self.by)


def choice_of(text: str, like: Choice | None = None) -> Choice:
    """Return the choice of `KEY=VALUE`; of `=VALUE` with the key of another one; of a word alone the experiment.

    Raises ValueError for an unknown key.
    """
    by, equals, value = text.partition("=")
    if not equals:
        return Choice("experiment", text)
    return Choice(like.by if not by and like is not None else checked_session_grouping(by), value or None)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of two groups."""

    kind: Kind
    name: str
    first: Number | None
    """The mean of the sessions of A, or of the tasks if paired; None: unknown for all."""
    second: Number | None
    """That of B."""
    numbers: tuple[int, int]
    """How many values these are means of: sessions of A and of B, or, if paired, tasks."""
    paired: bool
    """Whether it is over the tasks that both have, each with the mean of its sessions."""
    interval: Interval | None
    """Of the difference; None for too few values and for values that are all equal."""

    @property
    def difference(self) -> Number | None:
        """B less A."""
        if self.first is None or self.second is None:
            return None
        if isinstance(self.first, Decimal) and isinstance(self.second, Decimal):
            return self.second - self.first
        return float(written(float(self.second)) - written(float(self.first)))

    @property
    def is_too_few(self) -> bool:
        """Whether there are too few values to tell a difference."""
        return min(self.numbers) < FEWEST


def compared(first: Group, second: Group) -> list[Difference]:
    """Return the differences of two groups: success, each score, then what is summed."""
    objectives = objectives_of([*first.sessions, *second.sessions])
    return [
        success_difference(first, second),
        *(_difference("score", name, first, second, methodcaller("score", name)) for name in objectives),
        *(_difference("sum", name, first, second, partial(_measure, name)) for name in MEASURES),
    ]


def success_difference(first: Group, second: Group) -> Difference:
    """Return the difference of the shares that succeeded."""
    return _difference("success", "success", first, second, _succeeded)


def _succeeded(summary: SessionSummary) -> float | None:
    return None if summary.succeeded is None else float(summary.succeeded)


def _measure(name: str, summary: SessionSummary) -> Number | None:
    return measure_of(summary, name)


def _difference(kind: Kind, name: str, first: Group, second: Group, value: _Value) -> Difference:
    tasks, others = _by_task(first.sessions, value), _by_task(second.sessions, value)
    both = sorted(tasks.keys() & others.keys())
    paired = len(both) >= FEWEST
    if paired:
        a, b = [tasks[task] for task in both], [others[task] for task in both]
        interval = of_mean([float(y) - float(x) for x, y in zip(a, b, strict=True)])
    else:
        a, b = _known(first.sessions, value), _known(second.sessions, value)
        interval = _apart(kind, [*map(float, a)], [*map(float, b)])
    means, numbers = (_mean(a), _mean(b)), (len(a), len(b))
    return Difference(
        kind=kind, name=name, first=means[0], second=means[1], numbers=numbers, paired=paired, interval=interval
    )


def _apart(kind: Kind, first: Sequence[float], second: Sequence[float]) -> Interval | None:
    if kind == "success":
        return of_shares((round(sum(first)), len(first)), (round(sum(second)), len(second)))
    return of_means(first, second)


def _by_task(sessions: Iterable[SessionSummary], value: _Value) -> Mapping[str, Number]:
    """Return the mean of each task."""
    found: dict[str, list[Number]] = defaultdict(list)
    for one in sessions:
        number = value(one)
        if one.session.task_id is not None and number is not None:
            found[one.session.task_id].append(number)
    return {task: mean for task, values in found.items() if (mean := _mean(values)) is not None}


def _known(sessions: Iterable[SessionSummary], value: _Value) -> list[Number]:
    return [number for one in sessions if (number := value(one)) is not None]


def _mean(values: Sequence[Number]) -> Number | None:
    amounts = [value for value in values if isinstance(value, Decimal)]
    if amounts:
        total = exact_sum(amounts)
        return None if total is None else total / len(amounts)
    return mean_of([float(value) for value in values])
