"""Reader of JSON Lines: rows of what the files have, rotated files first, and the place of each line with bodies."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias, get_args

import msgspec

from callspan.record.call import CallRecord
from callspan.record.codec import NO_RECORD, decode
from callspan.record.events import Record
from callspan.record.formats import check_file
from callspan.stores.base import Stored, StoredKind, StoreError
from callspan.stores.erased import digest_of_id
from callspan.stores.jsonl.store import check_there, files_of, read_erased
from callspan.stores.sqlite.temporary import TemporaryReader

_keys: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(
        msgspec.defstruct("Key", [("key", str)], tag_field="kind", tag=kind, rename={"key": f"{kind}_id"})
    )
    for kind in get_args(StoredKind)
}
"""Decoders that read only the id of a record of their kind."""
_OFFSET_BITS: Final = 44
"""A place is the number of a file, and below it so many bits of the offset of a line."""
_TAIL_BYTES: Final = 64
_MOST_OPEN: Final = 32
_LINES_PER_UPDATE: Final = 1000
_MB: Final = 1_000_000
_LARGE_MB: Final = 20
Progress: TypeAlias = Callable[[str], AbstractContextManager[Callable[[int, int], object]]]
"""Shows the progress of what it is given the name of, by a function of what is done and what there is to do."""


class _File:
    """A file, under whichever name, and what was read of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.offset = 0
        self.tail = b""
        """The last bytes before the offset. A file that was only appended to still has them."""
        self.state = (0, 0)
        """Size and modification time when it was last read."""


class _RewrittenError(StoreError):
    """Something that was read is no longer there."""


class JsonLinesReader(TemporaryReader):
    """Before each query reads what was appended to the files, and everything again where one was written anew.

    Attributes:
        progress: Called for each file of which much is read.
    """

    def __init__(
        self, path: str | Path, wait_s: float | None = None, only: tuple[str, frozenset[str]] | None = None
    ) -> None:
        """`wait_s` is how long reading may take for each answer; None: any time. `only`: a kind, and ids to read.

        Raises StoreError if the file is missing or has another format.
        """
        self._store = Path(path)
        self._wait_s = float("inf") if wait_s is None else wait_s
        self._until = float("inf")
        self._only = only
        self.progress: Progress = _unseen
        self._numbers = count(1)
        self._files: dict[int, _File] = {}
        """By inode."""
        self._open: dict[int, BinaryIO] = {}
        """By number: a file that was deleted or written anew can be read on while it is open."""
        self._latest: tuple[int, CallRecord] | None = None
        check_there(self._store)
        super().__init__(f"jsonl:///{path}")

    def stored(self, kind: StoredKind, ids: Sequence[str]) -> Iterator[Stored]:
        """Yield the records of a kind that have one of these whole ids. Other lines are not decoded."""
        some = JsonLinesReader(self._store, self._wait_s, (kind, frozenset(ids)))
        with closing(some):
            yield from super(JsonLinesReader, some).stored(kind, ids)

    def is_erased(self, kind: Literal["session", "call"], ident: str) -> bool:
        """Return whether the store remembers that the session or call of this whole id was erased. Raises OSError."""
        return digest_of_id(kind, ident) in read_erased(self._store)

    def close(self) -> None:
        """Close the files and the temporary database."""
        self._forget()
        super().close()

    def _clear(self) -> None:
        self._forget()
        super()._clear()

    def _forget(self) -> None:
        self._files.clear()
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _load(self) -> None:
        self._until = time.monotonic() + self._wait_s
        try:
            self._add_all(self._appended())
        except _RewrittenError:
            check_there(self._store)
            self._add_all(self._appended())

    def _appended(self) -> Generator[tuple[Record, int], None, None]:
        """Yield each record that was not read yet, even if files are rotated meanwhile: list them until none is new.

        Raises _RewrittenError where something that was read is gone.
        """
        read: set[int] = set()
        listed: list[Path] = []
        before = -1
        # A file that is renamed after it was listed is not found, and the next list has it under its new name.
        while (paths := files_of(self._store)) != listed or len(read) > before:
            listed, before = paths, len(read)
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    if _has_changed(self._files.get(status.st_ino), status):
                        file = path.open("rb")
                        status = os.fstat(file.fileno())
                        yield from self._appended_to(path, file, status)
                    read.add(status.st_ino)
        if not self._files.keys() <= read:
            raise self._rewritten()

    def _appended_to(self, path: Path, file: BinaryIO, status: os.stat_result) -> Iterator[tuple[Record, int]]:
        known = self._files.setdefault(status.st_ino, _File(next(self._numbers)))
        self._keep_open(known.number, file)
        if status.st_size <= known.state[0] > 0 or self._tail(file, known) != known.tail:
            raise self._rewritten()
        check_file(path)
        known.state = _state(status)
        file.seek(known.offset)
        size = status.st_size // _MB
        shown = self.progress if size - known.offset // _MB >= _LARGE_MB else _unseen
        with shown(f"{path.name}, MB") as tell:
            for number, line in enumerate(file):
                if number % _LINES_PER_UPDATE == 0:
                    tell(known.offset // _MB, size)
                record = self._record_in(line)
                if record is not None:
                    yield record, known.number << _OFFSET_BITS | known.offset
                elif not line.endswith(b"\n"):
                    break  # it is being written
                known.offset += len(line)
        known.tail = self._tail(file, known)

    def _record_in(self, line: bytes) -> Record | None:
        """Return the record in a line; None for a line without one, and for one that `_only` leaves out."""
        if time.monotonic() > self._until:
            raise StoreError(f"{self.name}: too large to be read in time")
        with contextlib.suppress(*NO_RECORD):
            if self._only is None or _keys[self._only[0]].decode(line).key in self._only[1]:
                return decode(line)
        return None

    def _version(self, place: int, call_id: str) -> CallRecord:
        with self._loading:
            if os.getpid() != self._process:
                raise StoreError(f"{self.name}: this list was begun before a fork; read it on in the parent")
            if self._latest is None or self._latest[0] != place:
                file = self._opened(place >> _OFFSET_BITS)
                file.seek(place & (1 << _OFFSET_BITS) - 1)
                self._latest = place, self._call_in(file.readline(), call_id)
            return self._latest[1]

    def _call_in(self, line: bytes, call_id: str) -> CallRecord:
        with contextlib.suppress(*NO_RECORD):
            record = decode(line)
            if isinstance(record, CallRecord) and record.call_id == call_id:
                return record
        raise self._rewritten()

    def _opened(self, number: int) -> BinaryIO:
        file = self._open.get(number)
        if file is not None:
            return file
        inode = next(inode for inode, known in self._files.items() if known.number == number)
        for path in files_of(self._store):
            with contextlib.suppress(FileNotFoundError):
                file = path.open("rb")
                if os.fstat(file.fileno()).st_ino == inode:
                    return self._keep_open(number, file)
                file.close()
        raise self._rewritten()

    def _keep_open(self, number: int, file: BinaryIO) -> BinaryIO:
        """Keep a file open, and close another one where these are too many."""
        other = number if number in self._open else next(iter(self._open), None)
        if other == number or (other is not None and len(self._open) >= _MOST_OPEN):
            self._open.pop(other).close()
        self._open[number] = file
        return file

    @staticmethod
    def _tail(file: BinaryIO, known: _File) -> bytes:
        length = min(known.offset, _TAIL_BYTES)
        file.seek(known.offset - length)
        return file.read(length)

    def _rewritten(self) -> _RewrittenError:
        return _RewrittenError(f"{self.name}: written anew while it was read; try again")


def _unseen(_: str) -> AbstractContextManager[Callable[[int, int], object]]:
    return nullcontext(lambda *_: None)


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _has_changed(known: _File | None, status: os.stat_result) -> bool:
    return known is None or known.state != _state(status)
