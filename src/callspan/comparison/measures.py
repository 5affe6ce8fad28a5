"""Measures: the values of a session by which groups are compared: success, each score, and what is summed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias

from callspan.comparison.intervals import Interval, of_mean, wilson
from callspan.records import REWARD, mean_of
from callspan.stores import SessionSummary, exact_sum

Number: TypeAlias = float | Decimal
Kind: TypeAlias = Literal["success", "score", "sum"]
"""Distinguishes objectives from sums of the same name."""


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
        value: int | Decimal | None = getattr(summary, "timesteps" if self.name == "steps" else self.name)
        return None if isinstance(value, Decimal) and not value.is_finite() else value

    @property
    def is_time(self) -> bool:
        """Whether its values are nanoseconds."""
        return self.kind == "sum" and self.name.endswith("_ns")


SUCCESS: Final = Measure("success", "success")
SUMS: Final = tuple(
    Measure("sum", name)
    for name in ("steps", "calls", "errors", "input_tokens", "output_tokens", "cost_usd", "duration_ns", "active_ns")
)


class Mean(NamedTuple):
    """The sum and mean of a measure over the sessions for which it is known."""

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
    found: Counter[str] = Counter()
    for one in sessions:
        found.update([*([REWARD] if one.reward is not None else []), *one.scores])
    return sorted(found, key=lambda name: (name != REWARD, -found[name], name))


def values_of(measure: Measure, sessions: Iterable[SessionSummary]) -> list[Number]:
    """Return the values of the sessions for which it is known."""
    return [value for one in sessions if (value := measure.of(one)) is not None]


def summed(measure: Measure, sessions: Iterable[SessionSummary]) -> Mean:
    """Return the sum and mean over these sessions. Money is exact."""
    values = values_of(measure, sessions)
    return Mean(_total(measure, values), mean(values), len(values), _interval(measure, values))


def mean(values: Sequence[Number]) -> Number | None:
    """Return the mean; None without values."""
    amounts = [value for value in values if isinstance(value, Decimal)]
    total = exact_sum(amounts)
    return mean_of([*map(float, values)]) if total is None else total / len(amounts)


def _total(measure: Measure, values: Sequence[Number]) -> Number | None:
    if measure.kind == "score" or not values:
        return None
    return exact_sum(value for value in values if isinstance(value, Decimal)) or sum(values)


def _interval(measure: Measure, values: Sequence[Number]) -> Interval | None:
    match measure.kind:
        case "success":
            return wilson(int(sum(values)), len(values))
        case "score":
            return of_mean([*map(float, values)])
    return None
