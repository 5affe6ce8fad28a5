"""JSON Lines: a file with one record per line, which `callspan import` loads into readable stores.

It also loads lines of a Collector's `file` exporter, and of Kafka: requests of log records, whose bodies are records.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from callspan.providers.wire_json import objects, text
from callspan.record.codec import NO_RECORD, decode, encode_json
from callspan.record.events import Record
from callspan.record.foreign_json import read_json
from callspan.record.formats import check_file
from callspan.runtime.file_lock import locked, make_private
from callspan.stores.base import DeletionScope, no_file
from callspan.stores.protocol import FileStore
from callspan.stores.tables.payloads import line_of

_ROTATED: Final = re.compile(r"(?:\.([1-9]\d*)|-(\d{8}(?:-\d+)?))(?:\.gz)?")
"""What a rotated file has behind the name: a number, or logrotate's date; both may be compressed."""
_ROTATED_FILE: Final = re.compile(rf".+\.(?:jsonl|ndjson)(?:{_ROTATED.pattern}|\.gz)", re.IGNORECASE | re.DOTALL)
SCOPE: Final = "callspan.records"
"""The instrumentation scope of log records whose bodies are records."""
_REQUEST: Final = re.compile(rb'\s*\{\s*"resourceLogs"\s*:')
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

_MODE: Final = 0o600
_APPEND: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)


class JsonLines(FileStore):
    """A file that lines are appended to. It is opened by name each time, so a renamed file is replaced by a new one.

    A batch that is delivered again after a crash has its lines twice. At `max_bytes` the file is rotated: renamed to
    `<name>.1`, `.2`, ..., and a new one started. 0 never rotates.
    """

    example = "jsonl:///calls.jsonl"
    option_names = ("max_bytes",)

    def __init__(self, url: str, path: Path | None = None) -> None:
        """Raises SettingError also if `max_bytes` is no number."""
        super().__init__(url, path)
        if not self.options.get("max_bytes", "0").isdecimal():
            raise self.option_error()
        self._max_bytes = int(self.options.get("max_bytes", "0"))
        self.mended = 0
        """Number of lines so far that could only be read in part."""

    def open(self) -> None:
        """Create the file if needed, for its owner only. Raises OSError, OtherFormatError."""
        make_private(self.path.parent)
        check_file(self.path)
        os.close(os.open(self.path, _APPEND, _MODE))

    def deliver(self, records: Sequence[Record]) -> None:
        """Append all records. Raises OSError."""
        data = b"".join(line_of(record) + b"\n" for record in records)
        # Locked by the process that writes.
        with locked(self.path.with_name(f"{self.path.name}.lock")):
            self._rotate_before(len(data))
            _append(self.path, data)

    def _rotate_before(self, added_bytes: int) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        if self._max_bytes and size and size + added_bytes > self._max_bytes:
            last_number = max((number for number, *_ in _rotated(self.path)), default=0)
            self.path.rename(self.path.with_name(f"{self.path.name}.{last_number + 1}"))

    def try_out(self) -> str:
        """Open the file for appending without writing, which programs that follow it would see. Raises StoreError."""
        if not self.path.is_file():
            raise no_file(self.path)
        check_file(self.path)
        self.path.open("ab").close()
        return "the file can be appended to; nothing was written"

    def records(self) -> Iterator[Record | None]:
        """Yield the record of each line, rotated files first; None for an invalid line. Raises StoreError."""
        paths = [path for path in files_of(self.path) if path.is_file()]
        if not paths:
            raise no_file(self.path)
        for path in paths:
            check_file(path)
            yield from self._records(path)

    def _records(self, path: Path) -> Iterator[Record | None]:
        """Yield the record of each line; of a compressed file up to where it is damaged, then None."""
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                for line in file:
                    if line.strip():
                        yield from self._records_in(line)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            yield None

    def _records_in(self, line: bytes) -> Iterator[Record | None]:
        """Yield the record of a line, or the records of a request of log records; None for each that is invalid."""
        if _REQUEST.match(line) is None:
            yield self._record(line)
            return
        reading = read_json(line)
        resources = objects(None if reading is None else reading.value, "resourceLogs")
        scopes = (scope for resource in resources for scope in objects(resource, "scopeLogs"))
        if reading is None:
            yield None
        for scope in scopes:
            # A Collector may write the log records of others into the same file.
            if text(scope, "scope", "name") == SCOPE:
                for entry in objects(scope, "logRecords"):
                    body = text(entry, "body", "stringValue")
                    yield None if body is None else self._record(body.encode())

    def _record(self, line: bytes) -> Record | None:
        """Return the record in a line, also as other programs write it; None if invalid."""
        is_plain = line.isascii() and _SURROGATE.search(line) is None
        if is_plain and (record := _record_in(line)) is not None:
            return record
        # Bodies are not read with their record.
        if (reading := read_json(line)) is None:
            return None
        if not reading.replaced and (record := _record_in(line)) is not None:
            return record
        record = _record_in(encode_json(reading.value))
        self.mended += record is not None and bool(reading.replaced)
        return record

    def deletion(self, scope: DeletionScope) -> list[str]:
        """Return instructions for deleting records manually."""
        del scope
        return ["load it with `callspan import`, delete there, and delete this file"]


def _record_in(line: bytes) -> Record | None:
    """Return the record in a line; None if it is invalid or of another format."""
    try:
        return decode(line)
    except NO_RECORD:
        return None


def is_rotated(path: str) -> bool:
    """Return whether a path names one rotated or compressed file, which is read, not written."""
    return _ROTATED_FILE.fullmatch(path) is not None


def files_of(path: Path) -> list[Path]:
    """Return the rotated files, by date and number, then the current one, which may not exist."""
    return [*(file for *_, file in sorted(_rotated(path))), path]


def _rotated(path: Path) -> Iterator[tuple[int, str, Path]]:
    """Yield the number (0 without one), the date and the path of each rotated file."""
    for file in path.parent.iterdir() if path.parent.is_dir() else ():
        if file.name.startswith(path.name) and (name := _ROTATED.fullmatch(file.name, len(path.name))):
            yield int(name[1] or 0), name[2] or "", file


def _append(path: Path, data: bytes) -> None:
    """Append complete lines in one write, ending a torn line first. A short write is undone. Raises OSError."""
    descriptor = os.open(path, _APPEND, _MODE)
    try:
        size = os.fstat(descriptor).st_size
        if size:
            os.lseek(descriptor, size - 1, os.SEEK_SET)
            data = data if os.read(descriptor, 1) == b"\n" else b"\n" + data
        if os.write(descriptor, data) != len(data):
            os.ftruncate(descriptor, size)
            raise OSError(f"{path}: short write: the disk accepted only part of a batch, which was removed again")
    finally:
        os.close(descriptor)
