"""JSON Lines: sink, reader and removal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, cast

from msgspec import Meta

from callspan.spool.sink import Sink
from callspan.stores.base import DeletionResult, DeletionScope, Keep, Reader
from callspan.stores.protocol import FileStore, Options


class JsonLinesOptions(Options, frozen=True, kw_only=True):
    """The options of a JSON Lines store."""

    max_bytes: Annotated[int, Meta(ge=0)] = 0
    """Size after which the file is rotated; 0: never."""


class JsonLines(FileStore):
    """A file with one record per line."""

    example = "jsonl:///calls.jsonl"
    options_type = JsonLinesOptions
    options: JsonLinesOptions

    def sink(self) -> Sink:
        """Return the sink, not opened."""
        kind = self.load("callspan.stores.jsonl.store:JsonLinesStore")
        return cast("Sink", kind(self.path, max_bytes=self.options.max_bytes))

    def reader(self, wait_s: float | None = None) -> Reader:
        """Return a reader, which opens the file for each query. Raises StoreError."""
        return cast("Reader", self.load("callspan.stores.jsonl.reader:JsonLinesReader")(self.path, wait_s))

    def remove(self, scope: DeletionScope) -> DeletionResult:
        """Delete the records of a scope by writing the files again. Raises StoreError, OSError."""
        return cast("DeletionResult", self.load("callspan.stores.jsonl.store:remove")(self.path, scope))

    def retention(self, keep: Keep, counts: Counter[str]) -> Iterator[None]:
        """Delete rotated files in which everything is old, or the oldest where it is too much. Raises OSError."""
        return cast("Iterator[None]", self.load("callspan.stores.jsonl.retention:retain")(self.path, keep, counts))
