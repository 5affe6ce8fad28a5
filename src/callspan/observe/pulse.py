"""Pulse: when the chunks of a stream came."""

from __future__ import annotations


class Pulse:
    """Times of chunks as monotonic nanoseconds; a few integers, however long the stream."""

    __slots__ = ("chunks", "content_ns", "first_ns", "largest_gap_ns", "last_ns")

    def __init__(self) -> None:
        self.chunks = 0
        self.first_ns: int | None = None
        self.content_ns: int | None = None
        self.last_ns: int | None = None
        self.largest_gap_ns: int | None = None

    def chunk(self, now_ns: int, has_content: bool) -> None:
        """Note a chunk that came at `now_ns`, and whether it carried content."""
        self.chunks += 1
        last, self.last_ns = self.last_ns, now_ns
        if last is None:
            self.first_ns = now_ns
        elif self.largest_gap_ns is None or now_ns - last > self.largest_gap_ns:
            self.largest_gap_ns = now_ns - last
        if has_content and self.content_ns is None:
            self.content_ns = now_ns

    @staticmethod
    def since(moment_ns: int | None, zero_ns: int) -> int | None:
        """Return a moment as an offset from `zero_ns`, None where there is none."""
        return None if moment_ns is None else moment_ns - zero_ns
