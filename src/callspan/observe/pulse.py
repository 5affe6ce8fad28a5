"""Pulse: when the chunks of a stream came."""

from __future__ import annotations

from operator import sub
from typing import Final

MANY: Final = 64
"""So many times are looked at in one go: what is done with every chunk is to note one."""


class Pulse:
    """Times of chunks as monotonic nanoseconds; few integers, however long the stream."""

    __slots__ = ("_before", "_chunks", "_gap_ns", "content_ns", "first_ns", "newest")

    def __init__(self) -> None:
        self._before: int | None = None
        self._chunks = 0
        self._gap_ns = -1
        self.newest: list[int] = []
        """When the last chunks came. The call appends there, and has them taken in where there are `MANY`."""
        self.first_ns: int | None = None
        self.content_ns: int | None = None
        """When the first chunk with content came."""

    def take(self) -> None:
        """Take in the newest times."""
        times = self.newest
        if not times:
            return
        if self._before is None:
            self._before = self.first_ns = times[0]
            gaps = map(sub, times[1:], times)
        else:
            gaps = map(sub, times, [self._before, *times])
        self._gap_ns = max(self._gap_ns, *gaps, -1)
        self._chunks += len(times)
        self._before = times[-1]
        times.clear()

    @property
    def chunks(self) -> int:
        """Return how many chunks have come."""
        return self._chunks + len(self.newest)

    @property
    def last_ns(self) -> int | None:
        """Return when the last chunk came; None before the first."""
        return self.newest[-1] if self.newest else self._before

    @property
    def largest_gap_ns(self) -> int | None:
        """Return the longest time between two chunks that were taken in; None before there are two."""
        return None if self._gap_ns < 0 else self._gap_ns

    @staticmethod
    def since(moment_ns: int | None, zero_ns: int) -> int | None:
        """Return a moment as an offset from `zero_ns`, None where there is none."""
        return None if moment_ns is None else moment_ns - zero_ns
