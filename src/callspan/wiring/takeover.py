"""Takeover: delivers the waiting records of ended processes before a store is read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from callspan.fail_open import ours
from callspan.settings import SettingError
from callspan.settings_loader import load
from callspan.spool.directory import Listing, store_key, store_keys
from callspan.spool.sink import Sink
from callspan.spool.spool import Progress, Spool, no_progress
from callspan.spool.waiting import Waiting, can_be_adopted, waiting, waiting_for_others
from callspan.stores.spools import directories_of
from callspan.wiring.recorder import spool_directory
from callspan.wiring.store_sinks import store_sinks

TIMEOUT_S: Final = 30.0
"""How long a reader spends on it at most."""
_TRIES: Final = 3
_CLOSE_S: Final = 0.5


class TakenOver(NamedTuple):
    """What became of the records that waited."""

    delivered: int
    directories: tuple[Path, ...]
    """Where they waited."""
    corrupt_bytes: int
    errors: tuple[str, ...]
    """Why the store did not take records."""


class Place(NamedTuple):
    """A spool directory in which records may wait for the store."""

    directory: Path
    key: str
    """The store's key there."""
    own: bool
    """It is the directory of exactly these stores, and not only one that may serve this store, too."""
    unnamed: bool
    """Segments that do not say which stores they are for are meant, too."""
    stores: tuple[str, ...]
    """The URLs of all stores named."""


def _add_up(progress: Progress, before: int, delivered: int) -> None:
    progress(before + delivered)


def places(urls: Sequence[str], readable: str) -> list[Place]:
    """Return the existing spool directories that may hold records for the store `readable`, one of `urls`.

    That of these stores; beside a file, those of the files next to it; and all below the state directory. Raises
    SettingError for a store that cannot be used here.
    """
    (sink,) = _sinks(readable)
    own = spool_directory(load({"stores": tuple(urls)}, warn=False), tuple(urls))
    alone, stores = len(urls) == 1, tuple(urls)
    return [
        Place(directory, store_key(directory, sink), directory == own, directory == own and alone, stores)
        for directory in dict.fromkeys((own, *directories_of(readable)))
        if directory.is_dir()
    ]


def take_over(
    found: Sequence[Place], readable: str, *, timeout_s: float = TIMEOUT_S, progress: Progress = no_progress
) -> TakenOver:
    """Deliver to the store what waits for it and no running process has; what fails is tried a few times.

    `progress` is called now and then with the number of records delivered.
    """
    deadline = time.monotonic() + timeout_s
    delivered, corrupt, errors, directories = 0, 0, list[str](), list[Path]()
    for place in found:
        if not _has_orphans(place):
            continue
        spool = Spool(place.directory, _sinks(readable), unnamed=place.unnamed)
        left_s = max(0.0, deadline - time.monotonic())
        spool.ship(left_s, tries=_TRIES, progress=partial(_add_up, progress, delivered))
        states = spool.states()
        spool.close(_CLOSE_S)
        number = sum(state.delivered for state in spool.states())
        delivered += number
        directories += [place.directory] if number else []
        errors += [state.error for state in states if state.error is not None]
        corrupt += spool.counters()["corrupt_bytes"]
    return TakenOver(delivered, tuple(directories), corrupt, tuple(dict.fromkeys(errors)))


def still_waiting(found: Sequence[Place], position: Callable[[str], int | None] | None = None) -> list[Waiting]:
    """Return what waits for the store; `position`: how far it has a segment by what it says itself."""
    return [one for place in found for one in _waiting_in(place, position)]


def _waiting_in(place: Place, position: Callable[[str], int | None] | None) -> list[Waiting]:
    try:
        return waiting(place.directory, place.key, position, unnamed=place.unnamed)
    except ours(OSError):
        return []  # not ours to read


def for_others(found: Sequence[Place]) -> dict[Path, int]:
    """Return how many records wait in the stores' own directory for stores that were not named, if any do."""
    counted = {place.directory: _for_others(place) for place in found if place.own}
    return {directory: records for directory, records in counted.items() if records}


def _for_others(place: Place) -> int:
    # What the other stores named need to be identified may take long to import.
    if not Listing(place.directory).for_others((place.key,)):
        return 0
    try:
        keys = store_keys(place.directory, _sinks(place.stores))
    except ours(SettingError):
        return 0  # one of them cannot be used here, so its key is unknown
    return waiting_for_others(place.directory, keys)


def for_named(found: Sequence[Place]) -> dict[tuple[Path, str], int]:
    """Return how many records that no process has wait for the other stores named, by directory and store."""
    counted: Counter[tuple[Path, str]] = Counter()
    for place in found:
        if place.own and len(place.stores) > 1 and Listing(place.directory).for_others((place.key,)):
            for name, key in _named(place):
                counted[place.directory, name] += sum(
                    one.records for one in waiting(place.directory, key, unnamed=False) if not one.held
                )
    return +counted


def _named(place: Place) -> list[tuple[str, str]]:
    """Name and key of each other store named; none where one of them cannot be used here."""
    try:
        sinks = _sinks(place.stores)
    except ours(SettingError):
        return []
    return [(sink.name, key) for sink in sinks if (key := store_key(place.directory, sink)) != place.key]


def _sinks(urls: str | Sequence[str]) -> list[Sink]:
    return store_sinks(urls, load(warn=False).prices)


def _has_orphans(place: Place) -> bool:
    try:
        return can_be_adopted(place.directory, place.key, unnamed=place.unnamed)
    except ours(OSError):
        return False
