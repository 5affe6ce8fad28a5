"""Retention of JSON Lines: a rotated file goes as a whole; the one that is being written is not touched."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from callspan.file_lock import locked
from callspan.stores.aggregates import is_gone
from callspan.stores.base import Keep
from callspan.stores.columns import TABLES
from callspan.stores.jsonl.store import SKIPPED_LINES, JsonLinesStore, Seen, files_of, rejected_path, whole_lines

_AT_ONCE: Final = 200
"""Lines of a step."""
_RUNNING: Final = ("started", "in_progress")


class _Line(Seen):
    """The fields of a line that say whether what it records has ended."""

    end_ns: int | None = None
    outcome: str | None = None
    host: str | None = None
    pid: int | None = None

    @property
    def has_ended(self) -> bool:
        return self.end_ns is not None if self.kind == "session" else self.outcome not in _RUNNING


_line_of: Final = msgspec.json.Decoder(_Line).decode


def retain(path: Path, keep: Keep, counts: Counter[str]) -> Iterator[None]:
    """Delete the oldest rotated files, while all that they hold has ended and is old, or there are too many bytes.

    Everything in a file is older than its last change. Raises OSError.
    """
    if not path.parent.is_dir():
        return
    if keep.before_ns is not None and _changed_ns(rejected_path(path)) < keep.before_ns:
        rejected_path(path).unlink(missing_ok=True)
    files = [file for file in files_of(path) if file.exists()]
    used = sum(file.stat().st_size for file in files)
    while files and files[0] != path:
        file, *files = files
        is_old = keep.before_ns is not None and _changed_ns(file) < keep.before_ns
        is_too_much = keep.most_bytes is not None and used > keep.most_bytes and _changed_ns(file) < keep.until_ns
        if not (is_old or is_too_much):
            return
        known: set[tuple[str, str]] = set()
        limit_ns = keep.before_ns if is_old and keep.before_ns is not None else keep.until_ns
        if (yield from _goes_on([file, *files], keep.quiet_ns, limit_ns, known)):
            return
        used -= file.stat().st_size
        with locked(JsonLinesStore(path).lock_path):
            file.unlink(missing_ok=True)
        kinds = Counter(kind for kind, _ in known)
        counts.update({table.name: kinds[kind] for kind, table in TABLES.items() if kinds[kind]})
        yield


def _changed_ns(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.stat().st_mtime_ns
    return 2**63


def _goes_on(
    files: Sequence[Path], quiet_ns: int, limit_ns: int, known: set[tuple[str, str]]
) -> Generator[None, None, bool]:
    """Return whether something in the first file has not ended, or ended too late; note its records in `known`."""
    without_end: dict[tuple[str, str], _Line] = {}
    for file in files:
        is_first = file == files[0]
        for number, raw in enumerate(whole_lines(file), 1):
            if number % _AT_ONCE == 0:
                yield
            with suppress(*SKIPPED_LINES):
                line = _line_of(raw)
                key = line.key()
                if is_first:
                    known.add(key)
                if line.kind in ("session", "call") and (is_first or key in without_end):
                    if not line.has_ended:
                        without_end[key] = line
                    elif (line.end_ns or 0) >= limit_ns:
                        return True
                    else:
                        without_end.pop(key, None)
            if not (is_first or without_end):
                return False
    here = socket.gethostname()
    late = _changed_ns(files[0]) >= quiet_ns
    return any(late or (one.host == here and not is_gone(one.host, one.pid)) for one in without_end.values())
