"""Database: a connection to a SQLite file, a Postgres or a ClickHouse database, and everything that differs.

The reader uses the same SQL for all of them, the writer and the removal that of `SqlDatabase`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeAlias, cast

import msgspec

from callspan.record.events import Record
from callspan.record.plain_json import clean
from callspan.stores.tables import bodies
from callspan.stores.tables.facts import Table
from callspan.stores.tables.rows import Row
from callspan.stores.tables.scores import Arithmetic

if TYPE_CHECKING:
    from callspan.stores.tables.contents import ContentNumbers, NewContent
    from callspan.stores.tables.payloads import PreparedCall

Values: TypeAlias = Mapping[str, object]
"""A row by column name, or the values of `:name` parameters."""
NO_VALUES: Final[Values] = {}
_REMEMBER: Final = """
INSERT INTO erased (id, time_ns) VALUES (:id, :time_ns)
  ON CONFLICT (id) DO UPDATE SET time_ns = :time_ns WHERE erased.time_ns < :time_ns"""
_FORGET: Final = "DELETE FROM erased WHERE id = :id"
_RANGES_AT_ONCE: Final = 100
_ENDS: Final = ("first", "last")
_AT_ONCE: Final = 200
"""Ids per query. Few, so that the next query finds the pages of these sessions in SQLite's cache."""


class Dialect(NamedTuple):
    """SQL fragments of one kind of database, for calls `c` and their contents `t`, with `{…}` to fill in.

    Each kind defines the function `callspan_label(metadata, key)`, see `label_of` in `callspan.record.labels`.
    """

    minute: str
    """The UTC minute, such as `2026-11-20T08:05Z`."""
    cost: str
    """The cost of a call in whole microdollars, rounded down; NULL without a cost."""
    cost_rest: str
    """The whole picodollars of a call beyond `cost`."""
    array: str
    """The `{values}` of a group as JSON array text."""
    percentiles: str | None
    """The aggregate for the 50th and 95th percentiles of the `{values}` of a group as array, by linear interpolation;
    None: they are computed from `array`."""
    items: str
    """The strings in the JSON array `:items`."""
    contains: str
    """Whether a `{text}` contains a case-folded `{part}`."""
    in_sessions: str
    """Whether the session `s` of a call matches a `{condition}`."""
    has_message: str
    """Whether any message of a call `c`, in contents `t`, matches the condition `{contains}`."""
    is_deflated: bool
    """Whether the column `data` of contents is compressed."""
    has: str
    """Whether the metadata value at `{at}` (column, key) is the text `{value}` or a list that contains it."""
    label_at: str
    """The JSON of the metadata value at `{at}` (column, key), to group calls by; NULL without one."""
    label_in: str
    """The same of the text in a `{column}`."""
    labels: str
    """The join with one row per distinct `{name}.value` of such a `{label}`: the items of a list, or the value itself;
    NULL without one."""
    arithmetic: Arithmetic
    """How values of rewards are added and rounded."""
    has_score: str
    """Whether a call `c` reaches `:min_score` for an `{objective}`, by its own score or, without one, its session's."""
    in_scored: str
    """Whether the query `{sessions}` returns the session of a call `c`."""
    scores: Mapping[str, str]
    """The queries that define the rows of `session_scores` and `call_scores`, by table."""
    keys: str
    """The query for those numbers in the JSON array `:keys` that are keys of joints."""
    joints: str
    """The query for the joints with the numbers in `:keys` (JSON), at most `:most` of each; empty without any."""
    offers: str
    """The query for the calls with the offers in the JSON array `:keys`, at most `:most` of each."""
    unended: str
    """What a condition on the record `x` of a session without an end also says, so that few are read."""
    began: str
    """What a condition on the sessions `s` that began since `:since_ns` also says, so that an index is used."""
    few_calls: int | None
    """Looking for the sessions of so many calls is cheaper than reading those of all; None: of any number."""
    of_sessions: str
    """What precedes a query for the rewards of the sessions that match a `{condition}`, so that it reads no others."""
    scores_of_sessions: str
    """The same for their scores alone: a `{condition}` may be long, and is written once."""
    of_calls: str
    """What precedes a query for the rewards, or scores, of the calls that match a `{condition}`."""
    session_rewards: str
    """The rewards with their sessions, to read those of some sessions; they may lack their calls and timesteps."""
    recursive_union: str
    """What joins the parts of a recursive query: a `UNION` also ends cycles."""
    temporary: str
    """The statement that makes the temporary table `{name}` of ids for a transaction; it may exist with rows."""


class Database(ABC):
    """A connection for one thread at a time that reads, and remembers which ids were erased.

    SQL has `:name` parameters. Raises StoreError for errors with advice, else the driver's errors.
    """

    dialect: ClassVar[Dialect]
    """The SQL specific to this kind of database."""
    name: str
    """The store's URL without its password."""
    remedy: str
    """Advice for a damaged record."""
    connection: Any
    """The driver's connection."""

    def rows(self, sql: str, values: Values = NO_VALUES) -> Iterator[Values]:
        """Yield the rows of a query."""
        with self._explaining():
            yield from self._execute(sql, bound(values), by_name=True)

    def tuples(self, sql: str, values: Values = NO_VALUES) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query as plain tuples."""
        with self._explaining():
            yield from self._execute(sql, bound(values))

    def with_references(self, calls: Sequence[Values]) -> Sequence[Values]:
        """Return rows of `calls` with the columns that refer to contents, which may be in another table."""
        return calls

    def contents(self, owner: str, ranges: Sequence[tuple[int, int]]) -> Mapping[int, tuple[bytes, bytes]]:
        """Return the hash and the exact JSON of an owner's contents in these ranges, by number."""
        pieces: dict[int, tuple[bytes, bytes]] = {}
        for start in range(0, len(ranges), _RANGES_AT_ONCE):
            batch = [*enumerate(ranges[start : start + _RANGES_AT_ONCE])]
            # The owner is repeated in each condition: otherwise SQLite reads all contents of the owner.
            where = " OR ".join(
                f"(owner = :owner AND n BETWEEN :first{number} AND :last{number})" for number, _ in batch
            )
            ends = {f"{name}{index}": end for index, pair in batch for name, end in zip(_ENDS, pair, strict=True)}
            for row in self.rows(f"SELECT * FROM contents WHERE {where}", {"owner": owner, **ends}):  # noqa: S608
                json = bodies.json_of(row, is_deflated=self.dialect.is_deflated)
                pieces[cast("int", row["n"])] = bytes(cast("bytes", row["hash"])), json
        return pieces

    @abstractmethod
    def version(self) -> str:
        """Return a text that changes with every write."""

    @abstractmethod
    def remember(self, erased_ns: Mapping[bytes, int]) -> None:
        """Store hashes of erased ids, with the Unix times of the decisions; the latest of a hash stays."""

    @abstractmethod
    def forget(self, hashes: Iterable[bytes]) -> None:
        """Delete hashes of erased ids."""

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    @abstractmethod
    def _execute(self, sql: str, values: dict[str, Any], *, by_name: bool = False) -> Any:
        """Return a cursor over the rows of a statement: tuples, or mappings by column name if `by_name`."""

    @abstractmethod
    def _explaining(self) -> AbstractContextManager[None]:
        """Return a context manager that replaces known errors by a StoreError with advice."""


class SqlDatabase(Database):
    """A database that is written to in transactions: SQLite and Postgres."""

    rejects: ClassVar[tuple[type[Exception], ...]]
    """Exceptions that mean that a record can never be stored."""
    suspects: ClassVar[tuple[type[Exception], ...]]
    """Exceptions that mean so if they go on: a record takes too much memory or time, or another client does."""

    def run(self, sql: str, values: Values = NO_VALUES) -> int:
        """Run a statement; return the number of rows that it changed."""
        with self._explaining():
            return int(self._execute(sql, bound(values)).rowcount)

    @abstractmethod
    def run_many(self, sql: str, rows: Iterable[Values]) -> None:
        """Run a statement once for each of these rows of parameters."""

    def remember(self, erased_ns: Mapping[bytes, int]) -> None:
        """Store hashes of erased ids, with the Unix times of the decisions; the latest of a hash stays."""
        self.run_many(_REMEMBER, [{"id": digest, "time_ns": time_ns} for digest, time_ns in sorted(erased_ns.items())])

    def forget(self, hashes: Iterable[bytes]) -> None:
        """Delete hashes of erased ids."""
        self.run_many(_FORGET, [{"id": digest} for digest in sorted(hashes)])

    @abstractmethod
    def transaction(self, *, exclusive: bool = False) -> AbstractContextManager[object]:
        """Commit the block's writes, or roll them back if it raises. `exclusive`: deliveries wait until its end."""

    @abstractmethod
    def try_lock(self, name: str) -> bool:
        """Take the lock of this name until the connection is closed; return False if another process has it."""

    @abstractmethod
    def connections(self) -> str | None:
        """Return how many of the server's connections are in use, as a sentence; None for a file."""

    @abstractmethod
    def finish(self, *, vacuum: bool = False) -> str | None:
        """Remove deleted bytes from the disk, with `vacuum` also copies in pages that are in use.

        Return the reason if that failed, else None. Servers do this by themselves.
        """

    @abstractmethod
    def delivery(self, records: Sequence[Record]) -> AbstractContextManager[None]:
        """Return the transaction that writes these records."""

    def lock(self, names: Iterable[str]) -> None:
        """Hold these names until the transaction ends; other writers of one of them wait."""
        del names  # SQLite has one writer at a time

    @abstractmethod
    def numbers(self, calls: Sequence[PreparedCall]) -> Mapping[str, ContentNumbers]:
        """Return the numbers of contents by owner of these calls."""

    def forget_numbers(self, owner: str) -> None:
        """Forget an owner's numbers, because some of its contents were deleted."""
        del owner  # Postgres reads them for each delivery

    @abstractmethod
    def add_contents(self, new: Sequence[NewContent]) -> None:
        """Insert contents."""

    @abstractmethod
    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows into a table; a row with an existing key is ignored."""


def bound(values: Values) -> dict[str, Any]:
    """Return the values of parameters, with invalid characters replaced as in records, see `clean`."""
    return {name: clean(value) if isinstance(value, str) else value for name, value in values.items()}


def items(ids: Iterable[str]) -> Values:
    """Return the parameter of `Dialect.items`."""
    return {"items": msgspec.json.encode([*map(clean, ids)]).decode()}


def in_batches(ids: Sequence[object], key: str = "session_id") -> Iterator[tuple[str, dict[str, object]]]:
    """Yield conditions that a column equals one of these ids, with parameters, in batches of ids."""
    for start in range(0, len(ids), _AT_ONCE):
        parameters: dict[str, object] = {
            f"id{number}": ident for number, ident in enumerate(ids[start : start + _AT_ONCE])
        }
        yield f"{key} IN ({', '.join(f':{name}' for name in parameters)})", parameters
