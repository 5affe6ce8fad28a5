"""Chunk timing: when the chunks of a stream came."""

from __future__ import annotations

from callspan.observe.attempts import AttemptLog
from callspan.record.call import Timing


class ChunkTiming:
    """Times of chunks as monotonic nanoseconds; a few integers, however long the stream. The call writes them."""

    __slots__ = ("chunks", "content_ns", "first_ns", "gap_ns", "last_ns")

    def __init__(self) -> None:
        self.chunks = 0
        self.first_ns: int | None = None
        self.content_ns: int | None = None
        """When the first chunk with content came."""
        self.last_ns: int | None = None
        self.gap_ns = -1
        """The longest time between two chunks; -1 before there are two."""

    @staticmethod
    def since(moment_ns: int | None, zero_ns: int) -> int | None:
        """Return a moment as an offset from `zero_ns`, None where there is none."""
        return None if moment_ns is None else moment_ns - zero_ns

    def timing(self, start_ns: int, zero_ns: int, duration_ns: int, attempts: AttemptLog) -> Timing:
        """Return the times of a call that began at `start_ns` (Unix) and `zero_ns` (monotonic)."""
        return Timing(
            start_ns=start_ns,
            duration_ns=duration_ns,
            answer_ns=attempts.answer_start_ns,
            headers_ns=attempts.last_headers_ns,
            first_chunk_ns=self.since(self.first_ns, zero_ns),
            first_token_ns=self.since(self.content_ns, zero_ns),
            last_chunk_ns=self.since(self.last_ns, zero_ns),
            largest_gap_ns=None if self.gap_ns < 0 else self.gap_ns,
        )
