"""Takeover: delivers the waiting records of ended processes before a store is read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from callspan.delivery.recorder import store_sinks
from callspan.record.formats import OtherFormatError
from callspan.settings import SettingError
from callspan.settings_loader import load
from callspan.spool.directory import (
    Listing,
    Waiting,
    can_be_adopted,
    refusals,
    store_key,
    waiting,
    waiting_for_others,
)
from callspan.spool.sink import Sink
from callspan.spool.spool import Progress, Spool, no_progress
from callspan.stores.spools import directories_of, spool_directory

TIMEOUT_S: Final = 30.0
"""Maximum time in seconds that a reader spends on it."""
_TRIES: Final = 3
_CLOSE_S: Final = 0.5


class DeliveryResult(NamedTuple):
    """The result of delivering waiting records."""

    delivered: int
    directories: tuple[Path, ...]
    """The spool directories."""
    corrupt_bytes: int
    errors: tuple[str, ...]
    """Why the store did not accept records."""


class SpoolLocation(NamedTuple):
    """A spool directory with records that may wait for the store."""

    directory: Path
    key: str
    """The store's key in this directory."""
    own: bool
    """True for the directory of exactly these stores; False for another that may also serve this store."""
    unnamed: bool
    """Whether segments without store keys are included."""
    stores: tuple[str, ...]
    """The URLs of all configured stores."""


def _add_up(progress: Progress, before: int, delivered: int) -> None:
    progress(before + delivered)


def places(urls: Sequence[str], readable: str) -> list[SpoolLocation]:
    """Return the existing spool directories that may hold records for the store `readable`, one of `urls`.

    These are the directory of these stores, those next to a store's file, and all in the state directory. Raises
    SettingError for an invalid store.
    """
    (sink,) = _sinks(readable)
    own = spool_directory(load({"stores": tuple(urls)}, warn=False), tuple(urls))
    alone, stores = len(urls) == 1, tuple(urls)
    return [
        SpoolLocation(directory, store_key(directory, sink), directory == own, directory == own and alone, stores)
        for directory in dict.fromkeys((own, *directories_of(readable)))
        if directory.is_dir()
    ]


def take_over(
    found: Sequence[SpoolLocation], readable: str, *, timeout_s: float = TIMEOUT_S, progress: Progress = no_progress
) -> DeliveryResult:
    """Deliver the waiting records that no running process holds to the store; failures are retried a few times.

    `progress` is called periodically with the number of records delivered.
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
    return DeliveryResult(delivered, tuple(directories), corrupt, tuple(dict.fromkeys(errors)))


def still_waiting(found: Sequence[SpoolLocation]) -> list[Waiting]:
    """Return the segments with records that wait for the store."""
    return [one for place in found for one in _waiting_in(place)]


def _waiting_in(place: SpoolLocation) -> list[Waiting]:
    try:
        return waiting(place.directory, place.key, unnamed=place.unnamed)
    except OSError:
        return []  # not readable by this user


def refused(found: Sequence[SpoolLocation]) -> list[str]:
    """Return a sentence for each other format that segments for the store have, and each of their directories."""
    return [str(one) for place in found for one in _refused_in(place)]


def _refused_in(place: SpoolLocation) -> list[OtherFormatError]:
    try:
        return refusals(place.directory, None if place.own else (place.key,))
    except OSError:
        return []  # not readable by this user


class ForeignBacklog(NamedTuple):
    """Records in the stores' own directory that wait for other stores and are held by no process."""

    directory: Path
    store: str | None
    """The store's name; None: stores that are not configured."""
    records: int


def for_others(found: Sequence[SpoolLocation]) -> list[ForeignBacklog]:
    """Return the records that wait for other stores; none if a configured store is invalid."""
    return [one for place in found if place.own for one in _for_others(place) if one.records]


def _for_others(place: SpoolLocation) -> Iterator[ForeignBacklog]:
    # Identifying the other stores may need imports that take long.
    if not Listing(place.directory).for_others((place.key,)):
        return
    try:
        sinks = _sinks(place.stores)
    except SettingError:
        return
    keys = [store_key(place.directory, sink) for sink in sinks]
    for sink, key in zip(sinks, keys, strict=True):
        if key != place.key:
            left = waiting(place.directory, key, unnamed=False)
            yield ForeignBacklog(place.directory, sink.name, sum(one.records for one in left if not one.held))
    yield ForeignBacklog(place.directory, None, waiting_for_others(place.directory, keys))


def _sinks(urls: str | Sequence[str]) -> list[Sink]:
    return store_sinks(urls, load(warn=False).prices)


def _has_orphans(place: SpoolLocation) -> bool:
    try:
        return can_be_adopted(place.directory, place.key, unnamed=place.unnamed)
    except OSError:
        return False
