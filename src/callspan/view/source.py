"""Source: the store as the pages read it, with the filter that the filter line stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Final, NamedTuple, TypeAlias

import msgspec

from callspan.records import RewardRecord
from callspan.stores import CallFilter, Reader, Scoring, scored

Query: TypeAlias = Mapping[str, str]
"""The query of a request for data, by name."""
Row: TypeAlias = dict[str, object]
"""A session or a call in a list; None is unknown."""


_NUMBER: Final = re.compile("[0-9]{1,18}|[1-8][0-9]{18}")
"""What a store takes as an integer."""


def fields(record: object, names: Iterable[str]) -> Row:
    """Return these fields of a record, or of None, of which nothing is known."""
    return {name: None if record is None else getattr(record, name) for name in names}


class BadQueryError(Exception):
    """The query means nothing; the text says why."""


class Access(NamedTuple):
    """How the page gets at the store."""

    open: Callable[[], Reader]
    """Opens the store for reading. Raises what its drivers raise."""
    chosen: Callable[[str], tuple[CallFilter, Scoring]]
    """Reads a filter line. Raises BadQueryError."""
    arguments: Callable[[str], list[str]]
    """Reads a filter line as arguments of the command."""
    error_text: Callable[[Exception], str]
    """Returns the sentence that the command would print for an error of the store."""
    errors: Callable[[], tuple[type[Exception], ...]]
    """Returns the exceptions of a store that cannot be read."""
    waiting: Callable[[], list[str]]
    """Returns sentences on records that wait to be delivered, and on losses."""
    keep: Callable[[RewardRecord], None]
    """Writes a rating into the store, which is opened for that alone. Raises what its drivers raise."""
    name: str
    """The store, without its password."""
    trace_url: str | None = None
    """Address of a trace, with `{trace_id}`; None: none is linked."""


class View(NamedTuple):
    """What a page is made of."""

    reader: Reader
    access: Access
    query: Query

    def chosen(self) -> tuple[Reader, CallFilter]:
        """Return the reader and the filter that the query's line `q` stands for. Raises BadQueryError."""
        which, scoring = self.access.chosen(self.query.get("q", ""))
        return scored(self.reader, scoring), which

    def required(self, name: str) -> str:
        """Return a value of the query. Raises BadQueryError where there is none."""
        if not self.query.get(name):
            raise BadQueryError(f"{name} is missing")
        return self.query[name]

    def after(self) -> int:
        """Return the number at which the page begins; 0: the first one. Raises BadQueryError."""
        text = self.query.get("after") or "0"
        if not _NUMBER.fullmatch(text):
            raise BadQueryError("after is no number")
        return int(text)


class StoreSource:
    """A store that is opened for each page."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.was_open = False
        """Whether the store had records once; until then it is waited for."""

    def answer(self, page: Callable[[View], object], query: Query) -> bytes:
        """Return the JSON of a page. Raises the errors of the store, and BadQueryError."""
        with closing(self.access.open()) as reader:
            self.was_open = True
            return encoder.encode(page(View(reader, self.access, query)))


def _plain(value: object) -> object:
    return value if isinstance(value, msgspec.Raw) else str(value)


encoder = msgspec.json.Encoder(enc_hook=_plain, decimal_format="string")
