"""Reward filter: a store limited to the sessions with a minimum reward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from itertools import chain, islice
from typing import Any, Final

import msgspec

from callspan.record.call import CallRecord
from callspan.stores.base import (
    CallFilter,
    Reader,
    SessionFilter,
    SessionSummary,
    Summary,
    Times,
)
from callspan.stores.protocol import read_records

_EVERY: Final = CallFilter()
_ANY: Final = SessionFilter()


class RewardFilteredReader:
    """A `Reader` of any store whose lists and sums have only sessions with a minimum reward, and their calls."""

    def __init__(self, reader: Reader, least: float) -> None:
        self._reader = reader
        self._least = least

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of any method of a reader
        """Return the store's own reader of a single record, regardless of its session's reward."""
        return getattr(self._reader, name)

    @cached_property
    def _chosen(self) -> frozenset[str]:
        return frozenset(summary.session.session_id for summary in self.sessions())

    def calls(self, which: CallFilter = _EVERY) -> Iterator[CallRecord]:
        """Yield the calls of the sessions with enough reward."""
        end = None if which.limit is None else which.offset + which.limit
        found = self._reader.calls(msgspec.structs.replace(which, limit=None, offset=0))
        yield from islice((call for call in found if call.place.session_id in self._chosen), which.offset, end)

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
