"""Temporary databases: reads records that are in no database by their rows, without content, in a temporary one."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import os
import re
import sqlite3
import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, Final, Literal, cast

import msgspec

from callspan.record.call import NO_BODY, CallRecord
from callspan.record.codec import decode, encode
from callspan.record.events import Record, record_key
from callspan.record.merging import merged
from callspan.spool.sink import PoisonError
from callspan.stores.base import CallFilter, StoreError
from callspan.stores.columns import CALLS, TABLES
from callspan.stores.payloads import cells_of, text_of, users_words
from callspan.stores.rows import merged_row
from callspan.stores.schema import statements
from callspan.stores.sql_rewards import Values, record_of
from callspan.stores.sqlite.file import explaining
from callspan.stores.sqlite.reader import FUNCTIONS, SQLiteReader
from callspan.stores.sqlite.store import POISON, insert_of

_PLACE: Final = Path("temporary database (in the directory SQLITE_TMPDIR)")
"""What errors name."""
_QUERIES: Final = (
    "calls", "call", "history", "count_calls", "sessions", "session", "timestep", "timesteps", "step_positions",
    "events", "rewards", "calls_named", "summary", "times", "stored", "ids", "session_ids", "rows_of", "other_ids",
    "targets", "first_words", "courses", "reward_curves",
)  # fmt: skip
_INDEX: Final = "CREATE INDEX"
_replace: Final = msgspec.structs.replace
_WORD: Final = re.compile("[a-z]{2,}")


class TemporaryReader(SQLiteReader):
    """Loads rows at the beginning of each query, unless results of another one are still being read.

    The database has no name: SQLite keeps it in memory while it is small, else in a private file that it deletes when
    it opens it. Of a call's bodies it has only the place, an integer that means something to the subclass.
    Any thread may use it. After a fork the child loads rows of its own; a list begun before is read on in the parent.
    """

    def __init__(self, name: str) -> None:
        """`name` is that of the store. Nothing is read yet."""
        self.name = name
        self._path = _PLACE
        self._running = 0
        """Queries whose results are being read."""
        self._loading = threading.RLock()
        self._process = os.getpid()
        self._is_closed = False
        self._failure: StoreError | None = None
        """What failed in a function that SQLite has called."""
        self._connect()

    @abstractmethod
    def _load(self) -> None:
        """Add what the database lacks. Raises StoreError."""

    @abstractmethod
    def _version(self, place: int, call_id: str) -> CallRecord:
        """Return the version of a call at a place, with its bodies. Raises StoreError, also if it is another call's."""

    def _clear(self) -> None:
        """Start with an empty database."""
        self._connection.close()
        if not self._is_closed:
            self._connect()

    def _connect(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        for name, arguments, function in (*FUNCTIONS, ("callspan_finds", 5, self._finds)):
            self._connection.create_function(name, arguments, function, deterministic=True)
        self._run("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF")
        self._run(*(one for one in statements("sqlite") if _INDEX not in one))
        self._is_indexed = False

    def _add_all(self, found: Generator[tuple[Record, int], None, None]) -> None:
        """Add records and the places of their bodies. After an exception the database is empty."""
        try:
            with explaining(self._path), closing(found):
                self._run("BEGIN")
                for record, place in found:
                    # A value that no column can hold: the stores that are databases reject such a record.
                    with suppress(PoisonError, *POISON):
                        self._add(record, place)
                # An index of all rows is made in a fraction of the time that its growth takes.
                if not self._is_indexed:
                    self._run(*(one for one in statements("sqlite") if _INDEX in one))
                    self._is_indexed = True
                self._run("COMMIT")
        except BaseException:
            self._clear()
            raise

    def _add(self, record: Record, place: int) -> None:
        kind, key = record_key(record)
        table, there = TABLES[kind], None
        if table.merges or (isinstance(record, CallRecord) and record.is_merged):
            sql = f"SELECT * FROM {table.name} WHERE {table.key} = ?"
            there = self._connection.execute(sql, (key,)).fetchone()
        if isinstance(record, CallRecord):
            places = _places(record, place)
            if there is not None:
                known = _with_places(record_of(CALLS, there, CallRecord), there["request"], there["output"])
                record = merged([known, _with_places(record, *places)])
                places = _places(record)
                self._run(f"DELETE FROM calls WHERE id = {there['id']}")
            request, output = places
            cells = [*cells_of(record), request, None, None, None, output]
        elif there is not None:
            cells = [*merged_row(table, there, record).values()]
        else:
            cells = [*cells_of(record)]
        insert_of(table).run(self._connection.cursor(), cells)

    def _run(self, *statements: str) -> None:
        for statement in statements:
            self._connection.execute(statement)

    def _began(self) -> None:
        """Load rows for a query, unless others are running, and count it as one of these."""
        if os.getpid() != self._process:
            # The connection is the parent's too, and a thread that held the lock is not here.
            self._process, self._running, self._loading = os.getpid(), 0, threading.RLock()
            self._clear()
        with self._loading:
            if not self._running:
                self._load()
            self._running += 1

    @contextmanager
    def _query(self) -> Iterator[None]:
        """Keep the rows as they are until the block has run, which `_began` has counted."""
        try:
            yield
        except sqlite3.OperationalError:
            if self._failure is None:
                raise
            raise self._failure from None
        finally:
            with self._loading:
                self._running = max(0, self._running - 1)
            self._failure = None

    def _results(self, found: Iterator[object]) -> Iterator[object]:
        with self._loading:
            self._running += 1
        with self._query():
            yield from found

    def _request_body(self, row: Values) -> msgspec.Raw | None:
        place = cast("int | None", row["request"])
        return None if place is None else self._version(place, str(row["call_id"])).request.body

    def _response_body(self, row: Values) -> msgspec.Raw | None:
        place = cast("int | None", row["output"])
        response = None if place is None else self._version(place, str(row["call_id"])).response
        return None if response is None else response.body

    def _first_with(self, which: CallFilter) -> None:
        """Return None: texts are read where they are."""

    def _text_condition(self, text: str) -> str:
        """Return the condition that a text of call `c` contains the case-folded text, which is `:text`, too."""
        del text
        return "callspan_finds(c.call_id, c.api, c.request, c.output, :text)"

    def _finds(self, call_id: str, api: str, request: int | None, output: int | None, part: str) -> bool:
        row = {"call_id": call_id, "request": request, "output": output}
        try:
            sent, answer = bytes(self._request_body(row) or b""), bytes(self._response_body(row) or b"")
        except StoreError as error:
            self._failure = error
            raise
        word = _word_in(part)
        return (_may_hold(sent, word) or _may_hold(answer, word)) and part in text_of(api, sent, answer).casefold()

    def is_erased(self, kind: Literal["session", "call"], ident: str) -> bool:
        """Return whether the store remembers that the session or call of this whole id was erased."""
        del kind, ident
        return False

    def interrupt(self) -> None:
        """Do nothing: rows that are being loaded would be loaded anew."""

    def version(self) -> str | None:
        """Return None: what was appended is seen by the next query."""
        return None

    def sharing(self, calls: Collection[str]) -> frozenset[str]:
        """Return the ids of other calls whose requests hold a message of a user that one of these calls holds, too."""
        self._began()
        with self._query():
            rows = self._rows("SELECT call_id, api, request FROM calls WHERE request IS NOT NULL")
            words = {
                str(row["call_id"]): users_words(str(row["api"]), bytes(self._request_body(row) or b"")) for row in rows
            }
        mine = frozenset[bytes]().union(*(words[call_id] for call_id in calls if call_id in words))
        return frozenset(call_id for call_id, its in words.items() if call_id not in calls and its & mine)

    def close(self) -> None:
        """Close the temporary database."""
        self._is_closed = True
        self._connection.close()


def _queried(query: Callable[..., Any]) -> Callable[..., Any]:
    """Return a query over rows loaded just now."""

    @wraps(query)
    def answer(reader: TemporaryReader, *arguments: object, **named: object) -> object:
        reader._began()
        with reader._query():
            found = query(reader, *arguments, **named)
        return reader._results(found) if isinstance(found, Iterator) else found

    return answer


for _name in _QUERIES:
    setattr(TemporaryReader, _name, _queried(getattr(SQLiteReader, _name)))


class RecordsReader(TemporaryReader):
    """A reader of records, read again for each query unless once: each in several versions perhaps, in any order."""

    def __init__(self, name: str, read: Callable[[], Iterable[Record]], *, once: bool = False) -> None:
        """`read` returns the records as they were stored; `once`: it is called for the first query alone."""
        super().__init__(name)
        self._records = read
        self._once, self._is_loaded = once, False

    def _clear(self) -> None:
        self._is_loaded = False
        super()._clear()

    def _load(self) -> None:
        if self._once and self._is_loaded:
            return
        self._clear()
        self._run("CREATE TABLE versions (id INTEGER PRIMARY KEY, record BLOB NOT NULL)")
        self._add_all((record, self._kept(record)) for record in self._records())
        self._is_loaded = True

    def _kept(self, record: Record) -> int:
        if not isinstance(record, CallRecord):
            return 0
        kept = self._connection.execute("INSERT INTO versions (record) VALUES (?)", (encode(record),))
        return int(kept.lastrowid or 0)

    def _version(self, place: int, call_id: str) -> CallRecord:  # noqa: ARG002 - what is kept here stays
        (data,) = self._connection.execute("SELECT record FROM versions WHERE id = ?", (place,)).fetchone()
        return cast("CallRecord", decode(data))


def _with_places(record: CallRecord, request: int | None, output: int | None) -> CallRecord:
    """Return a call with the places of its bodies instead of these."""
    if request is not None:
        record = _replace(record, request=_replace(record.request, body=msgspec.Raw(b"%d" % request)))
    if output is not None and record.response is not None:
        record = _replace(record, response=_replace(record.response, body=msgspec.Raw(b"%d" % output)))
    return record


def _places(record: CallRecord, place: int | None = None) -> tuple[int | None, int | None]:
    """Return the places of the bodies that a call has: the given one, else those that it has instead of them."""
    sent, answer = record.request.body, NO_BODY if record.response is None else record.response.body
    return (
        int(place or bytes(sent)) if bytes(sent) else None,
        int(place or bytes(answer)) if bytes(answer) else None,
    )


@lru_cache
def _word_in(part: str) -> bytes:
    """Return the longest word of ASCII letters in a case-folded text; empty if there is none."""
    return max(_WORD.findall(part), key=len, default="").encode()


def _may_hold(body: bytes, word: bytes) -> bool:
    """Return whether the texts of a body may have a word, in any case: only other characters and escapes hide one."""
    return not body.isascii() or b"\\u" in body or word in body.lower()
