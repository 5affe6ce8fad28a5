"""Database: a connection to a SQLite file or a Postgres database, and the SQL in which the two differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

import msgspec

from callspan.record.plain_json import clean

Values: TypeAlias = Mapping[str, object]
"""A row by its columns, or the values of `:name` parameters."""
NO_VALUES: Final[Values] = {}
_AT_ONCE: Final = 200
"""Ids per query; few, so that the next query finds the pages of these sessions in SQLite's cache."""


class Dialect(NamedTuple):
    """The SQL of one kind of database, about calls `c` and their contents `t`; `{…}` is filled in.

    Both kinds have the function `callspan_label(metadata, key)`, see `label_of` in `callspan.record.labels`.
    """

    day: str
    """The UTC day of a call's start, ISO text."""
    minute: str
    """Its UTC minute, as `2026-11-20T08:05Z`."""
    cost: str
    """The cost of a call in whole picodollars, rounded down; NULL for no cost."""
    array: str
    """The known `{values}` of a group as the text of a JSON array."""
    items: str
    """The texts in the JSON array `:items`."""
    contains: str
    """Whether a `{text}` contains a case-folded `{part}`."""
    in_sessions: str
    """Whether the session of a call is one, `s`, that matches a `{condition}`."""
    has_message: str
    """Whether a call `c` has a message, in contents `t`, of which a condition `{contains}` is true."""
    is_deflated: bool
    """Whether the column `data` of contents is deflated."""
    has: str
    """Whether a key of metadata, `{at}` its column and the key, has the text `{value}`, or a list with it."""


class Database(ABC):
    """A connection of its own, used by one thread at a time; SQL has `:name` parameters.

    Raises StoreError for errors that have a remedy, else those of the driver.
    """

    dialect: ClassVar[Dialect]
    """The SQL in which it differs from others."""
    name: str
    """The store's URL without its password."""
    remedy: str
    """What to do about a damaged record."""
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

    def run(self, sql: str, values: Values = NO_VALUES) -> int:
        """Run a statement; return the number of rows that it changed."""
        with self._explaining():
            return int(self._execute(sql, bound(values)).rowcount)

    @abstractmethod
    def many(self, sql: str, rows: Iterable[Values]) -> None:
        """Run a statement for each of these values."""

    @abstractmethod
    def transaction(self, *, alone: bool = False) -> AbstractContextManager[object]:
        """Commit the block's writes, or roll them back. `alone`: no process delivers records meanwhile."""

    @abstractmethod
    def try_lock(self, name: str) -> bool:
        """Take a lock of this name until the connection is closed; return False if another process has it."""

    @abstractmethod
    def version(self) -> str:
        """Return a text that differs when something was written since."""

    @abstractmethod
    def finish(self, *, vacuum: bool = False) -> str | None:
        """Remove deleted bytes from the disk, with `vacuum` also copies in pages in use.

        Return why it could not; None if it could, or if the server does it.
        """

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    @abstractmethod
    def _execute(self, sql: str, values: dict[str, Any], *, by_name: bool = False) -> Any:
        """Return a cursor over the rows of a statement, each a tuple, or `by_name` a row by its columns."""

    @abstractmethod
    def _explaining(self) -> AbstractContextManager[None]:
        """Return a context manager that replaces known errors by a StoreError with its remedy."""


def bound(values: Values) -> dict[str, Any]:
    """Return the values of parameters; characters that no store accepts are replaced as in records, see `clean`."""
    return {name: clean(one) if isinstance(one, str) else one for name, one in values.items()}


def items(ids: Iterable[str]) -> Values:
    """Return the value of `Dialect.items`."""
    return {"items": msgspec.json.encode([*map(clean, ids)]).decode()}


def in_parts(ids: Sequence[object], key: str = "session_id") -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the condition that a column has one of some ids, with its parameters, until there were all."""
    for start in range(0, len(ids), _AT_ONCE):
        names: dict[str, object] = {f"id{number}": one for number, one in enumerate(ids[start : start + _AT_ONCE])}
        yield f"{key} IN ({', '.join(f':{name}' for name in names)})", names
