"""Protocol: what a store is, made from its URL: its settings, its sink, and what else it can do."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, cast, runtime_checkable
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from callspan.conversion import converter
from callspan.fail_open import ours
from callspan.forks import late_attribute
from callspan.record.events import Record
from callspan.safe_urls import HIDDEN, names_user, safe_name, unescaped, user_of
from callspan.settings import SettingError
from callspan.spool.sink import Entry, Sink
from callspan.stores.base import DeletionResult, DeletionScope, Keep, Reader
from callspan.stores.sent import SentVersions

SETTING: Final = "CALLSPAN_STORES"
_LOOPBACK: Final = frozenset({"", "localhost", "127.0.0.1", "::1"})
_OF_IPV6: Final = 2
"""Colons that an address has at least, and host and port have not."""
_UNESCAPED: Final = (
    "write / as %2F, ? as %3F, # as %23, @ as %40 and % as %25 in the user and password, and a space as %20"
)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a store, in the query of its URL. A store with options has a subclass with a field for each.

    A value is read as the type of its field says: `int`, `float`, `bool`, `str`, a `Literal`. An option that is not
    there, or a value that is not of the type, makes the URL invalid.
    """


class Store:
    """A store that a URL names. Making one checks its URL, and opens, connects and creates nothing.

    Subclasses set `example`, and `options_type` where there are options, and have a method `sink`. What else a store
    can do it says by having the methods of `Readable` and `Erasable`.

    Attributes:
        url: The URL, with its password.
        name: The URL without user, password and query, fit for logs; sinks and readers have the same.
        options: The options in the URL.
        path: The path of a store that is a file or a socket; else None.
    """

    example: ClassVar[str]
    """A URL of such a store, for messages."""
    options_type: ClassVar[type[Options] | None] = Options
    """The type of its options; None: the query is the driver's."""
    extra: ClassVar[str | None] = None
    """The optional dependency of callspan that it needs, such as `postgres`."""
    driver_errors: ClassVar[tuple[str, ...]] = ()
    """Exceptions of its driver that it raises besides StoreError and OSError, as `module:Class`."""
    reduces: ClassVar[bool] = False
    """Whether its retention can take the content of records, and leave the rest."""
    is_file: ClassVar[bool] = False
    """Whether `path` is a file with records; its spool is beside it."""

    def __init__(self, url: str) -> None:
        """Raises SettingError for a URL with an option that is unknown or has an invalid value."""
        self.name, self.url = safe_name(url), url
        self.path: Path | None = None
        self.options = self._options()

    @property
    def identity(self) -> str:
        """A text that is the same for the same store and user, whatever the password. Never to be printed."""
        own = "" if self.options_type is None else f" {msgspec.structs.astuple(self.options)}".removesuffix(" ()")
        return f"{self.user} {self.address}{own}"

    @property
    def address(self) -> str:
        """A text that is the same for the same file, socket or database, however its URL is written."""
        return safe_name(self.url) if self.path is None else str(self.path.resolve())

    @property
    def user(self) -> str:
        """The user in the URL, "" if there is none; never to be printed."""
        return unquote(user_of(self.url))

    @property
    def absolute_url(self) -> str:
        """The URL for a process in another directory."""
        return self.url

    def sink(self) -> Sink:
        """Return the sink, not opened. Raises SettingError where something that it needs is not installed."""
        raise NotImplementedError

    def files(self) -> Sequence[Path]:
        """Return the files of the store, which the output of a command may not replace."""
        return [] if self.path is None else [self.path]

    def error(self, text: str) -> SettingError:
        """Return the error for this URL, which names it without its password."""
        return SettingError(f"{SETTING}: {self.name} {text}")

    def load(self, place: str) -> Callable[..., Any]:
        """Return what `module:name` says, imported now. Raises SettingError where a package that it needs is missing.

        A driver's module is imported by its store's sink and reader, not with the store.
        """
        try:
            found: Callable[..., Any] = late_attribute(place)
        except ours(ImportError) as error:
            if self.extra is None or (error.name or "").startswith("callspan"):
                raise
            needed = f'{error.name or self.extra}, which is not installed: pip install "callspan[{self.extra}]"'
            raise SettingError(f"{SETTING}: {self.extra} needs {needed}") from error
        return found

    def _options(self) -> Options:
        kind = self.options_type
        if kind is None:
            return Options()
        query = split_url(self.url).query
        try:
            return converter(kind, strict=False)(dict(parse_qsl(query, keep_blank_values=True)))
        except ours(msgspec.ValidationError):
            # Report names only: a value may be a secret, and the error would quote it.
            given = ", ".join(dict(parse_qsl(query)))
            known = ", ".join(kind.__struct_fields__) or "none"
            raise self.error(
                f"has an unknown option, or an invalid value of one: {given}; there are: {known}"
            ) from None


class PathStore(Store):
    """A store with a path: `kind:///p` is relative and `kind:////p` absolute. Its URL has no user."""

    path: Path

    def __init__(self, url: str, path: Path | None = None) -> None:
        """`path` where the store was named by one, not by a URL. Raises SettingError where the URL has no path."""
        if path is None and names_user(url):
            raise SettingError(
                f"{SETTING}: {safe_name(url)} is a file and has no user; write for example {self.example}"
            )
        super().__init__(url if path is None else url.partition("?")[0])
        self.path = self._path_in(split_url(url)) if path is None else path

    def _path_in(self, split: SplitResult) -> Path:
        text = (split.netloc + split.path) if split.netloc else split.path[1:]
        if not text:
            raise self.error(f"has no path; write for example {self.example}")
        return path_of(text)


class FileStore(PathStore):
    """A store that is a file with records."""

    is_file = True

    @property
    def absolute_url(self) -> str:
        """The URL for a process in another directory."""
        query = split_url(self.url).query
        kind = self.url.partition("://")[0].lower()
        return f"{kind}:///{self.path.absolute()}" + (f"?{query}" if query else "")


class ServerStore(Store):
    """A store on a server, whose URL may have a user and a password. `url` is in the form that drivers read."""

    def __init__(self, url: str) -> None:
        """Raises SettingError where user or password are not escaped."""
        if unescaped(url):
            raise SettingError(f"{SETTING}: {safe_name(url)}: {_UNESCAPED}")
        scheme, _, rest = url.partition("://")
        super().__init__(f"{scheme.lower()}://{rest}")
        self._query = dict(parse_qsl(split_url(self.url).query))

    @property
    def address(self) -> str:
        """A text that is the same for the same database of the same server, however the URL is written."""
        name = safe_name(self.url)
        hosts, _, database = name.partition("://")[2].partition("/")
        if HIDDEN in hosts:
            return name
        hosts, database = self._query.get("host", hosts), self._query.get("dbname", unquote(database).rstrip("/"))
        # As libpq reads them: a port for each host, or one for all.
        ports = self._query.get("port", "").split(",")
        pairs = zip_longest(hosts.split(","), ports, fillvalue=ports[-1])
        servers = sorted({self._server(host, port) for host, port in pairs})
        return f"{type(self).__name__} {','.join(servers)}/{database or self._default_database()}"

    @property
    def user(self) -> str:
        """The user in the URL, "" if there is none; never to be printed."""
        return self._query.get("user", super().user)

    def _server(self, host: str, port: str) -> str:
        bare, _, own = host.partition(":") if host.count(":") < _OF_IPV6 else host[1:].partition("]")
        name = unquote(bare)
        if not name.startswith("/"):
            name = name.lower().rstrip(".")
        return f"{'localhost' if name in _LOOPBACK else name}:{own.lstrip(':') or port or self._default_port()}"

    def _default_port(self) -> int | str:
        """Return the port of a URL without one; "" if unknown."""
        return ""

    def _default_database(self) -> str:
        """Return the database of a URL without one; "" if unknown."""
        return ""


class DatabaseStore(Store):
    """A store of callspan's own, which can be read, and from which records can be deleted."""

    sink_type: ClassVar[str]
    """The place of its sink, as `module:name`; so are the others. None is imported with the store."""
    reader_type: ClassVar[str]
    remover: ClassVar[str]
    retainer: ClassVar[str]
    sent_type: ClassVar[str | None] = None
    """The place of what remembers what was sent; None: it has no such table."""

    @property
    def place(self) -> str | Path:
        """Its path, or the URL that its driver connects to."""
        return self.url if self.path is None else self.path

    def sink(self) -> Sink:
        """Return the sink, not opened. Raises SettingError without its driver."""
        return cast("Sink", self.load(self.sink_type)(self.place))

    def reader(self, wait_s: float | None = None) -> Reader:
        """Open the store, see `Readable`; `wait_s` is also how long to wait for the locks of others."""
        return cast("Reader", self.load(self.reader_type)(self.place, wait_s))

    def sent(self, receiver: str) -> SentVersions:
        """Open what is known of a receiver, by its URL. Close it after use.

        Raises BusyError while another process sends to it, SettingError for a store that remembers nothing of it.
        """
        if self.sent_type is None:
            raise self.error("does not remember what was sent; `callspan send` needs SQLite or Postgres")
        return cast("SentVersions", self.load(self.sent_type)(self.place, receiver))

    def remove(self, scope: DeletionScope) -> DeletionResult:
        """Delete the records of a scope, see `Erasable`."""
        return cast("DeletionResult", self.load(self.remover)(self.place, scope))

    def retention(self, keep: Keep, counts: Counter[str]) -> Iterator[None]:
        """Delete what is old or too much, see `Retainable`."""
        return cast("Iterator[None]", self.load(self.retainer)(self.place, keep, counts))


def read_records(name: str, records: Callable[[], Iterable[Record]], *, once: bool = False) -> Reader:
    """Return a reader of records, which it reads for each query, or `once` for all; `name` is that of their store.

    `records` returns them as they were delivered: in any order, repeated ones and older versions too.
    """
    reader: Callable[..., Reader] = late_attribute("callspan.stores.sqlite.temporary:RecordsReader")
    return reader(name, records, once=once)


@runtime_checkable
class Readable(Protocol):
    """A store that can be read."""

    def reader(self, wait_s: float | None = None) -> Reader:
        """Open the store for reading; it creates and changes nothing. `wait_s`: the time for each answer; None: any.

        Raises EmptyStoreError where nothing was recorded yet, StoreError or its driver's errors where it cannot be
        opened, and SettingError where something that it needs is not installed.
        """


@runtime_checkable
class ShowsProgress(Protocol):
    """A reader that may read much of its store before it answers."""

    progress: Callable[[str], AbstractContextManager[Callable[[int, int], object]]]
    """Shows the progress of what it is given the name of, by a function of what is done and what there is to do."""


@runtime_checkable
class Erasable(Protocol):
    """A store from which records can be deleted."""

    def remove(self, scope: DeletionScope) -> DeletionResult:
        """Delete the records of a scope, and what only they refer to. An unknown session removes nothing.

        Raises EmptyStoreError where there is no store, else StoreError or its driver's errors.
        """


@runtime_checkable
class Retainable(Protocol):
    """A store that can delete what is old or too much, bit by bit."""

    def retention(self, keep: Keep, counts: Counter[str]) -> Iterator[None]:
        """Delete sessions with all that is in them, and calls outside sessions, oldest ended first.

        Each `next` works for some milliseconds and adds to `counts` what it deleted, by table; the end is reached when
        there is nothing more to do. It may be closed anywhere, and what was done of it stands.
        """


@runtime_checkable
class Triable(Protocol):
    """A sink that `callspan doctor` can try out; others are not opened by it."""

    def try_out(self, entry: Entry) -> str:
        """Have the store take a record and give it back, and return what was observed.

        Nothing stays: neither the record nor a file. The sink is not open before and after. Raises EmptyStoreError
        where there is no store yet, StoreError, OSError or its driver's errors where it takes no record.
        """


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL. Raises SettingError if it is invalid."""
    try:
        split = urlsplit(url)
        # Accessing the attribute validates it.
        _ = split.port
    except ours(ValueError):
        # The driver's message may quote a part of the password.
        raise SettingError(f"{SETTING}: {safe_name(url)} is not a valid URL") from None
    return split


def path_of(text: str) -> Path:
    """Return the path; `~` of an unknown user is kept. Raises SettingError if no file can have this name."""
    try:
        if b"\0" in os.fsencode(text):
            raise SettingError(f"{SETTING}: {text!r}: a path cannot contain a NUL character")
        return Path(text).expanduser()
    except ours(UnicodeEncodeError) as error:
        raise SettingError(f"{SETTING}: {text!r} is not a valid path: {error.reason}") from error
    except ours(RuntimeError):
        return Path(text)
