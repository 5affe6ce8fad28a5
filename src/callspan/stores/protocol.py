"""Protocol: the interface of a store, made from its URL: its options, its sink, and its reader, if it has one."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, cast
from urllib.parse import SplitResult, parse_qsl, urlsplit

from callspan.forks import late_attribute
from callspan.record.events import Record
from callspan.safe_urls import names_user, safe_name, unescaped
from callspan.settings import SettingError
from callspan.spool.delivering import Rejected
from callspan.stores.base import DeletionScope, on_error
from callspan.stores.database import Database
from callspan.stores.reader import Reader
from callspan.stores.removal import Keep, remove, retain
from callspan.stores.sent import SentVersions

SETTING: Final = "CALLSPAN_STORES"
_AT_ONCE: Final = 100
_TRIAL_S: Final = 5.0
"""How long connecting, and each statement, may take where a store is tried out."""
_CREDENTIALS: Final = frozenset({"user", "username", "password"})
_UNESCAPED: Final = (
    "write / as %2F, ? as %3F, # as %23, @ as %40 and % as %25 in the user and password, and a space as %20"
)


class Sink(Protocol):
    """Delivers records to a store. Used by one thread at a time, never by the application's threads."""

    batch_records: int
    """Preferred number of records in a batch."""

    def open(self) -> None:
        """Connect, and create missing tables or files. Called before the first delivery and after each failure."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Store all records durably, or raise and store none; a record that the store has changes nothing.

        Raises Rejected for one that it can never take; after any other exception a retry may succeed.
        """

    def close(self) -> None:
        """Close files and connections; `open` may follow."""


def deliver_all(sink: Sink, records: Iterable[Record]) -> list[Record]:
    """Open a sink and deliver records in batches; return those that it refuses."""
    left, refused = iter(records), list[Record]()
    sink.open()
    while some := list(islice(left, _AT_ONCE)):
        refused += _refused(sink, some)
    return refused


def _refused(sink: Sink, records: Sequence[Record]) -> list[Record]:
    try:
        sink.deliver(records)
    except Rejected:
        if len(records) == 1:
            return [*records]
        return [one for record in records for one in _refused(sink, [record])]
    return []


class Store:
    """A store that a URL names. Making one checks its URL, and opens, connects and creates nothing.

    Subclasses set `example`, and `option_names` where there are options, and have a method `sink`.

    Attributes:
        url: The URL, with its password.
        name: The URL without user, password and query, fit for logs; sinks and readers have the same.
        options: The options in the query of the URL, as texts.
        path: The path of a store that is a file or a socket; else None.
    """

    example: ClassVar[str]
    """A URL of such a store, for messages."""
    option_names: ClassVar[Collection[str] | None] = ()
    """The names of its options; None: the query is the driver's."""
    extra: ClassVar[str | None] = None
    """The optional dependency of callspan that it needs, such as `postgres`."""
    driver_errors: ClassVar[tuple[str, ...]] = ()
    """Exceptions of its driver that it raises besides StoreError and OSError, as `module:Class`."""
    closes_before_fork: ClassVar[bool] = False
    """Whether its sink may not be open while the process forks."""
    is_file: ClassVar[bool] = False
    """Whether `path` is a file with records; its spool is beside it."""

    def __init__(self, url: str) -> None:
        """Raises SettingError for a URL with an unknown option."""
        self.name, self.url = safe_name(url), url
        self.path: Path | None = None
        query = "" if self.option_names is None else split_url(url).query
        self.options = dict(parse_qsl(query, keep_blank_values=True))
        if not self.options.keys() <= {*(self.option_names or ())}:
            raise self.option_error()
        self.retain_days: float | None = None
        """The setting, for a store that deletes by itself; None: it keeps everything."""
        self.syncs = False
        """Whether a file has each batch on the disk when it is delivered: `fsync="always"`."""

    @property
    def identity(self) -> str:
        """The URL without user and password; its other parameters are a hash."""
        query = [one for one in parse_qsl(split_url(self.url).query) if one[0] not in _CREDENTIALS]
        return f"{self.name} {sha256(str(query).encode()).hexdigest()[:8]}" if query else self.name

    @property
    def absolute_url(self) -> str:
        """The URL for a process in another directory."""
        return self.url

    def sink(self) -> Sink:
        """Return the sink, not opened. Raises SettingError where something that it needs is not installed."""
        raise NotImplementedError

    def write(self, records: Iterable[Record]) -> list[Record]:
        """Write records in batches; return those that the store can never take.

        A store with keys takes no older version of a record that it has, nor the same one. Raises StoreError, OSError
        or its driver's errors; the batches before stay.
        """
        with closing(self.sink()) as sink:
            return deliver_all(sink, records)

    def try_out(self) -> str | None:
        """Find out whether the store takes records, write none, and say what was tried; None if it has no such test.

        Raises EmptyStoreError where there is no store yet, StoreError, OSError or its driver's errors where it takes no
        record.
        """
        return None

    def files(self) -> Sequence[Path]:
        """Return the files of the store, which the output of a command may not replace."""
        return [] if self.path is None else [self.path]

    def error(self, text: str) -> SettingError:
        """Return the error for this URL, which names it without its password."""
        return SettingError(f"{SETTING}: {self.name} {text}")

    def option_error(self) -> SettingError:
        """Return the error for an unknown option or an invalid value, which may be a secret: it names options only."""
        given = ", ".join(name for name, value in self.options.items() if value)
        known = ", ".join(self.option_names or ()) or "none"
        return self.error(f"has an unknown option, or an invalid value of one: {given}; there are: {known}")

    def load(self, place: str) -> Callable[..., Any]:
        """Return what `module:name` says, imported now. Raises SettingError where a package that it needs is missing.

        A driver's module is imported by its store's sink and reader, not with the store.
        """
        try:
            found: Callable[..., Any] = late_attribute(place)
        except ImportError as error:
            if self.extra is None or (error.name or "").startswith("callspan"):
                raise
            needed = f'{error.name or self.extra}, which is not installed: pip install "callspan[{self.extra}]"'
            raise SettingError(f"{SETTING}: {self.extra} needs {needed}") from error
        return found


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


class SqlStore(Store):
    """A store that is read, and from which records are deleted: SQLite and Postgres."""

    sink_type: ClassVar[str]
    """The place of its sink, as `module:name`, imported with the first one; so is the other."""
    database_type: ClassVar[str]

    @property
    def place(self) -> str | Path:
        """Its path, or the URL that its driver connects to."""
        return self.url if self.path is None else self.path

    def sink(self) -> Sink:
        """Return the sink, not opened. Raises SettingError without its driver."""
        return cast("Sink", self.load(self.sink_type)(self.place))

    def try_out(self) -> str:
        """Begin to write, see `Store.try_out`."""
        with closing(self.database(writes=True, wait_s=_TRIAL_S)) as database, database.transaction():
            database.run("UPDATE sessions SET seen_ns = seen_ns WHERE 1 = 0")
        return "can be written"

    def database(self, *, writes: bool = False, wait_s: float | None = None) -> Database:
        """Connect to the store; nothing is created. `wait_s`: the time for each answer; None: any.

        Raises EmptyStoreError where nothing was recorded yet, StoreError or its driver's errors where it cannot be
        opened, and SettingError without its driver.
        """
        kind: Any = self.load(self.database_type)
        return cast("Database", kind.open(self.place, writes=writes, wait_s=wait_s))

    def reader(self) -> Reader:
        """Open the store for reading. Raises as `database`."""
        return Reader(self.database())

    def sent(self, receiver: str) -> SentVersions:
        """Open the list of records that a receiver, given by its URL, has accepted. Close it after use.

        Raises as `database`, and BusyError while another process sends to it.
        """
        database = self.database(writes=True)
        with on_error(database.close):
            return SentVersions(database, receiver)

    def remove(
        self, scope: DeletionScope, *, dry_run: bool = False, vacuum: bool = False
    ) -> tuple[Mapping[str, int], str | None]:
        """Delete the records of a scope, see `remove`; `vacuum`: rewrite a file. Raises as `database`."""
        with closing(self.database(writes=True)) as database:
            return remove(database, scope, dry_run=dry_run, vacuum=vacuum)

    def retain(self, keep: Keep) -> Iterator[int]:
        """Delete old records in batches; yield the number of changed records of each. Raises as `database`."""
        with closing(self.database(writes=True)) as database:
            yield from retain(database, keep)


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL. Raises SettingError if it is invalid."""
    try:
        split = urlsplit(url)
        # Accessing the attribute validates it.
        _ = split.port
    except ValueError:
        # The driver's message may quote a part of the password.
        raise SettingError(f"{SETTING}: {safe_name(url)} is not a valid URL") from None
    return split


def path_of(text: str) -> Path:
    """Return the path; `~` of an unknown user is kept. Raises SettingError if no file can have this name."""
    try:
        if b"\0" in os.fsencode(text):
            raise SettingError(f"{SETTING}: {text!r}: a path cannot contain a NUL character")
        return Path(text).expanduser()
    except UnicodeEncodeError as error:
        raise SettingError(f"{SETTING}: {text!r} is not a valid path: {error.reason}") from error
    except RuntimeError:
        return Path(text)
