"""Spools: all directories in which records of a store may wait."""

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
    """Return the spool directories: next to the store's file, in the state directory, and the configured one."""
    path, configured = parse(url).path, load(warn=False).spool_dir
    beside = [] if path is None else _matching(path.parent, f"*{_SUFFIX}")
    found = chain([] if configured is None else [configured], beside, _matching(state_directory() / "spool", "*"))
    return list(dict.fromkeys(found))


def hold_segments(url: str) -> bool:
    """Return whether one of the directories has a segment of any process, or a count of lost records."""
    found = directories_of(url)
    return any(True for directory in found for pattern in (f"*{SUFFIX}", FILE) for _ in _matching(directory, pattern))


def _matching(directory: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from sorted(directory.glob(pattern))
    except ours(OSError):
        return
