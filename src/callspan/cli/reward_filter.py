"""Reward filter: a store limited to the sessions with a minimum reward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from itertools import chain, islice
from typing import Final

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import RewardRecord, TimestepRecord
from callspan.stores.base import (
    MOST_CALLS,
    CallFilter,
    Event,
    History,
    Reader,
    SessionFilter,
    SessionSummary,
    Stored,
    Summary,
    Times,
)
from callspan.stores.protocol import read_records

_EVERY: Final = CallFilter()
_ANY: Final = SessionFilter()


class RewardFilteredReader:
    """A `Reader` of any store, limited to sessions with a minimum reward and their calls."""

    def __init__(self, reader: Reader, least: float) -> None:
        self.name = reader.name
        self._reader = reader
        self._least = least

    @cached_property
    def _chosen(self) -> frozenset[str]:
        return frozenset(summary.session.session_id for summary in self.sessions())

    def calls(self, which: CallFilter = _EVERY) -> Iterator[CallRecord]:
        """Yield the calls of the sessions with enough reward."""
        end = None if which.limit is None else which.offset + which.limit
        found = self._reader.calls(msgspec.structs.replace(which, limit=None, offset=0))
        yield from islice((call for call in found if call.place.session_id in self._chosen), which.offset, end)

    def call(self, call_id: str) -> CallRecord | None:
        """Return one call, regardless of its session's reward."""
        return self._reader.call(call_id)

    def history(self, call: CallRecord, *, limit: int = MOST_CALLS) -> History:
        """Return the recorded calls before one, regardless of their sessions' rewards."""
        return self._reader.history(call, limit=limit)

    def count_calls(self, which: CallFilter = _EVERY) -> int:
        """Return how many calls `calls` would yield without its limit."""
        found = self._reader.summary("session", which, latencies=False)
        return sum(summary.calls for summary in found if summary.key in self._chosen)

    def sessions(
        self, *, since_ns: int | None = None, limit: int | None = None, which: SessionFilter = _ANY
    ) -> Iterator[SessionSummary]:
        """Yield the sessions with enough reward, newest first."""
        found = self._reader.sessions(since_ns=since_ns, which=which)
        yield from islice((one for one in found if one.reward is not None and one.reward >= self._least), limit)

    def session(self, session_id: str) -> SessionSummary | None:
        """Return one session, regardless of its reward."""
        return self._reader.session(session_id)

    def timestep(self, timestep_id: str) -> TimestepRecord | None:
        """Return one timestep, regardless of its session's reward."""
        return self._reader.timestep(timestep_id)

    def timesteps(self, session_id: str) -> Iterator[TimestepRecord]:
        """Yield the timesteps of a session by their start."""
        return self._reader.timesteps(session_id)

    def step_positions(self, session_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the position of each timestep of these sessions."""
        return self._reader.step_positions(session_ids)

    def events(self, session_id: str) -> Iterator[Event]:
        """Yield events, messages and rewards of a session in the order they happened."""
        return self._reader.events(session_id)

    def rewards(self, call: CallRecord | None = None, *, unjoined: bool = False) -> Iterator[RewardRecord]:
        """Yield rewards, newest first, regardless of those of their sessions."""
        return self._reader.rewards(call, unjoined=unjoined)

    def stored(self, kind: str, ids: Sequence[str]) -> Iterator[Stored]:
        """Yield the records of a kind with one of these whole ids, regardless of rewards."""
        return self._reader.stored(kind, ids)

    def summary(
        self, by: str | Sequence[str], which: CallFilter = _EVERY, *, latencies: bool = True
    ) -> Iterator[Summary]:
        """Yield sums over the calls of the sessions with enough reward, largest number of calls first."""
        with closing(self._calls_alone(which)) as reader:
            yield from reader.summary(by, latencies=latencies)

    def times(self, which: CallFilter = _EVERY) -> Iterator[Times]:
        """Yield the times of the calls that succeeded, in sessions that earned enough."""
        with closing(self._calls_alone(which)) as reader:
            yield from reader.times()

    def _calls_alone(self, which: CallFilter) -> Reader:
        """Return a reader of these calls, without bodies, and the sessions that may have their labels."""
        slim = msgspec.structs.replace(which, content="none")
        return read_records(self.name, lambda: chain(self.calls(slim), (one.session for one in self.sessions())))

    def close(self) -> None:
        """Close the store."""
        self._reader.close()
