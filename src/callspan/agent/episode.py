"""Episode: what all sessions of one id share in this process: counters, sums, versions. Constant memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from threading import RLock
from typing import Final

from callspan.agent.running_totals import RunningTotals
from callspan.agent.span_refs import SPAN_REFS
from callspan.fail_open import value_of
from callspan.forks import renew_locks
from callspan.record.ids import new_id

_REMEMBERED: Final = 1024


class Episode:
    """The counters of one session id. Safe from any thread, and from a signal handler: its lock is reentrant."""

    __slots__ = (
        "__weakref__",
        "_indexes",
        "_lock",
        "_sequence",
        "_version",
        "id",
        "info",
        "open",
        "running",
        "start_ns",
        "steps",
    )

    def __init__(self, session_id: str, first_index: int = 0) -> None:
        self.id = session_id
        self.running = RunningTotals()
        self.start_ns: int | None = None
        self.steps = first_index
        self.open: dict[int, bool] = {}
        """The sessions of this id that are open, by their identity."""
        self.info: dict[str, object] = {}
        self._sequence = count()
        self._indexes = count(first_index)
        self._version = 0
        self._lock = RLock()
        renew_locks(self, "_lock")

    def next_index(self) -> int:
        """Return the index of the next timestep."""
        with self._lock:
            # Taken before it is stored: a session used by a signal handler in between has got a later one then.
            index = next(self._indexes)
            self.steps = max(self.steps, index + 1)
            return index

    def next_sequence(self) -> int:
        """Return the next number of the order of events and messages, from 0."""
        return next(self._sequence)

    def next_version(self) -> int:
        """Return Unix nanoseconds, higher than any returned before."""
        with self._lock:
            # Clocks are set back and have coarse ticks; a version that is not higher would be ignored by stores.
            version = max(time.time_ns(), self._version + 1)
            while version <= self._version:  # a signal handler has got one in between
                version = self._version + 1
            self._version = version
            return version

    def enter(self, session: object, now_ns: int) -> bool:
        """Count a session of this id that starts; True for the first ever here."""
        with self._lock:
            self.open[id(session)] = True
            first = self.start_ns is None
            self.start_ns = now_ns if self.start_ns is None else self.start_ns
            return first

    def exit(self, session: object) -> bool:
        """Count out a session of this id that ends, which may be repeated; True when no other is open."""
        with self._lock:
            self.open.pop(id(session), None)
            return not self.open


_known: OrderedDict[str, Episode] = OrderedDict()


def episode_of(session_id: str | None, first_index: int = 0) -> Episode:
    """Return the episode of an id of the application's, or a new one with an id of ours for None.

    The last 1024 given ids are remembered, so that a session of the same id goes on counting.
    """
    if session_id is None:
        return Episode(new_id(), first_index)
    # Each step is atomic in C: no lock to wait for, and two threads at the same moment get the same one.
    episode = _known.get(session_id) or _known.setdefault(session_id, Episode(session_id, first_index))
    value_of(partial(_known.move_to_end, session_id))  # raises where it was forgotten meanwhile
    if len(_known) > _REMEMBERED:
        _known.popitem(last=False)
    return episode


@contextmanager
def forgotten() -> Iterator[None]:
    """Know no id of before within the block, and none of the block afterwards. For tests, one at a time."""
    before = _known.copy()
    _known.clear()
    try:
        with ExitStack() as spans:
            for remembered in SPAN_REFS.values():
                spans.enter_context(remembered.forgotten())
            yield
    finally:
        _known.clear()
        _known.update(before)
