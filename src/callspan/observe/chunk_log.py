"""Chunk log: when the first chunks of a stream came, one by one, for those who ask for it."""

from __future__ import annotations

from collections.abc import Callable

from callspan.observe.chunk_timing import ChunkTiming
from callspan.providers.json_readers import integer, objects, text
from callspan.record.call import ChunkNote


class ChunkLog:
    """Stands before an accumulator and notes what passes, up to a limit. Not safe from several threads at once."""

    def __init__(self, limit: int, add: Callable[[object], bool], timing: ChunkTiming, zero_ns: int) -> None:
        """`zero_ns` is when the call started; `timing` knows when the chunk that is added came."""
        self.notes: list[ChunkNote] = []
        self._limit = limit
        self._add = add
        self._timing = timing
        self._zero_ns = zero_ns

    def add(self, chunk: object) -> bool:
        """Add the chunk; return True if it carried content."""
        content = self._add(chunk)
        if len(self.notes) < self._limit:
            offset_ns = self._timing.since(self._timing.last_ns, self._zero_ns) or 0
            note = ChunkNote(offset_ns=offset_ns, event=text(chunk, "type"), choice=_choice(chunk), content=content)
            self.notes.append(note)
        return content


def _choice(chunk: object) -> int | None:
    """Which choice (chat), output item (Responses) or content block (Messages) a chunk belongs to."""
    told = (
        integer(next(objects(chunk, "choices"), None), "index"),
        integer(chunk, "output_index"),
        integer(chunk, "index"),
    )
    return next((index for index in told if index is not None), None)
