"""Totals: running sums of calls, tools, timesteps and rewards, for the records of open sessions and timesteps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from threading import RLock
from typing import Any, Final

from callspan.record.call import FAILED, CallRecord
from callspan.record.events import Totals
from callspan.record.reward_sums import NO_REWARD, RewardSums, event_rewarded
from callspan.runtime.forks import renew_locks

_MAX_REWARDED: Final = 1024
_MAX_OBJECTIVES: Final = 64
"""Maximum number of objectives besides `reward` in running totals; stores sum all of them."""
_LOCK: Final = RLock()
"""Held briefly; reentrant, because a signal handler may interrupt the thread that holds it."""
renew_locks(sys.modules[__name__], "_LOCK")


class RunningTotals:
    """Sums of calls, tools, timesteps and rewards. Thread-safe."""

    __slots__ = ("_rewarded", "_rewards", "_sums")

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}
        self._rewards = NO_REWARD
        self._rewarded: dict[str, None] = {}
        """Ids of the newest events with a reward, in order."""

    def add(self, sums: Mapping[str, int | None]) -> None:
        """Add to sums by their names in `Totals`; None is unknown."""
        with _LOCK:
            for name, amount in sums.items():
                if amount is not None:
                    self._sums[name] = self._sums.get(name, 0) + amount

    def add_reward(self, sums: RewardSums) -> None:
        """Add the sums of a record."""
        with _LOCK:
            objectives = self._rewards.objectives
            if sums.objectives.keys() <= objectives.keys() or len(objectives) < _MAX_OBJECTIVES:
                self._rewards = self._rewards.plus(sums)

    def is_counted(self, record: Any) -> bool:
        """Return whether a reward counts in the session: False if its event already has one. Call once per reward.

        Only the newest 1024 events are known.
        """
        event_id = event_rewarded(record)
        if event_id is None:
            return True
        with _LOCK:
            if event_id in self._rewarded:
                return False
            self._rewarded[event_id] = None
            if len(self._rewarded) > _MAX_REWARDED:
                del self._rewarded[next(iter(self._rewarded))]
        return True

    def totals(self) -> Totals:
        """Return the sums so far."""
        with _LOCK:
            rewards = self._rewards
            means = rewards.means if rewards.objectives else {}
            return Totals(**self._sums, reward=rewards.reward, rewards=means)


def sums_of_call(record: CallRecord) -> dict[str, int | None]:
    """Return what an ended call adds to each sum."""
    usage = record.usage
    return {
        "calls": 1,
        "errors": int(record.outcome in FAILED),
        "model_ns": record.timing.duration_ns,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
    }
