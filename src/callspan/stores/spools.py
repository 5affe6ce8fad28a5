"""Spools: the directories in which records wait for stores."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Final

from callspan.settings import Settings
from callspan.settings_loader import load, state_directory
from callspan.spool.losses import read_losses
from callspan.spool.segment import SUFFIX
from callspan.stores.urls import find_store

_SUFFIX: Final = ".spool"


def spool_directory(settings: Settings, stores: tuple[str, ...]) -> Path:
    """Return the spool directory: as configured, next to the first file store, or in the state directory."""
    if settings.spool_dir is not None:
        return settings.spool_dir
    for store in map(find_store, stores):
        if store.is_file and store.path is not None:
            return store.path.with_name(store.path.name + _SUFFIX)
    # One directory per set of stores, because a process that adopts a segment delivers it to its own stores. A
    # changed password does not make another store.
    named = "\n".join(sorted(f"{store.user} {store.address}" for store in map(find_store, stores)))
    return state_directory() / "spool" / sha256(named.encode()).hexdigest()[:16]


def directories_of(url: str) -> list[Path]:
    """Return the spool directories: next to the store's file, in the state directory, and the configured one."""
    path, configured = find_store(url).path, load(warn=False).spool_dir
    beside = [] if path is None else _matching(path.parent, f"*{_SUFFIX}")
    found = chain([] if configured is None else [configured], beside, _matching(state_directory() / "spool", "*"))
    return list(dict.fromkeys(found))


def hold_segments(url: str) -> bool:
    """Return whether one of the directories has a segment of any process, or a count of lost records."""
    return any(any(_matching(directory, f"*{SUFFIX}")) or read_losses(directory) for directory in directories_of(url))


def _matching(directory: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from sorted(directory.glob(pattern))
    except OSError:
        return
