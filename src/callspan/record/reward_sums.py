"""Reward sums: the one definition of how rewards are summed, for spans, totals and stores.

The reward of a session is the last one given to the session itself, else the sum of its events' rewards of the
objective `reward`; that of a timestep is always the sum. Other objectives are summed separately. A call's reward
counts in neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from callspan.record.events import EventRecord, RewardRecord

REWARD: Final = "reward"
MAX_OBJECTIVES: Final = 64
"""Maximum number of objectives besides `reward` that are summed; later ones are ignored."""
_NO_OTHERS: Final[Mapping[str, float]] = MappingProxyType({})


class RewardSums(NamedTuple):
    """Sums of rewards. Immutable."""

    given: tuple[int, str, float] | None = None
    """The last reward given to the session itself: time (Unix nanoseconds), id, value."""
    events: float | None = None
    """Sum over events of the objective `reward`; None: none."""
    others: Mapping[str, float] = _NO_OTHERS
    """Sums by objective, without `reward`."""

    @property
    def reward(self) -> float | None:
        """The reward; None (not 0) if there is none."""
        return self.events if self.given is None else self.given[2]

    def plus(self, other: RewardSums) -> RewardSums:
        """Return the sums of both."""
        given = self.given if other.given is None or (self.given or other.given) > other.given else other.given
        events = self.events if other.events is None else other.events + (self.events or 0.0)
        others = self.others
        if other.others:
            merged = dict(others)
            for objective, value in other.others.items():
                if objective in merged or len(merged) < MAX_OBJECTIVES:
                    merged[objective] = merged.get(objective, 0.0) + value
            others = merged
        return RewardSums(given, events, others)


NO_REWARD: Final = RewardSums()


def sums_of(record: object) -> RewardSums:
    """Return the sums of one record; empty if it is not a reward, has no value, or is a call's reward."""
    if isinstance(record, EventRecord):
        return NO_REWARD if record.reward is None else RewardSums(events=record.reward)
    if not isinstance(record, RewardRecord) or record.value is None or record.scope == "call":
        return NO_REWARD
    if record.objective != REWARD:
        return RewardSums(others={record.objective: record.value})
    if record.scope == "session":
        return RewardSums(given=(record.time_ns, record.reward_id, record.value))
    return RewardSums(events=record.value)


def event_rewarded(record: EventRecord | RewardRecord) -> str | None:
    """Return the id of the event whose reward (objective `reward`) this is; None for other records.

    An event has one such reward: its own, else the first given to it.
    """
    if isinstance(record, EventRecord):
        return None if record.reward is None else record.event_id
    is_of_event = record.scope == "event" and record.objective == REWARD and record.value is not None
    return record.event_id if is_of_event else None


def counted(records: Iterable[EventRecord | RewardRecord]) -> Iterator[EventRecord | RewardRecord]:
    """Yield the records that count in the sums, from those of a session in order of time."""
    known = list(records)
    rewarded = {record.event_id for record in known if isinstance(record, EventRecord) and record.reward is not None}
    for record in known:
        event_id = event_rewarded(record)
        if isinstance(record, RewardRecord) and event_id is not None:
            if event_id in rewarded:
                continue
            rewarded.add(event_id)
        yield record


def total(records: Iterable[EventRecord | RewardRecord]) -> RewardSums:
    """Return the sums over records that count."""
    sums = NO_REWARD
    for record in records:
        sums = sums.plus(sums_of(record))
    return sums
