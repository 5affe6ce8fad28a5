"""Differences: compares the measures of two groups of sessions, paired by task if they share enough tasks."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from decimal import Decimal
from itertools import compress
from typing import NamedTuple, TypeAlias

import msgspec

from callspan.comparison.groups import (
    Group,
    Kind,
    Measure,
    checked_session_grouping,
    groups_of,
    mean,
    measures_of,
    values_of,
)
from callspan.comparison.intervals import MIN_VALUES, Interval, of_mean, of_means, of_shares
from callspan.records import difference
from callspan.runtime.amounts import EXACT
from callspan.stores import Number, SessionValues


class GroupSelector(NamedTuple):
    """Selects the sessions of a group: those with a value of a grouping, or those without any value (None)."""

    by: str
    value: str | None

    @property
    def label(self) -> str:
        """The selector as written on the command line."""
        return f"{self.by}={self.value or ''}"


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
    sessions: SessionValues, selectors: tuple[GroupSelector, GroupSelector]
) -> tuple[tuple[Group, Group], int]:
    """Return the group of each selector, and the number of sessions that match both and are in neither.

    A session with calls of both values says nothing about their difference.
    """
    first, second = selectors
    groups = Group((first.label,), sessions), Group((second.label,), sessions)
    in_both, groupings = 0, [groups_of(sessions, selector.by) for selector in selectors]
    for position in compress(range(len(sessions)), sessions.is_rated):
        is_in = [selector.value in grouping(position) for selector, grouping in zip(selectors, groupings, strict=True)]
        if all(is_in) and first != second:
            in_both += 1
            continue
        for group in compress(groups, is_in):
            group.positions.append(position)
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
    pairs = _by_task(first, second)
    return [_difference(measure, (first, second), pairs) for measure in measures_of([first, second])]


_Pair: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""The positions of the sessions of A and of B with the same task."""


def _difference(measure: Measure, groups: tuple[Group, Group], pairs: Sequence[_Pair]) -> Difference:
    sessions = groups[0].sessions
    by_task = [[measure.known(sessions, positions) for positions in pair] for pair in pairs]
    common = [values for values in by_task if all(values)]
    paired = len(common) >= MIN_VALUES
    if paired:
        a, b = ([number for number in map(mean, values) if number is not None] for values in zip(*common, strict=True))
        interval = of_mean([float(y) - float(x) for x, y in zip(a, b, strict=True)])
    else:
        a, b = (values_of(measure, group) for group in groups)
        interval = _unpaired_interval(measure.kind, [*map(float, a)], [*map(float, b)])
    return Difference(
        measure=measure, first=mean(a), second=mean(b), numbers=(len(a), len(b)), paired=paired, interval=interval
    )


def _unpaired_interval(kind: Kind, first: Sequence[float], second: Sequence[float]) -> Interval | None:
    if kind == "success":
        return of_shares((round(sum(first)), len(first)), (round(sum(second)), len(second)))
    return of_means(first, second)


def _by_task(first: Group, second: Group) -> list[_Pair]:
    """Return the sessions of each task that both groups have, by the name of the task."""
    tasks = first.sessions.facts["task_id"]
    names, others = ({tasks[position] for position in group.positions} for group in (first, second))
    by_task = {task: (array("q"), array("q")) for task in sorted(names & others - {None})}
    for index, group in enumerate((first, second)):
        for position in group.positions:
            if (pair := by_task.get(tasks[position])) is not None:
                pair[index].append(position)
    return [*by_task.values()]
