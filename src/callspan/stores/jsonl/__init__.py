"""JSON Lines: a file with one record per line. It is written, and loaded into another store by `callspan import`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from callspan.record.codec import NO_RECORD, decode
from callspan.record.events import Record
from callspan.record.formats import FORMAT, OtherFormatError, check_file
from callspan.stores.base import no_file
from callspan.stores.jsonl.sink import JsonLinesSink, files_of
from callspan.stores.protocol import FileStore, Sink

_FORMAT: Final = re.compile(rb'"schema_version":\d+')
_TODAYS: Final = b'"schema_version":%d' % FORMAT


class JsonLines(FileStore):
    """A file with one record per line, rotated after `max_bytes`; 0: never."""

    example = "jsonl:///calls.jsonl"
    option_names = ("max_bytes",)

    def __init__(self, url: str, path: Path | None = None) -> None:
        """Raises SettingError also for `max_bytes` that is no number."""
        super().__init__(url, path)
        if not self.options.get("max_bytes", "0").isdecimal():
            raise self.option_error()

    def sink(self) -> Sink:
        """Return the sink, not opened."""
        return JsonLinesSink(self.path, max_bytes=int(self.options.get("max_bytes", "0")))

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
