"""Uploads: files of a spool directory with the requests of batches that were uploaded, and notes about these batches.

The requests of a file are full prompts, and stay until its batch is created. What nothing takes expires.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from callspan.fail_open import ours
from callspan.record.call import CallRecord
from callspan.record.codec import decode, encode_json
from callspan.record.formats import OtherFormatError
from callspan.spool.segment import make_private

DIRECTORY: Final = "batch_files"
REQUESTS: Final = ".jsonl"
"""Suffix of a file of requests, one record per line."""
_UNFINISHED: Final = ".part"
_KEPT_S: Final = 30 * 86_400
"""OpenAI deletes the files of batches after 30 days."""
_MOST_BYTES: Final = 1 << 30
_MOST_FILES: Final = 20_000


class Uploads(NamedTuple):
    """The files of requests in a spool directory."""

    files: int
    size: int
    """Bytes."""
    since: float
    """Unix time of the oldest, in seconds; 0 without files."""


class _File(NamedTuple):
    changed: float
    size: int
    path: Path


def uploads_in(spool: Path) -> Uploads:
    """Return how many files of requests there are, unfinished ones included. Raises OSError."""
    found = [one for one in _files_in(spool) if one.path.suffix in (REQUESTS, _UNFINISHED)]
    return Uploads(len(found), sum(one.size for one in found), min((one.changed for one in found), default=0.0))


def tidy(spool: Path) -> None:
    """Delete expired files, and the oldest if there are too many or their total size is too large. Raises OSError."""
    size, now = 0, time.time()
    for number, (changed, bytes_of, path) in enumerate(sorted(_files_in(spool), reverse=True)):
        size += bytes_of
        if size > _MOST_BYTES or number >= _MOST_FILES or now - changed > _KEPT_S:
            path.unlink(missing_ok=True)


def remove_before(spool: Path, time_s: float) -> None:
    """Delete the files from before a Unix time. Raises OSError."""
    for changed, _, path in _files_in(spool):
        if changed < time_s:
            path.unlink(missing_ok=True)


def remove_session(spool: Path, session_id: str) -> None:
    """Delete the requests that were uploaded in a session. Raises OSError."""
    for _, _, path in _files_in(spool):
        if path.suffix != REQUESTS:
            continue
        try:
            with path.open("rb") as file:
                if not any(_is_of(line, session_id) for line in file):
                    continue
                file.seek(0)
                write(path, (line for line in file if not _is_of(line, session_id)))
            if path.stat().st_size == 0:
                path.unlink()
        except ours(FileNotFoundError):
            continue  # another process has just taken it


def _is_of(line: bytes, session_id: str) -> bool:
    if encode_json(session_id) not in line:
        return False
    try:
        record = decode(line)
    except ours(msgspec.MsgspecError, OtherFormatError):
        return False
    return isinstance(record, CallRecord) and record.place.session_id == session_id


def write(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file atomically, for its owner only. Raises OSError."""
    make_private(path.parent)
    fresh = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}{_UNFINISHED}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(lines)
    fresh.replace(path)


def _files_in(spool: Path) -> Iterator[_File]:
    try:
        paths = list((spool / DIRECTORY).iterdir())
    except ours(FileNotFoundError, NotADirectoryError):
        return
    for path in paths:
        try:
            about = path.stat()
        except ours(FileNotFoundError):  # another process has just taken it
            continue
        yield _File(about.st_mtime, about.st_size, path)
