"""Episode: the counters and running totals that all sessions with one id share in this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from threading import RLock
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet, WeakValueDictionary

from callspan.agent.runtime import CALL_SPANS
from callspan.background import LRUCache
from callspan.forks import renew_locks
from callspan.record.call import FAILED, CallRecord
from callspan.record.events import Totals
from callspan.record.ids import new_id
from callspan.record.reward_sums import NO_REWARD, RewardSums, event_rewarded
from callspan.settings import Content, strictest
from callspan.spans.session import SpanRef, span_ref

if TYPE_CHECKING:
    from callspan.agent.scope import Scope

_MAX_REWARDED: Final = 1024
_MAX_OBJECTIVES: Final = 64
"""Maximum number of objectives besides `reward` in running totals; stores sum all of them."""
EPISODES: Final[WeakValueDictionary[str, Episode]] = WeakValueDictionary()
"""The episodes of open and recently ended sessions, by id."""
OPEN_STEPS: Final[WeakValueDictionary[str, Scope]] = WeakValueDictionary()
"""The open timesteps by id; their sessions keep them alive."""
STEP_SPANS: Final[LRUCache[str, SpanRef]] = LRUCache(1024)
"""The spans of recently ended timesteps by id."""
_ended: Final[LRUCache[str, Episode]] = LRUCache(2048)
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
            known = self._rewards.objectives
            if sums.objectives.keys() <= known.keys() or len(known) < _MAX_OBJECTIVES:
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
            others = rewards.means if rewards.objectives else {}
            return Totals(**self._sums, reward=rewards.reward, rewards=others)


def sums_of_call(record: CallRecord) -> dict[str, int | None]:
    """Return the sums to which an ended call adds."""
    usage = record.usage
    return {
        "calls": 1,
        "errors": int(record.outcome in FAILED),
        "model_ns": record.timing.duration_ns,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
    }


class Episode:
    """The counters of one session id. Safe from any thread and from signal handlers."""

    __slots__ = ("__weakref__", "_is_seen", "_open", "_time_ns", "id", "indices", "running", "sequence", "span")

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.running = RunningTotals()
        self.span: SpanRef | None = None
        """The span of the newest session with this id, if any was recorded."""
        self._is_seen = False
        self._open: WeakSet[Scope] = WeakSet()
        self.indices, self.sequence = count(), count()
        """The next index of a timestep, and the next sequence number of an event or message, both from 0."""
        self._time_ns = 0

    def next_time_ns(self) -> int:
        """Return the current Unix time (ns), greater than any returned before."""
        with _LOCK:
            # Clocks have coarse ticks and may be set back, and stores ignore a version that is not newer.
            self._time_ns = max(time.time_ns(), self._time_ns + 1)
            return self._time_ns

    def open_sessions(self) -> Sequence[Scope]:
        """Return the open sessions with this id."""
        with _LOCK:
            return list(self._open)

    def enter(self, session: Scope) -> bool:
        """Add a starting session; return whether this process had one with the same id before."""
        with _LOCK:
            self._open.add(session)
            is_seen, self._is_seen = self._is_seen, True
            return is_seen

    def exit(self, session: Scope) -> None:
        """Remove an ending session."""
        with _LOCK:
            self._open.discard(session)
            _ended.put(self.id, self)


def episode_of(session_id: str | None) -> Episode:
    """Return the episode of a session id; without one a new one with a generated id.

    Open sessions keep their episodes alive. The episodes of the last 2,048 ended sessions are kept too, so that a
    session with the same id continues counting.
    """
    session_id = session_id or new_id()
    with _LOCK:
        episode = EPISODES.get(session_id)
        if episode is None:
            episode = EPISODES[session_id] = Episode(session_id)
        return episode


def open_scopes(session_id: str | None, timestep_id: str | None) -> list[Scope]:
    """Return the open timestep and sessions with these ids in this process, the timestep first."""
    step, episode = OPEN_STEPS.get(timestep_id or ""), EPISODES.get(session_id or "")
    return [*([] if step is None else [step]), *([] if episode is None else episode.open_sessions())]


def open_level(session_id: str | None, timestep_id: str | None = None) -> Content:
    """Return the strictest content level of the open timestep and sessions with these ids."""
    return strictest(*(one._level for one in open_scopes(session_id, timestep_id)))


def span_of_session(session_id: str | None) -> SpanRef | None:
    """Return the span of the newest session with an id, if this process knows it."""
    episode = EPISODES.get(session_id or "")
    return None if episode is None else episode.span


def span_of_step(timestep_id: str | None) -> SpanRef | None:
    """Return the span of a timestep, if this process knows it."""
    step = OPEN_STEPS.get(timestep_id or "")
    return STEP_SPANS.get(timestep_id or "") if step is None else span_ref(step._span, step._place)


@contextmanager
def forgotten() -> Iterator[None]:
    """Context manager that starts without any known ids and restores the previous ones. For tests."""
    before = dict(EPISODES)
    EPISODES.clear()
    try:
        with _ended.forgotten(), STEP_SPANS.forgotten(), CALL_SPANS.forgotten():
            yield
    finally:
        EPISODES.clear()
        EPISODES.update(before)
