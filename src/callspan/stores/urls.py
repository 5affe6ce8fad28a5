"""URLs: a store's URL becomes the sink that writes it or the reader that reads it; the directories of its spools."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, cast
from urllib.parse import SplitResult, parse_qsl, urlsplit

from callspan.fail_open import ours
from callspan.forks import late_import
from callspan.safe_urls import identity_of, names_user, safe_name, unescaped
from callspan.settings import SettingError, Settings
from callspan.settings import split_urls as split_text
from callspan.settings_loader import load, state_directory
from callspan.spool.losses import read_losses
from callspan.spool.segment import SUFFIX
from callspan.spool.sink import Sink
from callspan.stores.base import Reader

_SETTING: Final = "CALLSPAN_STORES"
_FORMS: Final = (
    "sqlite:///calls.db, sqlite:////absolute/calls.db, jsonl:///calls.jsonl, postgresql://user@host/database, "
    "clickhouse://user@host/database, unix:///run/receiver.sock, console://"
)
_FILES: Final = ("sqlite", "jsonl")
_SPOOL_SUFFIX: Final = ".spool"


class _Kind(NamedTuple):
    """One kind of store: the module and names of its classes, imported when a URL needs them."""

    sink: str
    reader: str | None = None
    file: bool = True
    """The URL names a path; else the class takes the URL."""
    extra: str | None = None
    """The optional dependency it needs."""


_KINDS: Final = {
    "sqlite": _Kind("sqlite.store:SQLiteStore", "sqlite.reader:SQLiteReader"),
    "jsonl": _Kind("jsonl.store:JsonLinesStore", "jsonl.reader:JsonLinesReader"),
    "unix": _Kind("unix_socket:UnixSocketStore"),
    "console": _Kind("console:ConsoleStore", file=False),
    "postgresql": _Kind("postgres.store:PostgresStore", "postgres.store:PostgresReader", file=False, extra="postgres"),
    "clickhouse": _Kind(
        "clickhouse.store:ClickHouseStore", "clickhouse.reader:ClickHouseReader", file=False, extra="clickhouse"
    ),
}  # fmt: skip
_ALIASES: Final = {"postgres": "postgresql", "sqlite3": "sqlite"}
_SUFFIXES: Final = {".db": "sqlite", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".jsonl": "jsonl", ".ndjson": "jsonl"}

_CLICKHOUSE_ADDRESS: Final = frozenset({"database", "dsn", "host", "interface", "password", "port", "username"})


class StoreUrl(NamedTuple):
    """A parsed store URL."""

    kind: str
    url: str
    path: Path | None
    """For stores that are files or sockets."""
    options: dict[str, str]
    """The query of a file's or socket's URL, such as `acks=on`."""


def parse(url: str) -> StoreUrl:
    """Parse a URL or bare path. Raises SettingError for an unknown kind or a missing path."""
    url = url.strip()
    if "://" not in url:
        kind = _SUFFIXES.get(Path(url).suffix.lower())
        if kind is None:
            raise _unknown(url)
        return StoreUrl(kind, f"{kind}:///{url}", _path(url), {})
    scheme = url.split("://", 1)[0].lower().split("+", 1)[0]
    kind = _ALIASES.get(scheme, scheme)
    if kind not in _KINDS:
        raise _unknown(url)
    if not _KINDS[kind].file:
        readable = _readable(url, kind)
        query = _split(url.replace("clickhouse+", "", 1)).query
        # The driver takes these from the part before the `?`, and raises TypeError if they are given twice.
        if kind == "clickhouse" and (
            repeated := _CLICKHOUSE_ADDRESS.intersection(name for name, _ in parse_qsl(query))
        ):
            names = ", ".join(sorted(repeated))
            raise SettingError(
                f"{_SETTING}: {safe_name(url)}: {names} cannot be parameters; write clickhouse://user:password@host:port/db"
            )
        return StoreUrl(kind, readable, None, {})
    if names_user(url):
        raise SettingError(
            f"{_SETTING}: {safe_name(url)} is a file and has no user; write for example {kind}:///calls.db"
        )
    split = _split(url)
    # `kind:///p` is relative and `kind:////p` absolute; a socket's path is absolute either way.
    path = (split.netloc + split.path) if split.netloc else split.path[1:]
    if kind == "unix" and not split.netloc:
        path = "/" + path.lstrip("/")
    if not path:
        raise SettingError(f"{_SETTING}: {safe_name(url)} has no path; write for example {kind}:///calls.{kind}")
    return StoreUrl(kind, url, _path(path), dict(parse_qsl(split.query)))


def _split(url: str) -> SplitResult:
    try:
        split = urlsplit(url)
        # Accessing the attribute validates it.
        _ = split.port
    except ours(ValueError):
        # The driver's message may quote a part of the password.
        raise SettingError(f"{_SETTING}: {safe_name(url)} is not a valid URL") from None
    return split


def _path(text: str) -> Path:
    """Return the path; `~` of an unknown user is kept. Raises SettingError if no file can have this name."""
    try:
        if b"\0" in os.fsencode(text):
            raise SettingError(f"{_SETTING}: {text!r}: a path cannot contain a NUL character")
        return Path(text).expanduser()
    except ours(UnicodeEncodeError) as error:
        raise SettingError(f"{_SETTING}: {text!r} is not a valid path: {error.reason}") from error
    except ours(RuntimeError):
        return Path(text)


def _readable(url: str, kind: str) -> str:
    """Return a server's URL in the driver's form. Raises SettingError if user or password are not escaped."""
    if unescaped(url):
        raise SettingError(
            f"{_SETTING}: {safe_name(url)}: write / as %2F, ? as %3F, # as %23, @ as %40 and % as %25 "
            "in the user and password, and a space as %20"
        )
    scheme, _, rest = url.partition("://")
    # libpq knows its scheme in lower case only, and would print the whole URL as an option without a `=`.
    scheme, (before, at, after) = scheme.lower(), rest.rpartition("@")
    if kind == "postgresql" and at and "@" in before and not set(before) & set("/?#"):
        # libpq ends the password at the first `@`, and would print the rest as the host name.
        return f"{scheme}://{before.replace('@', '%40')}@{after}"
    return f"{scheme}://{rest}"


def split_urls(urls: str | Path | Iterable[str | Path]) -> list[str]:
    """Return the URLs and paths of a comma list or of a sequence, trimmed, in order, without duplicates."""
    several = [urls] if isinstance(urls, str | Path) else urls
    split = ([str(one)] if isinstance(one, Path) else split_text(one) for one in several)
    return list(dict.fromkeys(url for found in split for url in found))


def check_store(url: object) -> None:
    """Raise SettingError for an invalid URL or one whose optional dependency is not installed."""
    _sink(parse(str(url)))


def sinks_for(urls: str | Iterable[str]) -> list[Sink]:
    """Return one sink per URL, in order, none opened yet.

    Raises SettingError for an invalid URL or one whose optional dependency is not installed.
    """
    return [_sink(parse(url)) for url in split_urls(urls)]


def load_sinks(urls: Iterable[str]) -> None:
    """Import the modules of these stores' sinks now instead of at the first record. Raises as `sinks_for`."""
    for url in urls:
        kind = parse(url).kind
        _load(kind, _KINDS[kind].sink)
        resources.files(__package__)  # imports its readers on first use


def open_store(urls: str | Path | Iterable[str | Path]) -> Reader:
    """Return a reader of the first of these stores, given by URL or path, that can be read. Close it after use.

    Raises:
        SettingError: None of them is readable by its kind.
        StoreError: It cannot be opened, for example because the file is missing.
    """
    return open_reader(first_readable(urls))


def open_reader(url: str, wait_s: float | None = None) -> Reader:
    """Return a reader of a store that can be read, as `open_store`; its answers may take `wait_s` seconds."""
    store = parse(url)
    reader = _load(store.kind, _KINDS[store.kind].reader or "")
    return cast("Reader", reader(store.path if store.path is not None else store.url, wait_s))


def readable(urls: Iterable[str]) -> list[str]:
    """Return those of the URLs whose stores can be read."""
    return [url for url in urls if _KINDS[parse(url).kind].reader is not None]


def first_readable(urls: str | Path | Iterable[str | Path]) -> str:
    """Return the URL of the first of these stores that can be read. Raises SettingError if none can."""
    split = split_urls(urls)
    for url in readable(split):
        return url
    names = ", ".join(map(safe_name, split)) or "nothing"
    raise SettingError(f"{_SETTING}: {names} cannot be read; name a store that keeps records: {_FORMS}")


def _sink(store: StoreUrl) -> Sink:
    make = _load(store.kind, _KINDS[store.kind].sink)
    if store.path is None:
        return cast("Sink", make(store.url))
    try:
        return cast("Sink", make(store.path, **store.options))
    except ours(SettingError):
        raise
    except ours(TypeError, ValueError):
        # Report names only: a value may be a secret, and the error would quote it.
        options = ", ".join(store.options)
        raise SettingError(
            f"{_SETTING}: {safe_name(store.url)} has an unknown option, or an invalid value of one: {options}"
        ) from None


def _load(kind: str, place: str) -> type:
    module, _, name = place.partition(":")
    extra = _KINDS[kind].extra
    try:
        return cast("type", getattr(late_import(f"callspan.stores.{module}"), name))
    except ours(ImportError) as error:
        if extra is None or (error.name or "").startswith("callspan"):
            raise
        raise SettingError(
            f'{_SETTING}: {kind} needs {error.name or extra}, which is not installed: pip install "callspan[{extra}]"'
        ) from error


def _unknown(url: str) -> SettingError:
    return SettingError(f"{_SETTING}: unknown kind of store {safe_name(url)!r}; use one of: {_FORMS}")


def spool_directory(settings: Settings, stores: tuple[str, ...]) -> Path:
    """Return the spool directory: as configured, next to the first file store, or in the state directory."""
    if settings.spool_dir is not None:
        return settings.spool_dir
    for url in stores:
        path = parse(url).path
        if path is not None and parse(url).kind in _FILES:
            return path.with_name(path.name + _SPOOL_SUFFIX)
    # One directory per set of stores, because a process that adopts a segment delivers it to its own stores. A
    # changed password does not make another store.
    return state_directory() / "spool" / sha256("\n".join(map(identity_of, stores)).encode()).hexdigest()[:16]


def directories_of(url: str) -> list[Path]:
    """Return the spool directories: next to the store's file, in the state directory, and the configured one."""
    path, configured = parse(url).path, load(warn=False).spool_dir
    beside = [] if path is None else _matching(path.parent, f"*{_SPOOL_SUFFIX}")
    found = chain([] if configured is None else [configured], beside, _matching(state_directory() / "spool", "*"))
    return list(dict.fromkeys(found))


def hold_segments(url: str) -> bool:
    """Return whether one of the directories has a segment of any process, or a count of lost records."""
    return any(any(_matching(directory, f"*{SUFFIX}")) or read_losses(directory) for directory in directories_of(url))


def _matching(directory: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from sorted(directory.glob(pattern))
    except ours(OSError):
        return
