"""Spools: the directories with waiting records for a store, in addition to that of its URL."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from callspan.fail_open import ours
from callspan.settings_loader import load, state_directory
from callspan.spool.segment import SUFFIX
from callspan.spool.waiting import FILE
from callspan.stores.urls import parse

_SUFFIX: Final = ".spool"


def directories_of(url: str) -> list[Path]:
    """Return the spool directories of files next to the store, of the state directory, and the one that is set."""
    path, configured = parse(url).path, load(warn=False).spool_dir
    beside = [] if path is None else _matching(path.parent, f"*{_SUFFIX}")
    found = chain([] if configured is None else [configured], beside, _matching(state_directory() / "spool", "*"))
    return list(dict.fromkeys(found))


def hold_segments(url: str) -> bool:
    """Return whether a segment of anybody's lies in one of them, or a note of what was lost there."""
    found = directories_of(url)
    return any(True for directory in found for pattern in (f"*{SUFFIX}", FILE) for _ in _matching(directory, pattern))


def _matching(directory: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from sorted(directory.glob(pattern))
    except ours(OSError):
        return
