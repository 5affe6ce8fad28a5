"""Spool directory: which segments lie there, for whom, and which of them a process may adopt."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from callspan.fail_open import ours
from callspan.spool.cursors import CURSOR_SUFFIX, cursor_path, read_cursor
from callspan.spool.segment import SUFFIX, keys_of

BAD_SUFFIX: Final = ".bad"
"""Ends the names of files that keep the damaged parts of segments."""


class Listing:
    """The names in a spool directory at one moment, and what they say."""

    def __init__(self, directory: Path) -> None:
        """Read the directory. Raises OSError; one that does not exist is empty."""
        self.directory = directory
        try:
            self._names = frozenset(path.name for path in directory.iterdir())
        except ours(FileNotFoundError, NotADirectoryError):
            self._names = frozenset()
        self.segments = sorted(name for name in self._names if name.endswith(SUFFIX))
        """The oldest first."""

    def damaged(self) -> list[Path]:
        """Return the files that keep damaged parts of segments."""
        return sorted(self.directory / name for name in self._names if _is_bad(name))

    def for_stores(self, keys: Collection[str], *, unnamed: bool = True) -> list[str]:
        """Return the segments that one of these stores may still need; `unnamed`: also those that name no stores."""
        return [name for name in self.segments if self._needs(name, keys, unnamed=unnamed)]

    def for_others(self, keys: Collection[str]) -> list[str]:
        """Return the segments that only stores other than these still need."""
        named = [name for name in self.segments if keys_of(name) is not None]
        return [name for name in named if not self._needs(name, keys, unnamed=False)]

    def is_delivered(self, name: str, keys: Collection[str]) -> bool:
        """Return whether each of these stores has the whole segment, as far as files here say."""
        marked = [key for key in keys if cursor_path(self.directory, name, key).name in self._names]
        if len(marked) < len(keys):
            return False
        try:
            size = (self.directory / name).stat().st_size
        except ours(OSError):
            return True  # it was deleted meanwhile
        return all(read_cursor(self.directory, name, key) >= size for key in marked)

    def remove_stray_cursors(self) -> None:
        """Delete the cursor files of segments that are gone. Raises OSError."""
        segments = frozenset(self.segments)
        for name in self._names:
            if name.endswith(CURSOR_SUFFIX) and name.partition(SUFFIX)[0] + SUFFIX not in segments:
                self.directory.joinpath(name).unlink(missing_ok=True)

    def _needs(self, name: str, keys: Collection[str], *, unnamed: bool) -> bool:
        named = keys_of(name)
        if named is None:
            return unnamed
        mine = sorted(named.intersection(keys))
        # What every store has is still to be deleted, by the process that finds it.
        return bool(mine) and (not self.is_delivered(name, mine) or self.is_delivered(name, sorted(named)))


def _is_bad(name: str) -> bool:
    return name.endswith(BAD_SUFFIX) and SUFFIX in name


def size_of(directory: Path) -> int:
    """Return the bytes of all segments in the directory, of all writers. Raises OSError."""
    try:
        entries = os.scandir(directory)
    except ours(FileNotFoundError, NotADirectoryError):
        return 0
    with entries:
        return sum(_size(entry) for entry in entries if entry.name.endswith(SUFFIX))


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size if entry.is_file() else 0
    except ours(FileNotFoundError):
        return 0
