"""Spools: the directories with records that wait for their stores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Final

from callspan.settings import SettingError, Settings, absolute
from callspan.settings_loader import load, state_directory
from callspan.spool.directory import (
    Target,
    directory_of,
    fallback_roots,
    files_in,
    lists_in,
)
from callspan.spool.findings import Finding, findings_in
from callspan.stores.protocol import Store
from callspan.stores.urls import find_store

_SUFFIX: Final = ".spool"
_MAX_KNOWN: Final = 6
"""If a directory does not state its stores, its name is compared with the subsets of at most this many stores."""


def target_of(store: Store) -> Target:
    """Return the delivery target of a store."""
    if store.path is None:
        return Target(store.name, store.identity)
    kind = store.name.partition(":")[0]
    paths = _paths_of(store.path) if store.is_file else ()
    return Target(store.name, f"{kind}://{absolute(store.path)}", paths)


def _paths_of(path: Path) -> tuple[Path, ...]:
    """Return two paths of a file: with symbolic links resolved, and by its own name. Without a link they are equal.

    Processes may name one file by different links, and find each other's records beside the file.
    """
    path = absolute(path)
    with suppress(OSError):  # the current directory was deleted, or a directory may not be entered
        return (Path(os.path.realpath(path)), path.parent.resolve() / path.name)
    return (path, path)


def roots_of(settings: Settings, stores: Iterable[Store]) -> list[Path]:
    """Return the roots of the spool of these stores: the usual one, then the fallbacks if it is not writable."""
    return [_usual_root(settings, stores), *fallback_roots()]


def _usual_root(settings: Settings, stores: Iterable[Store]) -> Path:
    if settings.spool_dir is not None:
        return settings.spool_dir
    for store in stores:
        if store.is_file and store.path is not None:
            file = _paths_of(store.path)[0]
            return file.parent / (file.name + _SUFFIX)
    return state_directory() / "spool"


def spool_directory(settings: Settings, urls: Sequence[str]) -> Path:
    """Return the usual spool directory of a set of stores. Raises SettingError for an invalid URL."""
    stores = [find_store(url) for url in urls]
    return directory_of(_usual_root(settings, stores), [target_of(store) for store in stores])


def roots_for(urls: Iterable[str], settings: Settings | None = None) -> list[Path]:
    """Return the roots that may hold records for these stores, alone or together with the stores of the settings.

    `settings` None: the environment's.
    """
    settings = settings or load(warn=False)
    roots = [] if settings.spool_dir is None else [settings.spool_dir]
    for url in (*urls, *settings.stores):
        with suppress(SettingError):  # an invalid URL prevents no delivery to another store
            if (path := find_store(url).path) is not None:
                siblings = [sibling for file in _paths_of(path) for sibling in files_in(file.parent)]
                roots += sorted(sibling for sibling in siblings if sibling.name.endswith(_SUFFIX))
    return [*dict.fromkeys([*roots, state_directory() / "spool", *fallback_roots()])]


def findings_for(urls: Sequence[str], settings: Settings | None = None) -> list[Finding]:
    """Return what keeps records for these stores from being found or delivered. Raises SettingError."""
    directories = set(_directories_of(urls, (), settings))
    return list(findings_in(roots_for(urls, settings), directories.__contains__))


def _sets_of(urls: Iterable[str]) -> list[tuple[Target, ...]]:
    """Return the sets of stores that a process may have had, given the URLs that are known."""
    targets: list[Target] = []
    for url in dict.fromkeys(urls):
        with suppress(SettingError):  # another store's URL
            targets.append(target_of(find_store(url)))
    targets = targets[:_MAX_KNOWN]
    return [subset for number in range(len(targets)) for subset in combinations(targets, number + 1)]


def directories_for(url: str, other_urls: Sequence[str], settings: Settings | None = None) -> list[Path]:
    """Return the spool directories that list a store, also beside the files of the stores in `other_urls`.

    Raises SettingError for an invalid URL.
    """
    return list(_directories_of([url], other_urls, settings))


def _directories_of(urls: Sequence[str], other_urls: Sequence[str], settings: Settings | None) -> Iterator[Path]:
    """Yield the spool directories that list any of these stores. Others below the same roots are read only once."""
    targets = [target_of(find_store(url)) for url in urls]
    target_sets = _sets_of((*urls, *other_urls, *(settings or load(warn=False)).stores))
    for root in roots_for([*urls, *other_urls], settings):
        entries = {target.list_entry(root) for target in targets}
        yield from (
            directory for directory, lines in lists_in(root, target_sets).items() if entries.intersection(lines)
        )
