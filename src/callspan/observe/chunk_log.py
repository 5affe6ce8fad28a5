"""Chunk log: the first chunks of a stream, each with its time, kind and place."""

from __future__ import annotations

from collections.abc import Callable

from callspan.providers.wire_json import integer, objects, text
from callspan.record.call import ChunkNote


class ChunkLog:
    """Wraps an accumulator's `add` and records the first chunks, up to a limit. Not thread-safe."""

    def __init__(
        self, limit: int, add: Callable[[object], bool], now_ns: Callable[[], int], zero_ns: int
    ) -> None:  # fmt: skip
        """`zero_ns` is the start of the call, by the clock `now_ns`."""
        self.notes: list[ChunkNote] = []
        self._limit = limit
        self._add = add
        self._now_ns = now_ns
        self._zero_ns = zero_ns

    def add(self, chunk: object) -> bool:
        """Add the chunk; return True if it carried content."""
        content, offset_ns = self._add(chunk), self._now_ns() - self._zero_ns
        if len(self.notes) < self._limit:
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
