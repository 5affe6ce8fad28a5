"""Reward sums: the reward and scores of sessions and timesteps while they run, for their spans and totals.

`callspan.stores.tables.scores` defines them for stores in the same way, but there the values of calls count too.

The reward of a session is the last one given to the session itself, else the sum of the rewards of its events; the
reward of a timestep is always the sum. Every objective other than `reward` has a score: the mean of its values, their
number, and the last value. Rewards of calls count in neither; readers add them to the scores of the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import reduce
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from callspan.record.events import EventRecord, RewardRecord
from callspan.runtime.amounts import decimal_context

REWARD: Final = "reward"
_DIGITS: Final = 12
"""Digits of sums and means, as in `callspan.stores.tables.scores`: databases that add binary numbers have no more."""
_DECIMAL: Final = decimal_context(40)
"""Values are added in decimal, so that 3 x 0.8 is 2.4 in any order. Infinities raise no errors."""
_EVERY_DIGIT: Final = decimal_context(400)
"""Enough for the digits of any float before the point."""
_THREE_DIGITS: Final = decimal_context(3)
"""Enough to round a size up to the next power of ten, as databases write it."""


class Score(msgspec.Struct, frozen=True):
    """The values of one objective other than `reward`, summarized."""

    mean: float
    """The mean of all values."""
    count: int
    """Number of values."""
    last: float
    """The latest value."""


class Ratings(NamedTuple):
    """The sum of the values of one objective. Immutable."""

    total: Decimal
    size: Decimal
    """The sum of the absolute values."""
    number: int
    last: tuple[int, str, float]
    """Time (Unix nanoseconds), id and value."""

    def plus(self, other: Ratings) -> Ratings:
        """Return the sum of both."""
        total, size = _DECIMAL.add(self.total, other.total), _DECIMAL.add(self.size, other.size)
        return Ratings(total, size, self.number + other.number, max(self.last, other.last))

    @property
    def score(self) -> Score:
        """Mean, number and last value."""
        return Score(self._rounded(self.number), self.number, self.last[2])

    @property
    def sum(self) -> float:
        """The sum of the values."""
        return self._rounded(1)

    def _rounded(self, count: int) -> float:
        """Return the sum over a count; unless it is a single value, rounded to the twelfth digit of its size."""
        if self.number == 1 or not self.size.is_finite():
            return float(self.total)
        number, size = (_DECIMAL.divide(amount, Decimal(count)) for amount in (self.total, self.size))
        places = max(0, _DIGITS - 1 - _THREE_DIGITS.plus(size).adjusted())
        return float(number.quantize(Decimal((0, (1,), -places)), context=_EVERY_DIGIT))


_NO_RATINGS: Final[Mapping[str, Ratings]] = MappingProxyType({})


def written(value: float) -> Decimal:
    """Return a float as its shortest decimal, 0.8, not its exact binary value, 0.8000000000000000444."""
    return Decimal(repr(float(value)))


def mean_of(values: Sequence[float]) -> float | None:
    """Return the mean, computed in decimal; None without values."""
    if set(map(type, values)) == {int}:
        # Rounded once, and three times as fast.
        return sum(values) / len(values)
    total = reduce(_DECIMAL.add, map(written, values), Decimal(0))
    return float(_DECIMAL.divide(total, Decimal(len(values)))) if values else None


def difference(value: float, other: float) -> float:
    """Return the value minus the other one, computed in decimal: 0.1 for 0.3 and 0.2."""
    return float(_DECIMAL.subtract(written(value), written(other)))


class RewardSums(NamedTuple):
    """Sums of rewards. Immutable."""

    session: tuple[int, str, float] | None = None
    """The last reward given to the session itself: time (Unix nanoseconds), id, value."""
    events: Ratings | None = None
    """The events' rewards for the objective `reward`."""
    objectives: Mapping[str, Ratings] = _NO_RATINGS
    """The other objectives."""

    @property
    def reward(self) -> float | None:
        """The reward; None, not 0, without one."""
        if self.session is not None:
            return self.session[2]
        return None if self.events is None else self.events.sum

    @property
    def scores(self) -> dict[str, Score]:
        """The score of each other objective."""
        return {objective: ratings.score for objective, ratings in self.objectives.items()}

    @property
    def means(self) -> dict[str, float]:
        """The mean of each other objective."""
        return {objective: score.mean for objective, score in self.scores.items()}

    def plus(self, other: RewardSums) -> RewardSums:
        """Return the sums of both."""
        session_reward = (
            self.session if other.session is None or (self.session or other.session) > other.session else other.session
        )
        events = (
            self.events or other.events
            if self.events is None or other.events is None
            else self.events.plus(other.events)
        )
        ratings_by_objective = self.objectives
        if other.objectives:
            merged = dict(ratings_by_objective)
            for objective, ratings in other.objectives.items():
                merged[objective] = merged[objective].plus(ratings) if objective in merged else ratings
            ratings_by_objective = merged
        return RewardSums(session_reward, events, ratings_by_objective)


NO_REWARD: Final = RewardSums()


def sums_of(record: object) -> RewardSums:
    """Return the sums of one record; empty if it has no reward or is of a call."""
    if isinstance(record, EventRecord):
        return NO_REWARD if record.reward is None else RewardSums(events=_single((0, "", record.reward)))
    if not isinstance(record, RewardRecord) or record.value is None or record.scope == "call":
        return NO_REWARD
    rating = (record.time_ns, record.reward_id, record.value)
    if record.objective != REWARD:
        return RewardSums(objectives={record.objective: _single(rating)})
    return RewardSums(session=rating) if record.scope == "session" else RewardSums(events=_single(rating))


def _single(rating: tuple[int, str, float]) -> Ratings:
    value = written(rating[2])
    return Ratings(value, value.copy_abs(), 1, rating)


def event_rewarded(record: EventRecord | RewardRecord) -> str | None:
    """Return the id of the event that a record rewards (objective `reward`); None for other records.

    An event has one such reward: its own, else the first given to it.
    """
    if isinstance(record, EventRecord):
        return None if record.reward is None else record.event_id
    is_of_event = record.scope == "event" and record.objective == REWARD and record.value is not None
    return record.event_id if is_of_event else None


def running(rewards: Iterable[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """Yield the time of each reward with the running sum."""
    so_far = Decimal(0)
    for time_ns, value in rewards:
        so_far = _DECIMAL.add(so_far, written(value))
        yield time_ns, float(so_far)
