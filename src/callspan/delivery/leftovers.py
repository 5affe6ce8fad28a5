"""Leftovers: delivers the records left by ended processes to a store, and lists those that still wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from callspan.delivery.store_sink import StoreSink, store_of
from callspan.settings import Settings
from callspan.settings_loader import load
from callspan.spool import directory as places
from callspan.spool import leftover
from callspan.spool.directory import WaitingSegment
from callspan.spool.leftover import Progress, Result
from callspan.stores.spools import directories_for, roots_for, target_of
from callspan.stores.urls import find_store

TIMEOUT_S: Final = 30.0
"""Time limit in seconds before a store is read."""


def deliver(
    url: str, *, timeout_s: float = TIMEOUT_S, progress: Progress | None = None, settings: Settings | None = None
) -> Result:
    """Deliver the records that wait for a store, unless a running process holds them.

    `settings` None: those of the environment. Raises SettingError for an invalid URL.
    """
    settings = settings or load(warn=False)
    store, directories = store_of(url, settings), directories_for(url, settings)
    if all(one.held for one in waiting(url, settings)):
        return Result()
    sink = StoreSink(store, settings.prices)
    return leftover.deliver(directories, target_of(store), sink, timeout_s=timeout_s, progress=progress)


def waiting(url: str, settings: Settings | None = None) -> list[WaitingSegment]:
    """Return the segments with records that wait for a store. Raises SettingError for an invalid URL."""
    target, directories = target_of(find_store(url)), directories_for(url, settings)
    return [one for directory in directories for one in places.waiting(directory, target.key(directory.parent))]


def other_directories(urls: Sequence[str]) -> Iterator[Path]:
    """Yield the directories with segments that a process with exactly these stores would not deliver."""
    targets = [target_of(find_store(url)) for url in urls]
    for directory in places.directories_in([root for url in urls for root in roots_for(url)]):
        mine = {target.key(directory.parent) for target in targets}
        if not places.keys_of(directory) <= mine and places.segments_in(directory):
            yield directory


def foreign_segments(urls: Sequence[str]) -> list[Path]:
    """Return the segments of other format versions in the directories of these stores."""
    found = dict.fromkeys(directory for url in urls for directory in directories_for(url))
    return [path for directory in found for path in places.foreign_segments_in(directory)]
