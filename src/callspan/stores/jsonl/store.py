"""Sink for JSON Lines: one record per line, batches in single writes."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from callspan.background import LRUCache
from callspan.file_lock import locked
from callspan.record.call import CallRecord, Part, Stage
from callspan.record.codec import NO_RECORD, decode, encode_json
from callspan.record.events import SCOPE_TYPES, Record, SessionRecord, TimestepRecord, record_key
from callspan.record.formats import check_file
from callspan.record.merging import Order, order, order_of
from callspan.spool.segment import make_private
from callspan.spool.sink import Entry
from callspan.stores.base import DeletionResult, DeletionScope, no_file, session_of, tried
from callspan.stores.columns import TABLES
from callspan.stores.erased import digests, is_erased, names
from callspan.stores.payloads import line_of
from callspan.stores.rows import merge

_MODE: Final = 0o600
_MOMENT_S: Final = 0.5
_APPEND: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND
_REMEMBERED: Final = 4096
"""Number of records. Only the last batch of a process that died is delivered again, by another one within seconds."""
_TAIL_BYTES: Final = 64 * 1024 * 1024
_SESSION: Final = "session"
_STRAY: Final = re.compile(r"(\.\d+)?\.\d+\.new|\.rejected\.\d+")
"""The end of the name of a file that is to replace another one: with the number of the process that writes it."""
SKIPPED_LINES: Final = (msgspec.DecodeError, UnicodeDecodeError)
"""What decoding a line raises that is no record."""


class Seen(msgspec.Struct):
    """The fields of a line that identify its record."""

    kind: str = ""
    call_id: str = ""
    session_id: str = ""
    timestep_id: str = ""
    event_id: str = ""
    message_id: str = ""
    reward_id: str = ""
    part: Part = "ended"
    seen_ns: int | None = None
    stage: Stage = "first"

    def key(self) -> tuple[str, str]:
        """Return the kind and id of the record."""
        return self.kind, getattr(self, f"{self.kind}_id", "")


_lines = msgspec.json.Decoder(Seen)


class JsonLinesStore:
    """A sink that only appends; older versions of a record stay in the file and are skipped by readers.

    `max_bytes` is the size after which the file is rotated: renamed to `<name>.1`, `.2`, ..., and a new one started. 0
    never rotates.
    """

    def __init__(self, path: str | Path, *, max_bytes: int | str = 0) -> None:
        """`path` and its side files are created on `open`, for their owner only."""
        self.path = Path(path)
        self.name = f"jsonl:///{path}"
        self.batch_entries = 100
        self._max_bytes = int(max_bytes)
        self.lock_path = self.path.with_name(self.path.name + ".lock")
        """Held by the process that changes the file."""
        self._seen: LRUCache[tuple[str, str], Order] = LRUCache(_REMEMBERED)
        self._scanned: tuple[int, int] | None = None
        """Inode and size up to which lines are indexed; None before the first scan."""
        self._erased: tuple[tuple[int, int] | None, dict[bytes, int]] = (None, {})

    def open(self) -> None:
        """Create the file if needed and index its records. Raises OSError, OtherFormatError."""
        make_private(self.path.parent)
        check_files(self.path)
        os.close(os.open(self.path, _APPEND, _MODE))
        self.close()
        with locked(self.lock_path):
            self._look()

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Append all entries that the file does not have yet.

        Raises PoisonError for an invalid record, OtherFormatError if the file was replaced by one of another format,
        OSError for anything else; a short write is undone.
        """
        records = [entry.decode(entry) for entry in entries]
        with locked(self.lock_path):
            self._look()
            erased = self._read_erased()
            fresh = [one for one in records if not (erased and is_erased(one, erased.get)) and self._is_new(one)]
            if fresh:
                self._append(b"".join(line_of(record) + b"\n" for record in fresh))

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Append a rejected entry with the reason to `<file>.rejected`."""
        rejected = rejected_path(self.path)
        frame = entry.payload.decode("utf-8", "replace")
        line = encode_json({"segment": entry.segment, "start": entry.start, "reason": reason, "frame": frame})
        with locked(self.lock_path):
            _write(rejected, line + b"\n")

    def try_out(self, entry: Entry) -> str:
        """Open the file for appending, take its lock, and write a record to a nameless file beside it.

        The file gets nothing: a program that follows it would see the record, and a file that becomes shorter. Raises
        StoreError if it is missing or has another format, OSError (TimeoutError where another process has the lock).
        """
        check_there(self.path)
        os.close(os.open(self.path, _APPEND & ~os.O_CREAT))
        if self.lock_path.exists():
            with locked(self.lock_path, _MOMENT_S):
                pass
        record = entry.decode(entry)
        with tempfile.TemporaryFile(dir=self.path.parent) as file:
            file.write(line_of(record))
            file.seek(0)
            return tried(found=record_key(decode(file.read())) == record_key(record))

    def close(self) -> None:
        """Drop the index; no file is kept open between deliveries."""
        self._seen = LRUCache(_REMEMBERED)
        self._scanned = None

    def _is_new(self, record: Record) -> bool:
        key = record_key(record)
        version = order_of(record)
        known = self._seen.get(key)
        merges = isinstance(record, SCOPE_TYPES) or (isinstance(record, CallRecord) and record.is_merged)
        if known is not None and (known == version or (known > version and not merges)):
            return False
        self._seen.put(key, version if known is None else max(known, version))
        return True

    def _look(self) -> None:
        """Index the lines appended since the last scan, by other processes or by this one before a crash."""
        *rotated, current = files_of(self.path)
        inode = current.stat().st_ino if current.exists() else None
        if self._scanned is None or self._scanned[0] != inode:
            check_file(current)
            for file in rotated[-1:]:
                self._learn(file)
        if inode is not None:
            self._learn(current)

    def _learn(self, file: Path) -> None:
        status = file.stat()
        start = max(0, status.st_size - _TAIL_BYTES)
        if self._scanned is not None and self._scanned[0] == status.st_ino:
            start = self._scanned[1]
        if start < status.st_size:
            for line in whole_lines(file, start):
                with contextlib.suppress(*SKIPPED_LINES):
                    seen = _lines.decode(line)
                    version = order(seen.part, seen.seen_ns, seen.stage)
                    self._seen.put(seen.key(), max(version, self._seen.get(seen.key()) or version))
        self._scanned = (status.st_ino, status.st_size)

    def _append(self, data: bytes) -> None:
        if self._max_bytes and self.path.exists() and self.path.stat().st_size + len(data) > self._max_bytes:
            self._rotate()
        try:
            written = _write(self.path, data)
        except OSError:
            self.close()
            raise
        status = self.path.stat()
        self._scanned = (status.st_ino, max(written, status.st_size))

    def _rotate(self) -> None:
        if self.path.stat().st_size == 0:
            return
        *rotated, _ = files_of(self.path)
        last = int(rotated[-1].suffix[1:]) if rotated else 0
        self.path.rename(self.path.with_name(f"{self.path.name}.{last + 1}"))

    def _read_erased(self) -> dict[bytes, int]:
        """Return what was erased from the file and when, read again if that has changed."""
        try:
            status = erased_path(self.path).stat()
        except FileNotFoundError:
            return {}
        if self._erased[0] != (status.st_ino, status.st_mtime_ns):
            self._erased = (status.st_ino, status.st_mtime_ns), read_erased(self.path)
        return self._erased[1]


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.replace(path)


def erased_path(path: Path) -> Path:
    """Return the path of the side file with a hash of each id that was erased from a file, and when."""
    return path.with_name(path.name + ".erased")


def read_erased(path: Path) -> dict[bytes, int]:
    """Return what was erased from a file, and when; nothing without the side file. Raises OSError."""
    try:
        lines = erased_path(path).read_text("ascii").splitlines()
    except FileNotFoundError:
        return {}
    return {bytes.fromhex(found): int(time_ns) for found, _, time_ns in (line.partition(" ") for line in lines)}


def _remember(path: Path, scope: DeletionScope) -> None:
    found = read_erased(path) | dict.fromkeys(digests(scope), scope.erased_ns)
    _replace(erased_path(path), "".join(f"{one.hex()} {time_ns}\n" for one, time_ns in found.items()).encode())


def files_of(path: Path) -> list[Path]:
    """Return the rotated files of a JSON Lines store, oldest first, then the one that is being written."""
    prefix = path.name + "."
    numbers = [file.name[len(prefix) :] for file in path.parent.iterdir() if file.name.startswith(prefix)]
    rotated = sorted(int(number) for number in numbers if number.isdecimal() and number[0] != "0")
    return [*(path.with_name(f"{prefix}{number}") for number in rotated), path]


def check_files(path: Path) -> None:
    """Raise OtherFormatError if one of a store's files, rotated ones included, has another format."""
    for file in files_of(path):
        check_file(file)


def check_there(path: Path) -> None:
    """Raise StoreError for a store without files, OtherFormatError for one of another format."""
    if not path.is_file() and not (path.parent.is_dir() and files_of(path)[:-1]):
        raise no_file(path)
    check_files(path)


def whole_lines(path: Path, start: int = 0) -> Iterator[bytes]:
    """Yield the non-empty lines from offset `start`, including a torn last line, which is not valid JSON."""
    with path.open("rb") as file:
        file.seek(start)
        yield from lines_in(file)


def lines_in(file: BinaryIO) -> Iterator[bytes]:
    """Yield the non-empty lines of an open file from its current position."""
    for line in file:
        if line.strip():
            yield line


def _write(path: Path, data: bytes) -> int:
    """Append complete lines in one write and return the new file size; terminates a torn line first."""
    descriptor = os.open(path, _APPEND, _MODE)
    try:
        size = os.fstat(descriptor).st_size
        if size:
            os.lseek(descriptor, size - 1, os.SEEK_SET)
            data = data if os.read(descriptor, 1) == b"\n" else b"\n" + data
        if os.write(descriptor, data) != len(data):
            os.ftruncate(descriptor, size)
            raise OSError(f"{path}: short write: the disk took only a part of a batch, which was removed again")
        return size + len(data)
    finally:
        os.close(descriptor)


def remove(path: Path, scope: DeletionScope) -> DeletionResult:
    """Delete the chosen records; lines that are not records stay.

    Raises StoreError if the file does not exist or has another format.
    """
    check_there(path)
    with locked(JsonLinesStore(path).lock_path):
        _remove_strays(path)
        if scope.older_than_ns is None:
            _remember(path, scope)
            _rewrite_rejected(rejected_path(path), scope)
        there = [file for file in files_of(path) if file.is_file()]
        going = _Going(scope, _merged(there) if scope.older_than_ns is not None else {})
        removed: set[tuple[str, str]] = set()
        for file in there:
            removed |= _rewrite(file, going, keep_empty=file == path)
    kinds = [kind for kind, _ in removed]
    counts: dict[str, Any] = {table.name: kinds.count(kind) for kind, table in TABLES.items()}
    return DeletionResult(**counts)


def _remove_strays(path: Path) -> None:
    """Delete what a process that died while it rewrote a file has left of the new one."""
    for stray in path.parent.iterdir():
        if stray.name.startswith(path.name) and _STRAY.fullmatch(stray.name[len(path.name) :]):
            stray.unlink(missing_ok=True)


def rejected_path(path: Path) -> Path:
    """Return the path of the side file with the entries that could not be stored."""
    return path.with_name(path.name + ".rejected")


def _rewrite_rejected(path: Path, scope: DeletionScope) -> None:
    """Take the rejected entries of these sessions and calls out of their file."""
    if path.exists():
        _replace(path, b"".join(line + b"\n" for line in whole_lines(path) if not names(line, scope)))


class _Going:
    """Selects the records to delete."""

    def __init__(self, scope: DeletionScope, whole: dict[tuple[str, str], SessionRecord | TimestepRecord]) -> None:
        self._scope = scope
        self._whole = whole
        self._sessions = {key for (kind, key), record in whole.items() if kind == _SESSION and self._is_old(record)}

    def __call__(self, record: Record) -> bool:
        if self._scope.older_than_ns is None:
            return self._scope.covers(record)
        if session_of(record) in self._sessions:
            return True
        return not isinstance(record, SessionRecord) and self._is_old(self._whole.get(record_key(record), record))

    def is_damage(self, line: bytes) -> bool:
        """Return whether a line without a record names one of the sessions or calls that are erased."""
        return self._scope.older_than_ns is None and names(line, self._scope)

    def _is_old(self, record: Record) -> bool:
        time: int | None
        if isinstance(record, CallRecord):
            time = record.timing.start_ns
        elif isinstance(record, SessionRecord):
            time = record.start_ns if record.end_ns is None else record.end_ns
        else:
            time = record.start_ns if isinstance(record, TimestepRecord) else record.time_ns
        limit = self._scope.older_than_ns
        return time is not None and limit is not None and time < limit


def _merged(files: Iterable[Path]) -> dict[tuple[str, str], SessionRecord | TimestepRecord]:
    """Return sessions and timesteps merged from all their lines."""
    sessions: dict[tuple[str, str], list[SessionRecord]] = {}
    steps: dict[tuple[str, str], list[TimestepRecord]] = {}
    for file in files:
        for line in whole_lines(file):
            for record in _records(line):
                if isinstance(record, SessionRecord):
                    sessions.setdefault(record_key(record), []).append(record)
                elif isinstance(record, TimestepRecord):
                    steps.setdefault(record_key(record), []).append(record)
    return {key: merge(versions) for key, versions in sessions.items()} | {
        key: merge(versions) for key, versions in steps.items()
    }


def _records(line: bytes) -> Iterator[Record]:
    with contextlib.suppress(*NO_RECORD):
        yield decode(line)


def _rewrite(file: Path, going: _Going, *, keep_empty: bool) -> set[tuple[str, str]]:
    """Rewrite the file and return the keys of the deleted records; a file that loses no line is not touched."""
    removed: set[tuple[str, str]] = set()
    loses = False
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    kept = 0
    with os.fdopen(descriptor, "wb") as out:
        for line in whole_lines(file):
            record = next(_records(line), None)
            if going.is_damage(line) if record is None else going(record):
                loses = True
                removed.update(() if record is None else [record_key(record)])
            else:
                kept += out.write(line if line.endswith(b"\n") else line + b"\n")
        out.flush()
        os.fsync(out.fileno())
    if not loses:
        fresh.unlink()
    elif kept or keep_empty:
        fresh.replace(file)
    else:
        fresh.unlink()
        file.unlink()
    return removed
