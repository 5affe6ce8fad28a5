"""Differences: compares the measures of two groups of sessions, paired by task if they share enough tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from callspan.comparison.groups import (
    Group,
    Kind,
    Measure,
    Number,
    checked_session_grouping,
    groups_of,
    mean,
    measures_of,
    values_of,
)
from callspan.comparison.intervals import MIN_VALUES, Interval, of_mean, of_means, of_shares
from callspan.records import difference
from callspan.runtime.amounts import EXACT
from callspan.stores import SessionSummary


class GroupSelector(NamedTuple):
    """Selects the sessions of a group: those with a value of a grouping, or those without any value (None)."""

    by: str
    value: str | None

    @property
    def label(self) -> str:
        """The selector as written on the command line."""
        return f"{self.by}={self.value or ''}"

    def matches(self, summary: SessionSummary) -> bool:
        """Return whether a session is in the group."""
        return self.value in groups_of(summary, self.by)


def parse_selector(text: str, reference: GroupSelector | None = None) -> GroupSelector:
    """Parse `KEY=VALUE`, `=VALUE` with the reference's key, or the name of an experiment.

    Raises ValueError for an unknown key.
    """
    by, equals, value = text.partition("=")
    if not equals:
        return GroupSelector("experiment", text)
    return GroupSelector(
        reference.by if not by and reference is not None else checked_session_grouping(by), value or None
    )


def select_groups(
    sessions: Iterable[SessionSummary], selectors: tuple[GroupSelector, GroupSelector]
) -> tuple[tuple[Group, Group], int]:
    """Return the group of each selector, and the number of sessions that match both and are in neither.

    A session with calls of both values says nothing about their difference.
    """
    first, second = selectors
    groups = Group((first.label,)), Group((second.label,))
    in_both = 0
    for summary in sessions:
        if not summary.is_rated:
            continue
        matching = [group for selector, group in zip(selectors, groups, strict=True) if selector.matches(summary)]
        if len(matching) == len(groups) and first != second:
            in_both += 1
            continue
        for group in matching:
            group.sessions.append(summary)
    return groups, in_both


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of two groups."""

    measure: Measure
    first: Number | None
    """The mean over the sessions of A, or over the tasks if paired; None if unknown for all."""
    second: Number | None
    """The same mean for B."""
    numbers: tuple[int, int]
    """How many values each mean has: sessions of A and of B or, if paired, tasks."""
    paired: bool
    """Whether the means are over the tasks in both groups, each with the mean of its sessions."""
    interval: Interval | None
    """The 95 % interval of the difference; None for too few values, or if all values are equal."""

    @property
    def difference(self) -> Number | None:
        """B minus A."""
        if self.first is None or self.second is None:
            return None
        if isinstance(self.first, Decimal) and isinstance(self.second, Decimal):
            return EXACT.subtract(self.second, self.first)
        return difference(float(self.second), float(self.first))

    @property
    def is_too_few(self) -> bool:
        """Whether there are too few values for an interval."""
        return min(self.numbers) < MIN_VALUES


def compare_groups(first: Group, second: Group) -> list[Difference]:
    """Return the differences of two groups: success, each score, then the sums."""
    measures = measures_of([*first.sessions, *second.sessions])
    return [_difference(measure, first.sessions, second.sessions) for measure in measures]


def _difference(measure: Measure, first: Sequence[SessionSummary], second: Sequence[SessionSummary]) -> Difference:
    means_a, means_b = _by_task(measure, first), _by_task(measure, second)
    common = sorted(means_a.keys() & means_b.keys())
    paired = len(common) >= MIN_VALUES
    if paired:
        a, b = [means_a[task] for task in common], [means_b[task] for task in common]
        interval = of_mean([float(y) - float(x) for x, y in zip(a, b, strict=True)])
    else:
        a, b = values_of(measure, first), values_of(measure, second)
        interval = _unpaired_interval(measure.kind, [*map(float, a)], [*map(float, b)])
    return Difference(
        measure=measure, first=mean(a), second=mean(b), numbers=(len(a), len(b)), paired=paired, interval=interval
    )


def _unpaired_interval(kind: Kind, first: Sequence[float], second: Sequence[float]) -> Interval | None:
    if kind == "success":
        return of_shares((round(sum(first)), len(first)), (round(sum(second)), len(second)))
    return of_means(first, second)


def _by_task(measure: Measure, sessions: Iterable[SessionSummary]) -> Mapping[str, Number]:
    """Return the mean of a measure by task, without sessions that have no task or no value."""
    values: dict[str, list[Number]] = defaultdict(list)
    for summary in sessions:
        number = measure.of(summary)
        if summary.session.task_id is not None and number is not None:
            values[summary.session.task_id].append(number)
    return {task: task_mean for task, of_task in values.items() if (task_mean := mean(of_task)) is not None}
