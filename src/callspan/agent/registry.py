"""Registry: the sessions, timesteps and calls that this process knows by id, open and recently ended.

Rewards, feedback and continued sessions name their target by id, often after its end. Open scopes are found as long as
the application or their context keeps them; of ended ones, counters and spans are kept in tables of bounded size.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from threading import RLock
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet, WeakValueDictionary

from callspan.agent.totals import RunningTotals
from callspan.record.ids import CallIdCell, new_id
from callspan.runtime.forks import renew_locks
from callspan.runtime.lock_free import LRUCache
from callspan.settings import Content, strictest
from callspan.spans.session import SpanRef, span_ref

if TYPE_CHECKING:
    from callspan.agent.loops import Loop
    from callspan.agent.tree import Node

_LOCK: Final = RLock()
"""Held briefly; reentrant, because a signal handler may interrupt the thread that holds it."""
renew_locks(sys.modules[__name__], "_LOCK")


class Episode:
    """The counters and totals that all sessions with one id share. Safe from any thread and from signal handlers."""

    __slots__ = (
        "__weakref__", "_begun_ns", "_ended_ns", "_is_seen", "_open", "_time_ns", "id", "indices", "running",
        "sequence", "span",
    )  # fmt: skip

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.running = RunningTotals()
        self.span: SpanRef | None = None
        """The span of the newest session with this id, if any was recorded."""
        self._is_seen = False
        self._open: WeakSet[Node] = WeakSet()
        self.indices, self.sequence = count(), count()
        """The next index of a timestep, and the next sequence number of an event or message, both from 0."""
        self._time_ns = self._begun_ns = self._ended_ns = 0

    def next_time_ns(self) -> int:
        """Return the current Unix time (ns), greater than any returned before."""
        with _LOCK:
            # Clocks have coarse ticks and may be set back, and stores ignore a version that is not newer.
            self._time_ns = max(time.time_ns(), self._time_ns + 1)
            return self._time_ns

    def begin_ns(self, start_ns: int) -> int:
        """Return when a session begins by the order of this process: after each end before it, whatever the clock says.

        Stores compare it with the end, to tell whether the session was begun again.
        """
        with _LOCK:
            begun_ns = max(start_ns, self._ended_ns + 1)
            self._begun_ns = max(self._begun_ns, begun_ns)
            return begun_ns

    def end_ns(self, end_ns: int) -> int:
        """Return when a session ends by the order of this process: not before it was last begun."""
        with _LOCK:
            self._ended_ns = max(self._ended_ns, end_ns, self._begun_ns)
            return max(end_ns, self._begun_ns)

    def open_sessions(self) -> Sequence[Node]:
        """Return the open sessions with this id."""
        with _LOCK:
            return list(self._open)

    def enter(self, session: Node) -> bool:
        """Add a starting session; return whether this process had one with the same id before."""
        with _LOCK:
            self._open.add(session)
            is_seen, self._is_seen = self._is_seen, True
            return is_seen

    def exit(self, session: Node) -> None:
        """Remove an ending session."""
        with _LOCK:
            self._open.discard(session)
            REGISTRY.ended_episodes.put(self.id, self)


class Registry:
    """The tables of this process. Lock-free but for episodes, as its tables are."""

    def __init__(self) -> None:
        self.call_ids: dict[int, tuple[weakref.ref[Any], CallIdCell]] = {}
        """The call id of each live object returned by a call, by the object's `id()`."""
        self.open_steps: WeakValueDictionary[str, Node] = WeakValueDictionary()
        """The open timesteps by id; their sessions keep them alive."""
        self.loops: WeakValueDictionary[int, Loop] = WeakValueDictionary()
        """The running tool loops, by the `id()` of their runner."""
        self._begin()

    def _begin(self) -> None:
        self.episodes: WeakValueDictionary[str, Episode] = WeakValueDictionary()
        """The episodes of open and recently ended sessions, by id."""
        self.ended_episodes: LRUCache[str, Episode] = LRUCache(2048)
        self.step_spans: LRUCache[str, SpanRef] = LRUCache(1024)
        """The spans of recently ended timesteps by id."""
        self.call_spans: LRUCache[str, SpanRef] = LRUCache(4096)
        """The spans of recent calls by call id, for feedback and later answers."""
        self.call_requests: LRUCache[str, CallIdCell] = LRUCache(4096)
        """The ids of recent calls with dicts as answers, by the provider's id of the request."""

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Context manager that starts without the ids of ended scopes and of sessions, and restores them. For tests."""
        before = self.episodes, self.ended_episodes, self.step_spans, self.call_spans, self.call_requests
        self._begin()
        try:
            yield
        finally:
            self.episodes, self.ended_episodes, self.step_spans, self.call_spans, self.call_requests = before


REGISTRY: Final = Registry()


def episode_of(session_id: str | None) -> Episode:
    """Return the episode of a session id; without one a new one with a generated id.

    Open sessions keep their episodes alive. The episodes of the last 2,048 ended sessions are kept too, so that a
    session with the same id continues counting.
    """
    session_id = session_id or new_id()
    with _LOCK:
        episode = REGISTRY.episodes.get(session_id)
        if episode is None:
            episode = REGISTRY.episodes[session_id] = Episode(session_id)
        return episode


def open_scopes(session_id: str | None, timestep_id: str | None) -> list[Node]:
    """Return the open timestep and sessions with these ids in this process, the timestep first."""
    step, episode = REGISTRY.open_steps.get(timestep_id or ""), REGISTRY.episodes.get(session_id or "")
    return [*([] if step is None else [step]), *([] if episode is None else episode.open_sessions())]


def open_level(session_id: str | None, timestep_id: str | None = None) -> Content:
    """Return the strictest content level of the open timestep and sessions with these ids."""
    return strictest(*(scope.level for scope in open_scopes(session_id, timestep_id)))


def span_of_session(session_id: str | None) -> SpanRef | None:
    """Return the span of the newest session with an id, if this process knows it."""
    episode = REGISTRY.episodes.get(session_id or "")
    return None if episode is None else episode.span


def span_of_step(timestep_id: str | None) -> SpanRef | None:
    """Return the span of a timestep, if this process knows it."""
    step = REGISTRY.open_steps.get(timestep_id or "")
    return REGISTRY.step_spans.get(timestep_id or "") if step is None else span_ref(step.span, step.place)


isolated_ids = REGISTRY.isolated
"""Context manager of a process that knows no ids. For tests."""
