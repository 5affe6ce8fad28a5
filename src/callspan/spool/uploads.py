"""Uploads: files of a spool directory with the requests of batches that were uploaded, and notes about these batches.

The requests of a file are full prompts, and stay until its batch is created. What nothing takes expires.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from callspan.fail_open import ours
from callspan.spool.segment import make_private

DIRECTORY: Final = "batch_files"
REQUESTS: Final = ".jsonl"
"""Suffix of a file of requests, one record per line."""
_UNFINISHED: Final = ".part"
_KEPT_S: Final = 30 * 86_400
"""OpenAI deletes the files of batches after 30 days."""
_BEING_WRITTEN_S: Final = 60.0
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


def requests_in(spool: Path) -> Iterator[bytes]:
    """Yield the requests of all files, unfinished ones included, each as a line. Raises OSError."""
    for one in _files_in(spool):
        if one.path.suffix in (REQUESTS, _UNFINISHED):
            with contextlib.suppress(FileNotFoundError), one.path.open("rb") as file:
                yield from file


def remove(spool: Path, is_gone: Callable[[bytes], bool]) -> int:
    """Delete the requests of which `is_gone` is true, each a line. Raises OSError.

    Returns how many stay, because their file is being written.
    """
    stay = 0
    for changed, _, path in _files_in(spool):
        if path.suffix not in (REQUESTS, _UNFINISHED):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process has just taken it
            if path.suffix == _UNFINISHED and time.time() - changed <= _BEING_WRITTEN_S:
                with path.open("rb") as file:
                    stay += sum(map(is_gone, file))
            else:
                _remove_from(path, is_gone)
    return stay


def _remove_from(path: Path, is_gone: Callable[[bytes], bool]) -> None:
    with path.open("rb") as file:
        if any(map(is_gone, file)):
            file.seek(0)
            write(path, (line for line in file if not is_gone(line)))
    if path.stat().st_size == 0:
        path.unlink()


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
