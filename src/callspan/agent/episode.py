"""Episode: the counters, running totals and times of writing that all sessions of one id share in this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from threading import RLock
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar
from weakref import WeakSet, WeakValueDictionary

from callspan.agent.runtime import CALL_SPANS, SpanRef, span_ref
from callspan.background import LRUCache
from callspan.fail_open import value_of
from callspan.forks import renew_locks
from callspan.record.call import FAILED, CallRecord
from callspan.record.events import EventRecord, RewardRecord, Totals
from callspan.record.ids import new_id
from callspan.record.reward_sums import NO_REWARD, RewardSums, event_rewarded, sums_of
from callspan.settings import Content, strictest

if TYPE_CHECKING:
    from callspan.agent.scope import Scope

_Sums: TypeAlias = tuple[int, int, int, int, int | None, int | None, int, int]
"""The fields of `Totals` but rewards, in their order."""

_S = TypeVar("_S")
_NOTHING: Final[_Sums] = (0, 0, 0, 0, None, None, 0, 0)
_REMEMBERED: Final = 1024
EPISODES: Final[WeakValueDictionary[str, Episode]] = WeakValueDictionary()
"""The episodes of open sessions, and of those in `_ended`, by id."""
OPEN_STEPS: Final[WeakValueDictionary[str, Scope]] = WeakValueDictionary()
"""The open timesteps by id; their sessions hold them."""
STEP_SPANS: Final[LRUCache[str, SpanRef]] = LRUCache(1024)
"""The spans of recently ended timesteps by id."""
_ended: Final[LRUCache[str, Episode]] = LRUCache(2048)


class RunningTotals:
    """Adds up calls, tools, timesteps and rewards from any thread; `totals()` is the sum so far.

    Lock-free, because a signal handler may interrupt the thread that holds a lock, see `_Cells`.
    """

    __slots__ = ("_counts", "_rewarded", "_rewards")

    def __init__(self) -> None:
        self._counts = _Cells(_NOTHING, _plus)
        self._rewards = _Cells(NO_REWARD, RewardSums.plus)
        self._rewarded: dict[str, object] = {}
        """Ids of the newest events of the session that have a reward."""

    def add_call(self, record: CallRecord) -> None:
        """Count a call that has ended."""
        usage, failed = record.usage, record.outcome in FAILED
        read, written = (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)
        self._counts.add((1, failed, 0, 0, read, written, record.timing.duration_ns or 0, 0))

    def add_tool(self, duration_ns: int) -> None:
        """Count a tool that has run for `duration_ns`."""
        self._counts.add((0, 0, 1, 0, None, None, 0, duration_ns))

    def add_timesteps(self, number: int) -> None:
        """Count timesteps that have begun."""
        self._counts.add((0, 0, 0, number, None, None, 0, 0))

    def add_reward(self, record: EventRecord | RewardRecord) -> None:
        """Add a reward; one without a value adds nothing, and is not 0."""
        sums = sums_of(record)
        if sums is not NO_REWARD:
            self._rewards.add(sums)

    def is_counted(self, record: EventRecord | RewardRecord) -> bool:
        """Return whether a reward counts in the session: False if its event already has one. Call once per reward.

        The newest 1024 events are remembered.
        """
        event_id = event_rewarded(record)
        if event_id is None:
            return True
        known, token = self._rewarded, object()
        if len(known) >= _REMEMBERED:
            value_of(self._forget_oldest)  # raises if another thread changes it at the same time
        return known.setdefault(event_id, token) is token

    def _forget_oldest(self) -> None:
        self._rewarded.pop(next(iter(self._rewarded)), None)

    def totals(self) -> Totals:
        """Return the sums so far."""
        calls, errors, tools, timesteps, read, written, model_ns, tool_ns = self._counts.sum()
        rewards = self._rewards.sum()
        return Totals(
            calls=calls,
            errors=errors,
            tools=tools,
            timesteps=timesteps,
            input_tokens=read,
            output_tokens=written,
            reward=rewards.reward,
            rewards=rewards.means if rewards.others else {},
            model_ns=model_ns,
            tool_ns=tool_ns,
        )


class _Cells(Generic[_S]):
    """A sum that any thread may add to: each addition takes a free cell and replaces its content in one step.

    An interrupt may leak a cell but never loses an amount.
    """

    __slots__ = ("_cells", "_free", "_nothing", "_plus")

    def __init__(self, nothing: _S, plus: Callable[[_S, _S], _S]) -> None:
        self._nothing = nothing
        self._plus = plus
        self._cells: list[list[_S]] = []
        """All cells; as many as were ever in use at the same time."""
        self._free: list[list[_S]] = []

    def add(self, amount: _S) -> None:
        cell = self._take()
        cell[0] = self._plus(cell[0], amount)
        self._free.append(cell)

    def sum(self) -> _S:
        """Return the sum so far."""
        cells = list(self._cells)
        found = cells[0][0] if cells else self._nothing
        for cell in cells[1:]:
            found = self._plus(found, cell[0])
        return found

    def _take(self) -> list[_S]:
        try:
            return self._free.pop() if self._free else self._new_cell()
        except IndexError:  # another thread has taken it
            return self._new_cell()

    def _new_cell(self) -> list[_S]:
        cell = [self._nothing]
        self._cells.append(cell)
        return cell


def _plus(left: _Sums, right: _Sums) -> _Sums:
    return (
        left[0] + right[0],
        left[1] + right[1],
        left[2] + right[2],
        left[3] + right[3],
        left[4] if right[4] is None else _sum(left[4], right[4]),
        left[5] if right[5] is None else _sum(left[5], right[5]),
        left[6] + right[6],
        left[7] + right[7],
    )


def _sum(left: int | None, right: int | None) -> int | None:
    return left if right is None else right if left is None else left + right


class Episode:
    """The counters of one session id. Safe from any thread, and from a signal handler: its lock is reentrant."""

    __slots__ = (
        "__weakref__",
        "_indexes",
        "_lock",
        "_open",
        "_sequence",
        "_time_ns",
        "id",
        "info",
        "running",
        "span",
        "start_ns",
        "steps",
    )

    def __init__(self, session_id: str, first_index: int = 0) -> None:
        self.id = session_id
        self.running = RunningTotals()
        self.start_ns: int | None = None
        self.steps = first_index
        self.span: SpanRef | None = None
        """The span of the newest session of this id; None where nothing records."""
        self._open: WeakSet[Scope] = WeakSet()
        self.info: dict[str, object] = {}
        self._sequence = count()
        self._indexes = count(first_index)
        self._time_ns = 0
        self._lock = RLock()
        renew_locks(self, "_lock")

    def next_index(self) -> int:
        """Return the index of the next timestep."""
        with self._lock:
            # Taken before it is stored: a signal handler that uses the session in between gets a later one.
            index = next(self._indexes)
            self.steps = max(self.steps, index + 1)
            return index

    def next_sequence(self) -> int:
        """Return the next sequence number of events and messages, from 0."""
        return next(self._sequence)

    def next_time_ns(self) -> int:
        """Return Unix nanoseconds, higher than any returned before."""
        with self._lock:
            # Clocks have coarse ticks and may be set back; stores ignore a version that is not later.
            time_ns = max(time.time_ns(), self._time_ns + 1)
            while time_ns <= self._time_ns:  # a signal handler took a time in between
                time_ns = self._time_ns + 1
            self._time_ns = time_ns
            return time_ns

    def open_sessions(self) -> Sequence[Scope]:
        """Return the open sessions of this id."""
        with self._lock:
            return list(self._open)

    def enter(self, session: Scope, now_ns: int) -> bool:
        """Add a session of this id that starts; True for the first in this process."""
        with self._lock:
            self._open.add(session)
            first = self.start_ns is None
            self.start_ns = now_ns if self.start_ns is None else self.start_ns
            return first

    def exit(self, session: Scope) -> bool:
        """Remove a session of this id that ends (may be repeated); True if no other is open."""
        with self._lock:
            self._open.discard(session)
            _ended.put(self.id, self)
            return not self._open


_LOCK: Final = RLock()
renew_locks(sys.modules[__name__], "_LOCK")


def episode_of(session_id: str | None, first_index: int = 0) -> Episode:
    """Return the episode of an id; for None a new one with a generated id.

    A session holds its episode. The newest 2,048 of ended sessions are kept, so that a session of the same id
    continues counting.
    """
    if session_id is None:
        session_id = new_id()
    with _LOCK:
        episode = EPISODES.get(session_id)
        if episode is None:
            episode = EPISODES[session_id] = Episode(session_id, first_index)
        return episode


def open_scopes(session_id: str | None, timestep_id: str | None) -> list[Scope]:
    """Return the timestep and the sessions of these ids that are open in this process, the timestep first."""
    step = None if timestep_id is None else OPEN_STEPS.get(timestep_id)
    episode = None if session_id is None else EPISODES.get(session_id)
    return [*([] if step is None else [step]), *([] if episode is None else episode.open_sessions())]


def open_level(session_id: str | None, timestep_id: str | None = None) -> Content:
    """Return the strictest content level of these that are open."""
    return strictest(*(one._level for one in open_scopes(session_id, timestep_id)))


def span_of_session(session_id: str | None) -> SpanRef | None:
    """Return where the span of the newest session of an id is, as far as this process knows."""
    episode = None if session_id is None else EPISODES.get(session_id)
    return None if episode is None else episode.span


def span_of_step(timestep_id: str | None) -> SpanRef | None:
    """Return where the span of a timestep is, as far as this process knows."""
    if timestep_id is None:
        return None
    step = OPEN_STEPS.get(timestep_id)
    return STEP_SPANS.get(timestep_id) if step is None else span_ref(step._span, step._place)


@contextmanager
def forgotten() -> Iterator[None]:
    """Context manager: start with no remembered ids and discard those of the block afterwards. For tests."""
    before = dict(EPISODES)
    EPISODES.clear()
    try:
        with _ended.forgotten(), STEP_SPANS.forgotten(), CALL_SPANS.forgotten():
            yield
    finally:
        EPISODES.clear()
        EPISODES.update(before)
