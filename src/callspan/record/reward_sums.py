"""Reward sums: the only definition of a session's reward and scores, shared by spans, totals and stores.

The reward of a session is the last one given to the session itself, else the sum of the rewards of its events; the
reward of a timestep is always the sum. Every objective other than `reward` has a score: the mean of its values, their
number, and the last value. Rewards of calls count in neither; readers add the scores of calls to those of the session.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Context, Decimal
from functools import reduce
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from callspan.record.events import EventRecord, RewardRecord

REWARD: Final = "reward"
_DECIMAL: Final = Context(prec=40, traps=[])
"""Values are added in decimal, so that 3 x 0.8 is 2.4 in any order. Infinities raise no errors."""


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
    number: int
    last: tuple[int, str, float]
    """Time (Unix nanoseconds), id and value."""

    def plus(self, other: Ratings) -> Ratings:
        """Return the sum of both."""
        total = _DECIMAL.add(self.total, other.total)
        return Ratings(total, self.number + other.number, max(self.last, other.last))

    @property
    def score(self) -> Score:
        """Mean, number and last value."""
        return Score(mean(self.total, self.number), self.number, self.last[2])


_NO_RATINGS: Final[Mapping[str, Ratings]] = MappingProxyType({})


def written(value: float) -> Decimal:
    """Return a float as its shortest decimal, 0.8, not its exact binary value, 0.8000000000000000444."""
    return Decimal(repr(float(value)))


def mean(total: Decimal, count: int) -> float:
    """Return the mean of `count` numbers from their exact sum."""
    return float(_DECIMAL.divide(total, Decimal(count)))


def mean_of(values: Sequence[float]) -> float | None:
    """Return the mean, computed in decimal; None without values."""
    return mean(exact_total(values), len(values)) if values else None


def exact_total(values: Iterable[float]) -> Decimal:
    """Return the sum, computed in decimal."""
    return reduce(_DECIMAL.add, map(written, values), Decimal(0))


class RewardSums(NamedTuple):
    """Sums of rewards. Immutable."""

    given: tuple[int, str, float] | None = None
    """The last reward given to the session itself: time (Unix nanoseconds), id, value."""
    events: Decimal | None = None
    """Sum of the events' rewards for the objective `reward`."""
    others: Mapping[str, Ratings] = _NO_RATINGS
    """The other objectives."""

    @property
    def reward(self) -> float | None:
        """The reward; None (not 0) if there is none."""
        if self.given is not None:
            return self.given[2]
        return None if self.events is None else float(self.events)

    @property
    def scores(self) -> dict[str, Score]:
        """The score of each other objective."""
        return {objective: ratings.score for objective, ratings in self.others.items()}

    @property
    def means(self) -> dict[str, float]:
        """The mean of each other objective."""
        return {objective: score.mean for objective, score in self.scores.items()}

    @property
    def by_objective(self) -> dict[str, float]:
        """The reward, if there is one, and the means."""
        return self.means if self.reward is None else self.means | {REWARD: self.reward}

    def plus(self, other: RewardSums) -> RewardSums:
        """Return the sums of both."""
        given = self.given if other.given is None or (self.given or other.given) > other.given else other.given
        events = self.events if other.events is None else _DECIMAL.add(other.events, self.events or Decimal(0))
        others = self.others
        if other.others:
            merged = dict(others)
            for objective, ratings in other.others.items():
                merged[objective] = merged[objective].plus(ratings) if objective in merged else ratings
            others = merged
        return RewardSums(given, events, others)


NO_REWARD: Final = RewardSums()


def sums_of(record: object, *, of_calls: bool = False) -> RewardSums:
    """Return the sums of one record; empty if it has no reward.

    `of_calls` includes the scores of calls; a call never contributes to the reward.
    """
    if isinstance(record, EventRecord):
        return NO_REWARD if record.reward is None else RewardSums(events=written(record.reward))
    if not isinstance(record, RewardRecord) or record.value is None:
        return NO_REWARD
    given = (record.time_ns, record.reward_id, record.value)
    if record.scope == "call" and (record.objective == REWARD or not of_calls):
        return NO_REWARD
    if record.objective != REWARD:
        return RewardSums(others={record.objective: Ratings(written(record.value), 1, given)})
    if record.scope == "session":
        return RewardSums(given=given)
    return RewardSums(events=written(record.value))


def event_rewarded(record: EventRecord | RewardRecord) -> str | None:
    """Return the id of the event to which a record gives a reward (objective `reward`); None for other records.

    An event has one such reward: its own, else the first given to it.
    """
    if isinstance(record, EventRecord):
        return None if record.reward is None else record.event_id
    is_of_event = record.scope == "event" and record.objective == REWARD and record.value is not None
    return record.event_id if is_of_event else None


def counted(
    records: Iterable[EventRecord | RewardRecord], rewarded: Collection[str] = ()
) -> Iterator[EventRecord | RewardRecord]:
    """Yield the records of a session, ordered by time, that count in its sums: one reward for each event.

    `rewarded` are the ids of further events with a reward of their own.
    """
    known = list(records)
    own = (record.event_id for record in known if isinstance(record, EventRecord) and record.reward is not None)
    rewarded = {*rewarded, *own}
    for record in known:
        event_id = event_rewarded(record)
        if isinstance(record, RewardRecord) and event_id is not None:
            if event_id in rewarded:
                continue
            rewarded.add(event_id)
        yield record


def times(value: float, number: int) -> RewardSums:
    """Return the sums of `number` event rewards of the same value."""
    return RewardSums(events=_DECIMAL.multiply(written(value), Decimal(number)))


def running(rewards: Iterable[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """Yield the time of each reward with the running sum."""
    so_far = Decimal(0)
    for time_ns, value in rewards:
        so_far = _DECIMAL.add(so_far, written(value))
        yield time_ns, float(so_far)


def total(records: Iterable[EventRecord | RewardRecord], *, of_calls: bool = False) -> RewardSums:
    """Return the sums over records, see `sums_of`."""
    sums, others = NO_REWARD, dict[str, Ratings]()
    for record in records:
        one = sums_of(record, of_calls=of_calls)
        sums = sums.plus(one._replace(others=_NO_RATINGS))
        # In place: a copy for each record would make many objectives quadratic.
        for objective, ratings in one.others.items():
            others[objective] = others[objective].plus(ratings) if objective in others else ratings
    return sums._replace(others=others)
