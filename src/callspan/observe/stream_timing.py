"""Stream timing: the number and times of the chunks of a call, and a log of the first ones."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from callspan.providers.wire_json import integer, objects, text
from callspan.record.call import ChunkNote, Timing


class ChunkTiming:
    """Number and times of chunks, in monotonic nanoseconds; constant size for streams of any length.

    Written by the call.
    """

    # No msgspec struct: setting a field of one takes ten times as long.
    __slots__ = ("chunks", "content_ns", "first_ns", "gap_ns", "last_ns")

    def __init__(self) -> None:
        self.chunks = 0
        self.first_ns: int | None = None
        self.content_ns: int | None = None
        """Time of the first chunk with content."""
        self.last_ns: int | None = None
        self.gap_ns = -1
        """The longest time between two chunks; -1 before there are two."""

    def added_to(self, timing: Timing, zero_ns: int) -> Timing:
        """Return the times of a call that began at `zero_ns` (monotonic), with those of its chunks."""
        first_ns, content_ns, last_ns = self.first_ns, self.content_ns, self.last_ns
        return msgspec.structs.replace(
            timing,
            first_chunk_ns=None if first_ns is None else first_ns - zero_ns,
            first_token_ns=None if content_ns is None else content_ns - zero_ns,
            last_chunk_ns=None if last_ns is None else last_ns - zero_ns,
            largest_gap_ns=None if self.gap_ns < 0 else self.gap_ns,
        )


class ChunkLog:
    """Wraps an accumulator's `add` and records the first chunks, up to a limit. Not thread-safe."""

    def __init__(self, limit: int, add: Callable[[object], bool], timing: ChunkTiming, zero_ns: int) -> None:
        """`zero_ns` is the start of the call; `timing` has the arrival time of the chunk being added."""
        self.notes: list[ChunkNote] = []
        self._limit = limit
        self._add = add
        self._timing = timing
        self._zero_ns = zero_ns

    def add(self, chunk: object) -> bool:
        """Add the chunk; return True if it carried content."""
        content = self._add(chunk)
        if len(self.notes) < self._limit:
            last_ns = self._timing.last_ns
            offset_ns = 0 if last_ns is None else last_ns - self._zero_ns
            note = ChunkNote(offset_ns=offset_ns, event=text(chunk, "type"), choice=_choice(chunk), content=content)
            self.notes.append(note)
        return content


def _choice(chunk: object) -> int | None:
    """Return the index of a chunk's choice (chat), output item (Responses) or content block (Messages)."""
    indexes = (
        integer(next(objects(chunk, "choices"), None), "index"),
        integer(chunk, "output_index"),
        integer(chunk, "index"),
    )
    return next((index for index in indexes if index is not None), None)
