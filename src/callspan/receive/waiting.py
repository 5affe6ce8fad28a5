"""Waiting: requests and tools on disk, until their records can be written.

What is acknowledged survives `kill -9`. But a request to a model gets its record with the answer, which determines the
id, and a tool gets its record with the next request, which has its result. Until then each lies here, as the record
that it becomes if nothing follows. The record is processed like any other: content level, redactor and secrets are as
in a store. Only a request with its body in a file of its own needs no other file. The next receiver goes on with these
files.

The id of the answer is put into the name of a file before the record is written, and the file is deleted after it. If
the process is killed in between, the file becomes a version of the same record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from callspan.record.call import CallRecord
from callspan.record.codec import NO_RECORD, decode, encode
from callspan.record.events import Record
from callspan.record.ids import response_call_id
from callspan.settings import Content

_SUFFIX: Final = ".record"
_WAITING: Final = "waiting"
Process: TypeAlias = Callable[[Record, Content], Record]
"""Returns a record as it may be written at a content level."""
Leveled: TypeAlias = tuple[Record, Content]
"""A record, and the content level of its sender."""


class WaitingRecords:
    """The files of one process, in a private directory, which need not exist. Not thread-safe."""

    def __init__(self, directory: Path, process: Process) -> None:
        self._directory, self._process = directory, process
        self._files = {path.stem.partition(".")[0]: path for path, _ in records_in(directory)}

    @property
    def files(self) -> Mapping[str, Path]:
        """The files, by the ids of what waits."""
        return self._files

    def process(self, record: Record, level: Content) -> Record:
        """Return a record as it may be written at a content level."""
        return self._process(record, level)

    def keep(self, waiting: Mapping[str, Callable[[], Leveled]]) -> None:
        """Write the records that are not here yet. Their ids can name files. Raises OSError."""
        for ident in waiting.keys() - self._files.keys():
            record, level = waiting[ident]()
            self._directory.mkdir(0o700, exist_ok=True)
            path = self._directory / f"{ident}{_SUFFIX}"
            path.write_bytes(encode(self._process(record, level)))
            self._files[ident] = path

    def drop_others(self, waiting: Mapping[str, object]) -> None:
        """Delete the records that no longer wait. Raises OSError."""
        for ident in self._files.keys() - waiting.keys():
            self._files.pop(ident).unlink(missing_ok=True)

    def assign(self, call_ids: Mapping[str, str]) -> None:
        """Note the ids of the calls that are about to be written in place of these requests. Raises OSError."""
        for ident in call_ids.keys() & self._files.keys():
            path = self._files[ident]
            self._files[ident] = path.replace(self._directory / f"{ident}.{call_ids[ident]}{_SUFFIX}")


def leveled(record: Record, level: Content) -> Leveled:
    """Return a record with the content level of its sender."""
    return record, level


def waiting_id(ident: str) -> str:
    """Return the id of a request or a tool that waits, which can name a file."""
    return response_call_id(_WAITING, ident)


def records_in(directory: Path) -> Iterator[tuple[Path, Record]]:
    """Yield the files of an ended process with their records; files that were not written whole are left out."""
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        if (record := record_in(path)) is not None:
            yield path, record


def record_in(path: Path) -> Record | None:
    """Return the record in a file; None if it was not written whole."""
    record = None
    with suppress(OSError, *NO_RECORD):
        record = decode(path.read_bytes())
        if (call_id := assigned_id(path)) and isinstance(record, CallRecord):
            record = msgspec.structs.replace(record, call_id=call_id)
    return record


def assigned_id(path: Path) -> str:
    """Return the id of the call that was about to be written in place of a file, or an empty string."""
    return path.stem.partition(".")[2]
