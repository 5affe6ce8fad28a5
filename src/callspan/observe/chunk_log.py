"""Chunk log: the first chunks of a stream, each with its time, kind and place."""

from __future__ import annotations

from callspan.providers.wire_json import integer, objects, text
from callspan.record.call import ChunkNote


def chunk_note(chunk: object, offset_ns: int, *, content: bool) -> ChunkNote:
    """Return the note of a chunk that came at an offset from the start of its call."""
    return ChunkNote(offset_ns=offset_ns, event=text(chunk, "type"), choice=_choice(chunk), content=content)


def _choice(chunk: object) -> int | None:
    """Return the index of a chunk's choice (chat), output item (Responses) or content block (Messages)."""
    indexes = (
        integer(next(objects(chunk, "choices"), None), "index"),
        integer(chunk, "output_index"),
        integer(chunk, "index"),
    )
    return next((index for index in indexes if index is not None), None)
