"""Findings: files and directories of the spool that cannot be read or delivered, with the remedy for each.

`findings_in` finds them; every command prints its result.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from callspan.formatting import iso, plural
from callspan.spool.directory import STORES_FILE, entries_of, fallback_roots, file_size, stores_of
from callspan.spool.losses import LOSSES_FILE, are_damaged
from callspan.spool.segment import (
    CURSOR_SUFFIX,
    OWN_SUFFIX,
    SUFFIX,
    created_ns,
    is_locked,
    opened,
    segment_of_cursor,
    valid_cursor,
)

Kind: TypeAlias = Literal[
    "unknown stores", "another version", "unreadable", "another user", "damaged cursor", "damaged counts"
]
_REMEDIES: Final[dict[Kind, str]] = {
    "unknown stores": "Name its stores, which the name of the directory confirms: callspan --store <its stores> ship",
    "another version": "Deliver it by that version.",
    "unreadable": "Run callspan ship as the user that may write it, or correct its permissions.",
    "another user": "No record of this user is written there.",
    "damaged cursor": "Nothing is to be done: the records are delivered again, and stores keep them once.",
    "damaged counts": "Delete it: what it counted is unknown.",
}
_WITHOUT_RECORDS: Final = frozenset[Kind]({"another user", "damaged cursor", "damaged counts"})
_VERSION: Final = re.compile(rf"\.v(\d+){re.escape(SUFFIX)}$")


class Finding(NamedTuple):
    """A file or directory that cannot be read or delivered."""

    kind: Kind
    path: Path
    problem: str
    """What is wrong, as the rest of a sentence about the path."""
    segments: int = 0
    """Number of segments there."""
    size: int = 0
    """Their size in bytes."""
    since_ns: int | None = None
    """When the first of them was made, Unix time; None if unknown."""

    @property
    def remedy(self) -> str:
        """What to do."""
        return _REMEDIES[self.kind]

    @property
    def holds_records(self) -> bool:
        """Whether records may wait there that no command delivers."""
        return self.kind not in _WITHOUT_RECORDS

    def __str__(self) -> str:
        """Return a sentence without its full stop."""
        since = f" since {iso(self.since_ns)}" if self.since_ns else ""
        contents = f": {plural(self.segments, 'segment')}, {self.size:,} bytes{since}" if self.segments else ""
        return f"{self.path} {self.problem}{contents}"

    def as_json(self) -> dict[str, object]:
        """Return its fields for `--json`."""
        return {**self._asdict(), "path": str(self.path), "remedy": self.remedy}


def findings_in(roots: Iterable[Path], concerns: Callable[[Path], bool]) -> Iterator[Finding]:
    """Yield the findings below these roots: in directories with unknown stores, and those that `concerns` selects."""
    for root in dict.fromkeys(roots):
        try:
            entries = entries_of(root)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield _unreadable_root(root, error)
            continue
        for directory in entries:
            yield from _in_directory(directory, concerns)


def _unreadable_root(root: Path, error: OSError) -> Finding:
    """Return a finding about a root. Anyone can create one in `/tmp`, where records are written only to an own one."""
    is_strange = root in fallback_roots() and not _is_own(root)
    return Finding("another user" if is_strange else "unreadable", root, _refusal(root, error))


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _in_directory(directory: Path, concerns: Callable[[Path], bool]) -> Iterator[Finding]:
    try:
        files = sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield Finding("unreadable", directory, _refusal(directory, error))
        return
    if not stores_of(directory):
        yield from _without_stores(directory, [path for path in files if path.suffix == SUFFIX])
    elif concerns(directory):
        for path in files:
            yield from _in_file(path)


def _without_stores(directory: Path, segments: list[Path]) -> Iterator[Finding]:
    if segments:
        problem = f"does not state its stores (its file `{STORES_FILE}` is missing or damaged)"
        size, since_ns = sum(map(_size_of, segments)), min(map(created_ns, segments))
        yield Finding("unknown stores", directory, problem, len(segments), size, since_ns or None)


def _in_file(path: Path) -> Iterator[Finding]:
    if path.suffix == SUFFIX:
        yield from _in_segment(path)
    elif path.suffix == CURSOR_SUFFIX:
        segment = segment_of_cursor(path)
        if segment.exists() and valid_cursor(path, segment) is None and not is_locked(segment):
            yield Finding("damaged cursor", path, "is damaged")
    elif path.name == LOSSES_FILE and are_damaged(path.parent):
        yield Finding("damaged counts", path, "is damaged")


def _in_segment(path: Path) -> Iterator[Finding]:
    size, since_ns = _size_of(path), created_ns(path) or None
    if not path.name.endswith(OWN_SUFFIX):
        version = _VERSION.search(path.name)
        problem = f"has {f'version {version[1]}' if version else 'an unknown version'} of the format"
        yield Finding("another version", path, f"{problem}, and is left alone", 1, size, since_ns)
    elif (refusal := _problem_of(path)) is not None:
        yield Finding("unreadable", path, refusal, 1, size, since_ns)


def _problem_of(path: Path) -> str | None:
    """Return why a segment cannot be delivered; None if it can, or was just delivered and deleted."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return "is not a regular file"
        with opened(path, os.O_RDWR):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        return _refusal(path, error)


def _refusal(path: Path, error: OSError) -> str:
    reason = f"cannot be opened: {error.strerror or error}"
    with suppress(OSError):
        uid = path.lstat().st_uid
        return reason if uid == os.geteuid() else f"{reason} (it belongs to the user {uid})"
    return reason


def _size_of(path: Path) -> int:
    try:
        return file_size(path)
    except OSError:
        return 0
