"""Database in a SQLite file: each batch is one transaction, each row has a key, and each content is stored once.

Rows have only values that are cheap to bind. For types other than `int`, `float`, `str` and `bytearray`, `sqlite3`
first looks for an adapter and raises several exceptions internally, half the cost of a row of NULLs.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from callspan.record.events import Record
from callspan.record.labels import label_of, labels, labels_in, metadata_value
from callspan.runtime.clock import monotonic_s
from callspan.runtime.file_lock import try_lock, unlock
from callspan.runtime.forks import in_child
from callspan.stores.base import StoreError, on_error
from callspan.stores.sqlite import file
from callspan.stores.sqlite.file import BUSY_MS, explaining, forbid, inode_of, log_of, remedy, statuses
from callspan.stores.tables import bodies
from callspan.stores.tables.contents import ContentNumbers, NewContent
from callspan.stores.tables.database import Dialect, SqlDatabase, Values, bound
from callspan.stores.tables.facts import TABLES, Table
from callspan.stores.tables.payloads import PreparedCall
from callspan.stores.tables.rows import Row
from callspan.stores.tables.scores import ARITHMETIC, CALLS_ABOVE, OWN, SESSIONS_ABOVE, definitions

_INHERITED: Final = "it was open when this process was forked, and SQLite has no locks in the child"
_READERS_S: Final = 3.0
"""How long to wait for readers, which prevent the WAL from being emptied."""
_AGAIN_S: Final = 0.005
"""Retry interval. SQLite itself retries so rarely that it misses the pauses of a busy writer."""
_HELD: Final = (
    "{path}-wal still has the deleted records: another process reads it; SQLite empties it when the last process closes"
    " the file, or once that one has ended: sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'"
)
_LOST: Final = (
    "its -wal was deleted while this process wrote to it (does it have two copies of SQLite, or open the file itself?)"
)
_MAX_STATEMENTS: Final = 50
"""Fewer than the 128 prepared statements that `sqlite3` caches per connection."""
_MAX_NUMBERS: Final = 20_000
_NUMBERS: Final = """
SELECT hash, n FROM (SELECT hash, n FROM contents WHERE owner = :owner AND n < 0 ORDER BY n LIMIT :most)
UNION ALL
SELECT hash, n FROM (SELECT hash, n FROM contents WHERE owner = :owner AND n >= 0 ORDER BY n DESC LIMIT :most)
ORDER BY n"""
"""The newest contents of an owner. Reading all of them would make a delivery dearer with each call of a long session.
An older content that comes again is stored again, and is one of the newest then."""
SQLITE: Final = Dialect(
    minute="strftime('%Y-%m-%dT%H:%MZ', c.start_ns / 1000000000, 'unixepoch')",
    # Not `/` exclusive, which other databases do not round.
    cost="coalesce((c.cost_picousd - c.cost_picousd % 1000000) / 1000000, CAST(c.cost_usd * 1e6 AS integer))",
    cost_rest="""coalesce(c.cost_picousd % 1000000,
      CASE WHEN abs(c.cost_usd) < 9e6 THEN CAST(c.cost_usd * 1e12 AS integer) % 1000000 ELSE 0 END)""",
    array="json_group_array({values})",
    percentiles=None,
    items="SELECT value FROM json_each(:items)",
    # LIKE rejects most texts without calling Python, but is case-insensitive only for ASCII and limits the pattern.
    contains=r"""(({text} LIKE
      '%' || replace(replace(replace(substr({part}, 1, 2000), '\', '\\'), '%', '\%'), '_', '\_') || '%' ESCAPE '\'
      OR length({text}) <> length(CAST({text} AS BLOB))) AND callspan_contains({text}, {part}))""",
    in_sessions="c.session_id IN (SELECT s.session_id FROM sessions s WHERE {condition})",
    # Searches the texts once, not once per call.
    has_message="""EXISTS (
  WITH hit AS MATERIALIZED (
    SELECT t.owner, json_group_array(t.n) AS numbers FROM contents t
     WHERE t.role IS NOT NULL AND {contains} GROUP BY +t.owner)
  SELECT 1 FROM hit h, json_each(c.contents) r, json_each(h.numbers) i
   WHERE h.owner = coalesce(c.owner, 's:' || c.session_id, 'c:' || c.call_id)
     AND i.value BETWEEN json_extract(r.value, '$[1]') AND json_extract(r.value, '$[2]'))""",
    is_deflated=True,
    has="callspan_has({at}, {value})",
    label_at="callspan_value({at})",
    label_in="json_quote({column})",
    labels="LEFT JOIN json_each(callspan_labels({label})) {name} ON true",
    arithmetic=ARITHMETIC["sqlite"],
    # Nothing is read where no score is as high; else each call is looked up, so that a page ends with its last one.
    has_score=f"""((EXISTS ({CALLS_ABOVE}) OR EXISTS ({SESSIONS_ABOVE}))
      AND coalesce(({OWN}) >= :min_score, c.session_id IN ({SESSIONS_ABOVE}), false))""",
    # Not `IN` alone: SQLite would begin with the sessions, and sort all of their calls.
    in_scored="coalesce(c.session_id IN ({sessions}), false)",
    scores=definitions("sqlite"),
    keys="SELECT k.value FROM json_each(:keys) k WHERE k.value IN (SELECT key FROM joints)",
    joints="""SELECT j.key, j.call_id, j.proof FROM json_each(:keys) k JOIN joints j ON j.key = k.value
   AND j.call_id IN (SELECT x.call_id FROM joints x WHERE x.key = k.value
     ORDER BY x.call_id DESC LIMIT :most)""",
    offers="""SELECT c.offer, c.call_id FROM json_each(:keys) k JOIN calls c
    ON c.rowid IN (SELECT x.rowid FROM calls x WHERE x.offer = k.value LIMIT :most)""",
    unended="",
    began="",
    few_calls=20_000,
    of_sessions="",
    scores_of_sessions="",
    of_calls="",
    session_rewards="rewards",
    recursive_union="UNION",
    temporary="CREATE TEMP TABLE IF NOT EXISTS {name} (id text PRIMARY KEY)",
)


class SQLiteDatabase(SqlDatabase):
    """The `SqlDatabase` of a file, over a connection of `callspan.stores.sqlite.file`."""

    dialect = SQLITE
    rejects = (
        OverflowError, UnicodeEncodeError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.IntegrityError,
    )  # fmt: skip
    suspects = (MemoryError,)

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Takes ownership of the connection."""
        self.name = f"sqlite:///{path}"
        self.remedy = remedy(path)
        self._path = path
        self.connection: sqlite3.Connection = connection
        self._inode, self._log = inode_of(path), log_of(path)
        self._locks: list[int] = []
        self._is_open = True
        self._numbers: dict[str, ContentNumbers] = {}
        """The numbers of all contents, by owner."""
        self._data_version = -1
        in_child(self, SQLiteDatabase.forbid_in_child)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        writes: bool = False,
        creates: bool = False,
        syncs: bool = False,
        wait_s: float | None = None,
    ) -> SQLiteDatabase:
        """Open the file. `wait_s`: how long to wait for locks. For the other parameters see `open_for_writing`.

        Raises StoreError if the file is missing or belongs to another application; sqlite3.Error or OSError.
        """
        wait_s = BUSY_MS / 1000 if wait_s is None else wait_s
        if writes:
            database = cls(path, file.open_for_writing(path, creates=creates, syncs=syncs, wait_s=wait_s))
        else:
            database = cls(path, file.open_for_reading(path, wait_s))
        for name, arguments, function in _FUNCTIONS:
            database.connection.create_function(name, arguments, function, deterministic=True)
        return database

    def run_many(self, sql: str, rows: Iterable[Values]) -> None:
        """Run a statement once for each of these rows of parameters."""
        with self._explaining():
            self.connection.executemany(sql, map(bound, rows))

    @contextmanager
    def transaction(self, *, exclusive: bool = False) -> Iterator[None]:
        """Commit the block's writes, or roll them back if it raises. Other writers wait until its end."""
        del exclusive
        self.run("BEGIN IMMEDIATE")
        with self.connection:
            yield

    def try_lock(self, name: str) -> bool:
        """Lock a file of this name beside the database until `close`; return False if another process holds it."""
        lock = os.open(f"{self._path}.{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._locks.append(lock)
        return try_lock(lock)

    def version(self) -> str:
        """Return a text that changes with every write."""
        return " ".join(f"{status.st_ino} {status.st_mtime_ns} {status.st_size}" for status in statuses(self._path))

    def connections(self) -> None:
        """Return None: a file has no limit."""

    def finish(self, *, vacuum: bool = False) -> str | None:
        """Move the WAL into the file and empty it; `vacuum`: rewrite the file first.

        Return the reason if the WAL could not be emptied, else None.
        """
        if vacuum:
            self.run("VACUUM")
        self.run("PRAGMA busy_timeout=0")
        deadline = monotonic_s() + _READERS_S
        while (busy := self._is_log_busy()) and monotonic_s() < deadline:
            time.sleep(_AGAIN_S)
        self.run(f"PRAGMA busy_timeout={BUSY_MS}")
        return _HELD.format(path=self._path) if busy else None

    def _is_log_busy(self) -> bool:
        return bool(next(self.tuples("PRAGMA wal_checkpoint(TRUNCATE)"))[0])

    def close(self) -> None:
        """Close the file and release its locks."""
        super().close()
        self._is_open = False
        while self._locks:
            lock = self._locks.pop()
            unlock(lock)
            os.close(lock)

    @contextmanager
    def delivery(self, records: Sequence[Record]) -> Iterator[None]:
        """Return the transaction of a delivery, after checking that the file is still there, as is its WAL at the end.

        Raises FileNotFoundError, StoreError.
        """
        del records
        if inode_of(self._path) != self._inode:
            raise FileNotFoundError(f"{self._path}: deleted or replaced while in use; it is reopened")
        with on_error(self._numbers.clear), self._explaining(), self.transaction():
            self._forget_if_changed()
            yield
        # A different WAL file means that the one written to was deleted.
        if self._log is not None and log_of(self._path) != self._log:
            forbid(self._path, _LOST)
            raise StoreError(f"{self._path}: {_LOST}")

    def _forget_if_changed(self) -> None:
        """Forget all numbers if another connection has written, because it may have deleted contents."""
        version = next(self.tuples("PRAGMA data_version"))[0]
        if (
            version != self._data_version
            or sum(len(numbers.by_hash) for numbers in self._numbers.values()) > _MAX_NUMBERS
        ):
            self._numbers.clear()
            self._data_version = version

    def numbers(self, calls: Sequence[PreparedCall]) -> Mapping[str, ContentNumbers]:
        """Return the numbers of contents by owner of these calls, and of earlier ones."""
        for owner in {call.owner for call in calls}.difference(self._numbers):
            newest = [*self.tuples(_NUMBERS, {"owner": owner, "most": _MAX_NUMBERS // 4})]
            self._numbers[owner] = ContentNumbers(dict(newest), [number for _, number in newest])
        return self._numbers

    def forget_numbers(self, owner: str) -> None:
        """Forget an owner's numbers, because some of its contents were deleted."""
        self._numbers.pop(owner, None)

    def add_contents(self, new: Sequence[NewContent]) -> None:
        """Insert contents."""
        cursor = self.connection.cursor()
        for owner, number, part in new:
            role, text, reasoning, json = bodies.to_row(part)
            content: Row = {"owner": owner, "n": number, "hash": bytearray(part.hash)}
            if role is not None:
                content["role"] = role
            if json is not None:
                content["data"] = bytearray(bodies.deflated(json))
            if text is not None:
                content["text"] = text
            if reasoning is not None:
                content["reasoning"] = reasoning
            _insert(cursor, "contents", content)

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows into a table; a row with an existing key is ignored."""
        cursor = self.connection.cursor()
        for row in rows:
            _insert(cursor, table.name, row)

    def _execute(self, sql: str, values: dict[str, Any], *, by_name: bool = False) -> sqlite3.Cursor:
        cursor = self.connection.cursor()
        if by_name:
            cursor.row_factory = sqlite3.Row
        return cursor.execute(sql, values)

    def _explaining(self) -> AbstractContextManager[None]:
        return explaining(self._path)

    def forbid_in_child(self) -> None:
        """Forbid the use of a connection that a forked child has inherited."""
        if self._is_open:
            forbid(self._path, _INHERITED)


def _label(metadata: str | None, key: str) -> str | None:
    return None if metadata is None else label_of(msgspec.json.decode(metadata, type=dict), key)


def _value(metadata: str | None, key: str) -> str | None:
    """Return the JSON of a metadata value; None for an object."""
    value = None if metadata is None else metadata_value(msgspec.json.decode(metadata, type=dict), key)
    return None if value is None or isinstance(value, dict) else msgspec.json.encode(value).decode()


def _labels(value: str | None) -> str | None:
    """Return the labels in the JSON of a value as a JSON array."""
    if value is None:
        return None
    return msgspec.json.encode(list(dict.fromkeys(labels_in(msgspec.json.decode(value))))).decode()


def _has(metadata: str | None, key: str, value: str) -> bool:
    return metadata is not None and value in labels(msgspec.json.decode(metadata, type=dict), key)


def _contains(text: str | None, part: str) -> bool:
    """Return whether a text contains a case-folded substring. SQLite's own `lower` handles only ASCII."""
    return text is not None and part in text.casefold()


_FUNCTIONS: Final = (
    ("callspan_label", 2, _label),
    ("callspan_value", 2, _value),
    ("callspan_labels", 1, _labels),
    ("callspan_has", 3, _has),
    ("callspan_contains", 2, _contains),
)


def _insert(cursor: sqlite3.Cursor, table: str, row: Row) -> None:
    """Insert a row of the columns that are not NULL. Raises sqlite3.Error."""
    statement, flags = _statement(table, tuple(row))
    values = [*row.values()]
    for index in flags:
        values[index] = 1 if values[index] else 0  # bool goes through SQLite's adapters: 13,000 instructions a record
    cursor.execute(statement, values)


@lru_cache(_MAX_STATEMENTS)
def _statement(name: str, columns: Sequence[str]) -> tuple[str, Sequence[int]]:
    """Return the INSERT statement for these columns, and the indexes of boolean ones."""
    flags, conflict = set[str](), ""
    if (table := next((candidate for candidate in TABLES.values() if candidate.name == name), None)) is not None:
        flags = {column.name for column in table.columns if column.form == "flag"}
        conflict = "ON CONFLICT DO NOTHING"
    sql = f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) {conflict}"  # noqa: S608
    return sql, [index for index, column in enumerate(columns) if column in flags]
