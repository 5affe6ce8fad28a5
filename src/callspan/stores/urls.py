"""URLs: finds the store of a URL by its scheme."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata, resources
from pathlib import Path
from typing import Final, cast

from callspan.runtime.fail_open import is_interrupt
from callspan.runtime.forks import LATE_IMPORTS, late_attribute
from callspan.runtime.safe_urls import error_text, safe_name
from callspan.settings import SettingError, split_url_list
from callspan.stores.protocol import SETTING, PathStore, ReadableStore, Store, path_of

ENTRY_POINTS: Final = "callspan.stores"
"""Entry point group of stores of other distributions, named by the scheme of their URLs."""
_STORES: Final = {
    "sqlite": "callspan.stores.sqlite:SQLite",
    "sqlite3": "callspan.stores.sqlite:SQLite",
    "jsonl": "callspan.stores.jsonl:JsonLines",
    "postgresql": "callspan.stores.postgres:Postgres",
    "postgres": "callspan.stores.postgres:Postgres",
    "clickhouse": "callspan.stores.clickhouse:ClickHouse",
    "unix": "callspan.stores.unix_socket:UnixSocket",
    "console": "callspan.stores.console:Console",
    "otlp": "callspan.otlp.record_store:OtlpRecords",
}
"""The stores of callspan, by scheme, imported on first use."""
_SUFFIXES: Final = {".db": "sqlite", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_LOADED: Final = frozenset({"jsonl"})
"""Schemes of write-only stores that `callspan import` can load."""
_imported: Final[dict[str, type[Store]]] = {}
"""The stores that this process has imported, by scheme."""


def find_store(url: str) -> Store:
    """Return the store of a URL or bare path, without opening it.

    Raises SettingError if the scheme is unknown, the URL is invalid, or an installed store fails to load.
    """
    url = url.strip()
    if "://" in url:
        kind = _kind(url)
        return kind(url) if kind.__module__.startswith("callspan.") else _made(kind, url)
    scheme = _SUFFIXES.get(Path(url).suffix.lower())
    if scheme is None:
        raise _unknown(url)
    return cast("type[PathStore]", _kind(f"{scheme}://"))(f"{scheme}:///{url}", path_of(url))


def scheme_of(url: str) -> str:
    """Return the scheme of a store's URL, in lower case, without a suffix after `+`."""
    return url.strip().partition("://")[0].lower().partition("+")[0]


def driver_errors() -> tuple[type[Exception], ...]:
    """Return the driver exceptions of all stores imported by this process."""
    targets = [target.partition(":") for kind in _imported.values() for target in kind.driver_errors]
    errors = (getattr(sys.modules.get(module), name, None) for module, _, name in targets)
    return tuple(dict.fromkeys(error for error in errors if error is not None))


def _kind(url: str) -> type[Store]:
    scheme = scheme_of(url)
    if scheme not in _imported:
        _imported[scheme] = late_attribute(_STORES[scheme]) if scheme in _STORES else _others(url)
    return _imported[scheme]


def _entry_points(url: str) -> list[metadata.EntryPoint]:
    return list(metadata.entry_points(group=ENTRY_POINTS, name=scheme_of(url)))


def _others(url: str) -> type[Store]:
    """Return another distribution's store. Raises SettingError if none or several provide it, or loading fails."""
    points = _entry_points(url)
    if not points:
        raise _unknown(url)
    if len(points) > 1:
        distributions = " and ".join(map(_distribution, points))
        raise SettingError(f"{SETTING}: {safe_name(url)} is a store of {distributions}: uninstall all but one")
    try:
        with LATE_IMPORTS:
            kind = points[0].load()
    except Exception as error:
        if is_interrupt(error):
            raise
        why = f"{type(error).__name__}: {error_text(error)}"
        raise SettingError(
            f"{SETTING}: {safe_name(url)}: the store of {_distribution(points[0])} cannot be loaded: {why}"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Store)):
        raise SettingError(
            f"{SETTING}: {safe_name(url)}: {points[0].value} of {_distribution(points[0])} is no callspan.stores.Store"
        )
    return kind


def _made(kind: type[Store], url: str) -> Store:
    try:
        return kind(url)
    except Exception as error:
        if isinstance(error, SettingError) or is_interrupt(error):
            raise
        # The message may quote a secret of the URL.
        raise SettingError(
            f"{SETTING}: {safe_name(url)} is not understood by its store ({type(error).__name__})"
        ) from None


def _distribution(point: metadata.EntryPoint) -> str:
    return point.value if point.dist is None else f"{point.dist.name} {point.dist.version}"


def split_urls(urls: str | Path | Iterable[str | Path]) -> list[str]:
    """Return the URLs and paths of a comma-separated string or a sequence: trimmed, in order, without duplicates."""
    values = [urls] if isinstance(urls, str | Path) else urls
    parts = ([str(value)] if isinstance(value, Path) else split_url_list(value) for value in values)
    return list(dict.fromkeys(url for group in parts for url in group))


def check_store(url: object) -> None:
    """Raise SettingError for an invalid URL or a missing optional dependency."""
    find_store(str(url)).sink()


def load_sinks(urls: Iterable[str]) -> None:
    """Import the sinks of these stores now instead of at the first record.

    Raises SettingError for an invalid URL or a missing optional dependency.
    """
    for url in split_urls(urls):
        find_store(url).sink()
    resources.files(__package__)  # makes importlib import its resource readers


def readable(urls: Iterable[str]) -> dict[str, ReadableStore]:
    """Return the readable stores among these, by URL, in order."""
    stores = {url: find_store(url) for url in urls}
    return {url: store for url, store in stores.items() if isinstance(store, ReadableStore)}


def first_readable(urls: str | Path | Iterable[str | Path]) -> str:
    """Return the URL of the first readable store. Raises SettingError if no store is readable."""
    listed_urls = split_urls(urls)
    for url in readable(listed_urls):
        return url
    names = ", ".join(map(safe_name, listed_urls)) or "nothing"
    loads = next((url for url in listed_urls if scheme_of(find_store(url).url) in _LOADED), None)
    if loads is None:
        raise SettingError(f"{SETTING}: {names} cannot be read; name a SQLite file, a Postgres or ClickHouse database")
    load = f"callspan import {safe_name(loads)} --into callspan.db"
    raise SettingError(f"{SETTING}: {names} is written, not read; load it into a store that is: {load}")


def _forms() -> str:
    return ", ".join(dict.fromkeys(_kind(f"{scheme}://").example for scheme in _STORES))


def _unknown(url: str) -> SettingError:
    other_schemes = ", ".join(sorted({f"{point.name}://" for point in metadata.entry_points(group=ENTRY_POINTS)}))
    forms = _forms() + (f"; of other distributions: {other_schemes}" if other_schemes else "")
    return SettingError(f"{SETTING}: unknown kind of store {safe_name(url)!r}; use one of: {forms}")
