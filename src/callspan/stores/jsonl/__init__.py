"""JSON Lines: sink, reader and removal."""

from __future__ import annotations

from typing import Annotated, cast

from msgspec import Meta

from callspan.spool.sink import Sink
from callspan.stores.protocol import DatabaseStore, FileStore, Options


class JsonLinesOptions(Options, frozen=True, kw_only=True):
    """The options of a JSON Lines store."""

    max_bytes: Annotated[int, Meta(ge=0)] = 0
    """Size after which the file is rotated; 0: never."""


class JsonLines(DatabaseStore, FileStore):
    """A file with one record per line."""

    example = "jsonl:///calls.jsonl"
    sink_type = "callspan.stores.jsonl.store:JsonLinesStore"
    reader_type = "callspan.stores.jsonl.reader:JsonLinesReader"
    remover = "callspan.stores.jsonl.store:remove"
    retainer = "callspan.stores.jsonl.retention:retain"
    options_type = JsonLinesOptions
    options: JsonLinesOptions

    def sink(self) -> Sink:
        """Return the sink, not opened."""
        return cast("Sink", self.load(self.sink_type)(self.path, max_bytes=self.options.max_bytes))
