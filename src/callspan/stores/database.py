"""Database: a connection to a SQLite file or a Postgres database, and the SQL in which the two differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from callspan.record.plain_json import clean

Values: TypeAlias = Mapping[str, object]
"""A row by its columns, or the values of `:name` parameters."""
NO_VALUES: Final[Values] = {}
_AT_ONCE: Final = 200
"""Ids per query; few, so that the next query finds the pages of these sessions in SQLite's cache."""


class Dialect(NamedTuple):
    """The SQL of one kind of database, about calls `c` and their contents `t`; `{…}` is filled in."""

    day: str
    """The UTC day of a call's start, ISO text."""
    hour: str
    """Its UTC hour, as `2026-11-20T08:00Z`."""
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
    at: str
    """The value of metadata in a column `{json}` at a path of parameters, joined by `step`; the first that there is
    counts. In this and the next, `@` is the value of a key, and `{value}` a parameter."""
    step: str
    first: str
    """The first of the values `{values}` that there is."""
    label: str
    """The text that a key is grouped under, NULL where it has none."""
    has: str
    """Whether a key has the value, or a list with it."""

    def label_of(self, json: str, key: str, parameter: str) -> str:
        """Return the SQL for the label of a key, whose parameter has this name."""
        return self.label.replace("@", self._value(json, key, parameter))

    def has_value(self, json: str, key: str, parameter: str, value: str) -> str:
        """Return the SQL condition that a key has the value of a parameter."""
        return self.has.replace("@", self._value(json, key, parameter)).replace("{value}", value)

    def _value(self, json: str, key: str, parameter: str) -> str:
        paths = [[parameter], ["'extra'", parameter]]
        if "." in key:
            nested = [f"{parameter}_{number}" for number, _ in enumerate(key.split("."))]
            paths += [nested, ["'extra'", *nested]]
        values = (self.at.format(json=json, path=self.step.join(path)) for path in paths)
        return self.first.format(values=", ".join(values), json=json, key=parameter)


class Database(Protocol):
    """A connection of its own, used by one thread at a time; SQL has `:name` parameters.

    Raises StoreError for errors that have a remedy, else those of the driver.
    """

    @property
    def name(self) -> str:
        """The store's URL without its password."""

    @property
    def remedy(self) -> str:
        """What to do about a damaged record."""

    @property
    def dialect(self) -> Dialect:
        """The SQL in which it differs from others."""

    def rows(self, sql: str, values: Values = ...) -> Iterator[Values]:
        """Yield the rows of a query."""

    def tuples(self, sql: str, values: Values = ...) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query as plain tuples."""

    def run(self, sql: str, values: Values = ...) -> int:
        """Run a statement; return the number of rows that it changed."""

    def many(self, sql: str, rows: Iterable[Values]) -> None:
        """Run a statement for each of these values."""

    def transaction(self, *, alone: bool = False) -> AbstractContextManager[object]:
        """Commit the block's writes, or roll them back. `alone`: no process delivers records meanwhile."""

    def try_lock(self, name: str) -> bool:
        """Take a lock of this name until the connection is closed; return False if another process has it."""

    def version(self) -> str:
        """Return a text that differs when something was written since."""

    def finish(self, *, vacuum: bool = False) -> str | None:
        """Remove deleted bytes from the disk, with `vacuum` also copies in pages in use.

        Return why it could not; None if it could, or if the server does it.
        """

    def close(self) -> None:
        """Close the connection."""


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
