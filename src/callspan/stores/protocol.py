"""Protocol: a store as its URL describes it, with its options, its sink and, for SQL stores, its reader."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast
from urllib.parse import SplitResult, parse_qsl, urlsplit

from callspan.record.events import Record
from callspan.record.merging import Price
from callspan.runtime.forks import late_attribute
from callspan.runtime.safe_urls import names_user, safe_name, unescaped
from callspan.settings import SettingError
from callspan.spool.delivering import Rejected
from callspan.stores.base import DeletionScope, on_error
from callspan.stores.removal import RetentionTimes, remove, retain
from callspan.stores.sent import SentVersions, SqlSentVersions
from callspan.stores.tables.database import Database, SqlDatabase
from callspan.stores.tables.facts import TABLES
from callspan.stores.writer import SqlSink

if TYPE_CHECKING:
    from callspan.stores.query.reader import Reader

SETTING: Final = "CALLSPAN_STORES"
_AT_ONCE: Final = 100
_TRIAL_S: Final = 5.0
"""Time limit for connecting and for each statement when a store is tested."""
_CREDENTIALS: Final = frozenset({"user", "username", "password"})
_UNESCAPED: Final = (
    "write / as %2F, ? as %3F, # as %23, @ as %40, % as %25, [ as %5B, ] as %5D and a space as %20 in user and password"
)


class Sink(Protocol):
    """Delivers records to a store. Used by one thread at a time, never by the application's threads."""

    batch_records: int = 100
    """Preferred number of records in a batch."""

    def open(self) -> None:
        """Connect, and create missing tables or files. Called before the first delivery and after each `close`."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Store all records durably, or raise and store none. Storing a record again changes nothing.

        Raises Rejected for a record that can never be stored; after any other exception a retry may succeed.
        """

    def price_with(self, price: Price) -> None:
        """Take the function that prices a call; a sink that merges the versions of a call prices the result.

        Called before the first delivery, or never: then the cost of a version stays.
        """

    def close(self) -> None:
        """Close files and connections, also after `open` or `deliver` failed. `open` may be called again."""


def deliver_all(sink: Sink, records: Iterable[Record]) -> list[Record]:
    """Open a sink and deliver records in batches; return the rejected ones."""
    remaining, refused = iter(records), list[Record]()
    sink.open()
    while batch := list(islice(remaining, _AT_ONCE)):
        refused += _refused(sink, batch)
    return refused


def _refused(sink: Sink, records: Sequence[Record]) -> list[Record]:
    try:
        sink.deliver(records)
    except Rejected:
        if len(records) == 1:
            return [*records]
        return [rejected for record in records for rejected in _refused(sink, [record])]
    return []


class Store(Sink):
    """A store named by a URL. The constructor checks the URL; it opens, connects and creates nothing.

    Subclasses set `example`, set `option_names` if they have options, and implement the methods of `Sink`.

    Attributes:
        url: The URL, with its password.
        name: The URL without user, password and query, safe to log; its sink and reader have the same name.
        options: The options in the query of the URL, as strings.
        path: The path of a file or socket; None for other stores.
    """

    example: ClassVar[str]
    """An example URL, shown in error messages."""
    option_names: ClassVar[Collection[str] | None] = ()
    """The names of its options; None if the driver interprets the query."""
    extra: ClassVar[str | None] = None
    """The extra of callspan that it requires, such as `postgres`."""
    driver_errors: ClassVar[tuple[str, ...]] = ()
    """Exceptions of its driver, as `module:Class`, raised besides StoreError and OSError."""
    closes_before_fork: ClassVar[bool] = False
    """Whether its sink must be closed while the process forks."""
    is_file: ClassVar[bool] = False
    """Whether `path` is a file of records, with its spool beside it."""

    def __init__(self, url: str) -> None:
        """Raises SettingError for an invalid URL and an unknown option."""
        self.name, self.url = safe_name(url), url
        self.path: Path | None = None
        query = split_url(url).query
        self.options = {} if self.option_names is None else dict(parse_qsl(query, keep_blank_values=True))
        if not self.options.keys() <= {*(self.option_names or ())}:
            raise self.option_error()
        self.retain_days: float | None = None
        """The setting, for a store that expires records by itself; None keeps everything."""
        self.syncs = False
        """Whether each batch is synced to disk before it counts as delivered: `fsync="always"`."""
        self.joins = True
        """Whether calls outside of sessions are joined to runs, in stores with tables that are read: `runs=True`."""

    @property
    def identity(self) -> str:
        """The URL without user and password; the other parameters are hashed."""
        query = [pair for pair in parse_qsl(split_url(self.url).query) if pair[0] not in _CREDENTIALS]
        return f"{self.name} {sha256(str(query).encode()).hexdigest()[:8]}" if query else self.name

    @property
    def absolute_url(self) -> str:
        """The URL as a process in another directory would write it."""
        return self.url

    def sink(self) -> Sink:
        """Return the sink, unopened: a copy of the store, unless the sink is another class.

        Raises SettingError if a package that it requires is missing.
        """
        return copy(self)

    def write(self, records: Iterable[Record]) -> list[Record]:
        """Write records in batches; return the rejected ones.

        A store with keys ignores versions that are not newer than its own. Raises StoreError, OSError or its driver's
        errors; earlier batches stay written.
        """
        with closing(self.sink()) as sink:
            return deliver_all(sink, records)

    def try_out(self) -> str | None:
        """Test whether the store accepts records, without writing one; return what was tested, None without a test.

        Raises EmptyStoreError if there is no store yet; StoreError, OSError or its driver's errors if it accepts no
        records.
        """
        return None

    def deletion(self, scope: DeletionScope) -> list[str]:
        """Return instructions or SQL to delete the records of a scope by hand; empty if nothing can be deleted."""
        del scope
        return []

    def files(self) -> Sequence[Path]:
        """Return the files of the store, which no command may overwrite with its output."""
        return [] if self.path is None else [self.path]

    def error(self, text: str) -> SettingError:
        """Return an error about this URL, named without its password."""
        return SettingError(f"{SETTING}: {self.name} {text}")

    def option_error(self) -> SettingError:
        """Return the error for an unknown option or an invalid value. Values may be secrets: only names are shown."""
        stated_names = ", ".join(name for name, value in self.options.items() if value)
        allowed_names = ", ".join(self.option_names or ()) or "none"
        return self.error(
            f"has an unknown option, or an invalid value of one: {stated_names}; there are: {allowed_names}"
        )

    def load(self, target: str) -> Callable[..., Any]:
        """Import `module:name` and return it. Raises SettingError if a package that it requires is missing.

        Sinks and readers import the drivers; the store itself imports none.
        """
        try:
            attribute: Callable[..., Any] = late_attribute(target)
        except ImportError as error:
            if self.extra is None or (error.name or "").startswith("callspan"):
                raise
            requirement = f'{error.name or self.extra}, which is not installed: pip install "callspan[{self.extra}]"'
            raise SettingError(f"{SETTING}: {self.extra} needs {requirement}") from error
        return attribute


class PathStore(Store):
    """A store with a path: `kind:///p` is relative and `kind:////p` absolute. Its URL has no user."""

    path: Path

    def __init__(self, url: str, path: Path | None = None) -> None:
        """`path`: the store was named by a path instead of a URL. Raises SettingError for a URL without a path."""
        if path is None and names_user(url):
            raise SettingError(
                f"{SETTING}: {safe_name(url)} is a file and has no user; write for example {self.example}"
            )
        super().__init__(url if path is None else url.partition("?")[0])
        self.path = self._path_in(split_url(url)) if path is None else path

    def _path_in(self, parts: SplitResult) -> Path:
        text = (parts.netloc + parts.path) if parts.netloc else parts.path[1:]
        if not text:
            raise self.error(f"has no path; write for example {self.example}")
        return path_of(text)


class FileStore(PathStore):
    """A file of records."""

    is_file = True

    def __init__(self, url: str, path: Path | None = None) -> None:
        """Raises SettingError for a path that names no file, such as `/`."""
        super().__init__(url, path)
        if self.path.name in ("", ".."):
            raise SettingError(f"{SETTING}: {safe_name(self.url)} is a directory; name a file, such as {self.example}")

    @property
    def absolute_url(self) -> str:
        """The URL as a process in another directory would write it. Raises SettingError for a path with `,` or `?`."""
        query, path = split_url(self.url).query, str(self.path.absolute())
        if "," in path or "?" in path:
            # In a list of URLs, the first ends one and the second begins its options.
            raise SettingError(f"{SETTING}: the path {path} has a comma or a question mark; name another file")
        kind = self.url.partition("://")[0].lower()
        return f"{kind}:///{path}" + (f"?{query}" if query else "")


class ServerStore(Store):
    """A store on a server. Its URL may have a user and a password; `url` has the form that drivers accept."""

    def __init__(self, url: str) -> None:
        """Raises SettingError if user or password are not escaped."""
        if unescaped(url):
            # The name is the last word: what follows a URL up to an `@` may be a part of its password.
            raise SettingError(f"{SETTING}: {_UNESCAPED} of {safe_name(url)}")
        scheme, _, address = url.partition("://")
        super().__init__(f"{scheme.lower()}://{address}")


class ReadableStore(Store):
    """A store that can be read: SQLite, Postgres and ClickHouse."""

    database_type: ClassVar[str]
    """Its database as `module:name`, imported on first use."""

    @property
    def place(self) -> str | Path:
        """Its path, or the URL for its driver."""
        return self.url if self.path is None else self.path

    def database(self, *, writes: bool = False, creates: bool = False, wait_s: float | None = None) -> Database:
        """Connect to the store; `creates`: create missing tables. `wait_s`: timeout of each statement; None: its own.

        Raises EmptyStoreError if nothing was recorded yet, StoreError or its driver's errors if it cannot be opened,
        SettingError without its driver.
        """
        kind: Any = self.load(self.database_type)
        return cast("Database", kind.open(self.place, writes=writes, creates=creates, syncs=self.syncs, wait_s=wait_s))

    def reader(self) -> Reader:
        """Open the store for reading. Raises as `database`."""
        reader: Callable[[Database], Reader] = late_attribute("callspan.stores.query.reader:Reader")
        return reader(self.database())

    def sent(self, receiver: str) -> SentVersions:
        """Open the list of records that the receiver with this URL has accepted. Close it after use.

        Raises like `database`, and BusyError while another process sends to the receiver.
        """
        raise NotImplementedError

    def remove(
        self, scope: DeletionScope, *, dry_run: bool = False, vacuum: bool = False
    ) -> tuple[Mapping[str, int], str | None]:
        """Delete the records of a scope; `vacuum` rewrites a SQLite file. Raises like `database`.

        Return the number of records by table, and the reason why deleted bytes may still be on disk, if any.
        """
        raise NotImplementedError


class SqlStore(ReadableStore):
    """A store that writes in transactions, and deletes what is too old: SQLite and Postgres."""

    def database(self, *, writes: bool = False, creates: bool = False, wait_s: float | None = None) -> SqlDatabase:
        """Connect to the store, see `ReadableStore.database`."""
        return cast("SqlDatabase", super().database(writes=writes, creates=creates, wait_s=wait_s))

    def sink(self) -> SqlSink:
        """Return the sink, unopened. Raises SettingError without its driver."""
        self.load(self.database_type)
        return SqlSink(partial(self.database, writes=True, creates=True), joins=self.joins)

    def try_out(self) -> str:
        """Start a write transaction and read the last row of each table, see `Store.try_out`."""
        with closing(self.database(writes=True, wait_s=_TRIAL_S)) as database, database.transaction():
            database.run("UPDATE sessions SET seen_ns = seen_ns WHERE 1 = 0")
            for table in TABLES.values():
                list(database.rows(f"SELECT * FROM {table.name} ORDER BY {table.key} DESC LIMIT 1"))  # noqa: S608 - our names
            connections = database.connections()
        return "; ".join(filter(None, ("can be written", connections)))

    def sent(self, receiver: str) -> SentVersions:
        """Open the list of records that a receiver has accepted, see `ReadableStore.sent`."""
        database = self.database(writes=True)
        with on_error(database.close):
            return SqlSentVersions(database, receiver)

    def remove(
        self, scope: DeletionScope, *, dry_run: bool = False, vacuum: bool = False
    ) -> tuple[Mapping[str, int], str | None]:
        """Delete the records of a scope, see `remove`; `vacuum` rewrites a SQLite file. Raises like `database`."""
        with closing(self.database(writes=not dry_run)) as database:
            return remove(database, scope, dry_run=dry_run, vacuum=vacuum)

    def rewrite(self) -> str | None:
        """Rewrite a SQLite file, without copies of deleted bytes; return the reason if some may be left, else None.

        Does nothing on a server. Raises like `database`.
        """
        with closing(self.database(writes=True)) as database:
            return database.finish(vacuum=True)

    def retain(self, times: RetentionTimes) -> Iterator[int]:
        """Delete old records in batches; yield the number of changed records of each. Raises like `database`."""
        with closing(self.database(writes=True)) as database:
            yield from retain(database, times)


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL. Raises SettingError if it is invalid."""
    try:
        return urlsplit(url, allow_fragments=False)
    except ValueError:
        # The driver's message may quote a part of the password.
        raise SettingError(f"{SETTING}: {safe_name(url)} is not a valid URL") from None


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
