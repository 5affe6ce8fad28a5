"""Deleting from JSON Lines: each file is written anew without what goes, and takes the old one's place at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from callspan.record.call import CallRecord
from callspan.record.codec import UnknownSchemaError, decode
from callspan.record.events import Record, SessionRecord, TimestepRecord, record_key
from callspan.stores.base import StoreError
from callspan.stores.file_lock import locked
from callspan.stores.jsonl import JsonLinesStore, files_of, whole_lines
from callspan.stores.merging import merge
from callspan.stores.retention import Choice, Removed

_NO_RECORD: Final = (msgspec.DecodeError, UnknownSchemaError, UnicodeDecodeError, RecursionError)
_SESSION: Final = "session"
_CALL: Final = "call"


def remove(path: Path, choice: Choice) -> Removed:
    """Delete what was chosen; lines that are no records stay. Raises StoreError where there is no file."""
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file; nothing was recorded there yet")
    with locked(JsonLinesStore(path).lock_path):
        going = _Going(choice, _merged(path))
        removed: set[tuple[str, str]] = set()
        for file in files_of(path):
            removed |= _rewrite(file, going, keep_empty=file == path)
    kinds = [kind for kind, _ in removed]
    calls, sessions = kinds.count(_CALL), kinds.count(_SESSION)
    return Removed(sessions=sessions, calls=calls, others=len(kinds) - calls - sessions)


class _Going:
    """Tells which records go."""

    def __init__(self, choice: Choice, whole: dict[tuple[str, str], SessionRecord | TimestepRecord]) -> None:
        self._choice = choice
        self._whole = whole
        self._sessions = {key for (kind, key), record in whole.items() if kind == _SESSION and self._is_old(record)}
        if choice.session_id is not None:
            self._sessions = {choice.session_id}

    def __call__(self, record: Record) -> bool:
        session_id = record.place.session_id if isinstance(record, CallRecord) else record.session_id
        if session_id in self._sessions:
            return True
        return not isinstance(record, SessionRecord) and self._is_old(self._whole.get(record_key(record), record))

    def _is_old(self, record: Record) -> bool:
        time: int | None
        if isinstance(record, CallRecord):
            time = record.timing.start_ns
        elif isinstance(record, SessionRecord):
            time = record.start_ns if record.end_ns is None else record.end_ns
        else:
            time = record.start_ns if isinstance(record, TimestepRecord) else record.time_ns
        limit = self._choice.older_than_ns
        return time is not None and limit is not None and time < limit


def _merged(path: Path) -> dict[tuple[str, str], SessionRecord | TimestepRecord]:
    """Sessions and timesteps as all their lines together tell them."""
    sessions: dict[tuple[str, str], list[SessionRecord]] = {}
    steps: dict[tuple[str, str], list[TimestepRecord]] = {}
    for file in files_of(path):
        for line in whole_lines(file):
            for record in _records(line):
                if isinstance(record, SessionRecord):
                    sessions.setdefault(record_key(record), []).append(record)
                elif isinstance(record, TimestepRecord):
                    steps.setdefault(record_key(record), []).append(record)
    return {key: merge(told) for key, told in sessions.items()} | {key: merge(told) for key, told in steps.items()}


def _records(line: bytes) -> Iterator[Record]:
    with contextlib.suppress(*_NO_RECORD):
        yield decode(line)


def _rewrite(file: Path, going: _Going, *, keep_empty: bool) -> set[tuple[str, str]]:
    """Write the file anew and return the keys of what went; untouched where nothing goes."""
    removed: set[tuple[str, str]] = set()
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    kept = 0
    with os.fdopen(descriptor, "wb") as out:
        for line in whole_lines(file):
            gone = [record_key(record) for record in _records(line) if going(record)]
            removed.update(gone)
            if not gone:
                kept += out.write(line if line.endswith(b"\n") else line + b"\n")
        out.flush()
        os.fsync(out.fileno())
    if not removed:
        fresh.unlink()
    elif kept or keep_empty:
        fresh.replace(file)
    else:
        fresh.unlink()
        file.unlink()
    return removed
