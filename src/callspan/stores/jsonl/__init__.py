"""JSON Lines: a file with one record per line. It is written, and loaded into another store by `callspan import`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta

from callspan.record.codec import NO_RECORD, decode
from callspan.record.events import Record
from callspan.record.formats import FORMAT, OtherFormatError, check_file
from callspan.stores.base import no_file
from callspan.stores.jsonl.sink import JsonLinesSink, files_of
from callspan.stores.protocol import FileStore, Options, Sink

_FORMAT: Final = re.compile(rb'"schema_version":\d+')
_TODAYS: Final = b'"schema_version":%d' % FORMAT


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
        return JsonLinesSink(self.path, max_bytes=self.options.max_bytes)

    def try_out(self) -> str:
        """Open the file for appending, and write nothing: a program that follows it would see it. Raises StoreError."""
        if not self.path.is_file():
            raise no_file(self.path)
        check_file(self.path)
        self.path.open("ab").close()
        return "the file can be appended to; nothing was written"

    def records(self) -> Iterator[Record | None]:
        """Yield the record of each line, rotated files first; None for a line that has none. Raises StoreError."""
        there = [path for path in files_of(self.path) if path.is_file()]
        if not there:
            raise no_file(self.path)
        for path in there:
            with path.open("rb") as file:
                yield from (_record_in(line) for line in file if line.strip())


def _record_in(line: bytes) -> Record | None:
    """Return the record in a line, also of an earlier format whose fields are still known; else None."""
    try:
        return decode(line)
    except OtherFormatError:
        return None if _FORMAT.sub(_TODAYS, line, count=1) == line else _record_in(_FORMAT.sub(_TODAYS, line, count=1))
    except NO_RECORD:
        return None
