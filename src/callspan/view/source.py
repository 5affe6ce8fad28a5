"""Source: the store for the pages, with the filter of their filter line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec

from callspan.records import CallRecord, RewardRecord
from callspan.stores import CallFilter, Reader, SessionSummary

Query: TypeAlias = Mapping[str, str]
"""The query parameters of a request."""
Row: TypeAlias = dict[str, object]
"""A session or call in a list; None is unknown."""

_NUMBER: Final = re.compile("[0-9]{1,18}|[1-8][0-9]{18}")
"""An integer that stores accept."""


class BadQueryError(Exception):
    """The query is invalid. The message has the reason."""


class StoreAccess(NamedTuple):
    """The page's access to the store."""

    open: Callable[[], Reader]
    """Opens the store for reading. Raises its drivers' errors."""
    parse_filter: Callable[[str], CallFilter]
    """Parses a filter line. Raises BadQueryError."""
    arguments: Callable[[str], list[str]]
    """Converts a filter line to command arguments."""
    error_text: Callable[[Exception], str]
    """Returns the command's message for an error of the store."""
    errors: Callable[[], tuple[type[Exception], ...]]
    """Returns the exceptions of an unreadable store."""
    waiting: Callable[[], list[str]]
    """Returns sentences about waiting and lost records."""
    write_reward: Callable[[RewardRecord], None]
    """Writes a rating to the store, which it opens for that. Raises its drivers' errors."""
    name: str
    """The store, without its password."""
    command: str
    """The beginning of the commands that read it."""
    trace_url: str | None = None
    """Address of a trace, with `{trace_id}`; None for no links."""
    price: Callable[[CallRecord], CallRecord] | None = None
    """Returns a call with its cost; None: at the published prices."""


class PageRequest(NamedTuple):
    """The input of a page."""

    reader: Reader
    access: StoreAccess
    query: Query

    def filtered(self) -> tuple[Reader, CallFilter]:
        """Return the reader and the filter of the filter line `q`. Raises BadQueryError."""
        return self.reader, self.access.parse_filter(self.query.get("q", ""))

    def required(self, name: str) -> str:
        """Return a query parameter. Raises BadQueryError if it is missing."""
        if not self.query.get(name):
            raise BadQueryError(f"{name} is missing")
        return self.query[name]

    def call(self, call_id: str) -> CallRecord:
        """Return a call. Raises LookupError if there is no such call."""
        call = self.reader.call(call_id)
        if call is None:
            raise LookupError("There is no such call: it was erased, or its id is another one.")
        return call

    def session(self, session_id: str) -> SessionSummary:
        """Return a session. Raises LookupError if there is no such session."""
        summary = self.reader.session(session_id)
        if summary is None:
            raise LookupError("There is no such session: it was erased, or its id is another one.")
        return summary

    def after(self) -> int:
        """Return the offset of the page, 0 for the first. Raises BadQueryError."""
        text = self.query.get("after") or "0"
        if not _NUMBER.fullmatch(text):
            raise BadQueryError("after is no number")
        return int(text)


class StoreSource:
    """A store that is opened for each page."""

    def __init__(self, access: StoreAccess) -> None:
        self.access = access
        self.was_open = False
        """Whether the store has had records; until then the page waits for it."""

    def answer(self, page: Callable[[PageRequest], object], query: Query) -> bytes:
        """Return the JSON of a page. Raises the store's errors and BadQueryError."""
        with self._request(query) as request:
            return msgspec.json.encode(page(request))

    def write(self, download: Callable[[PageRequest, Path], None], query: Query, target: Path) -> None:
        """Write a file. Raises LookupError if it would be empty, the store's errors, BadQueryError and OSError."""
        with self._request(query) as request:
            download(request, target)

    @contextmanager
    def _request(self, query: Query) -> Iterator[PageRequest]:
        with closing(self.access.open()) as reader:
            self.was_open = True
            yield PageRequest(reader, self.access, query)
