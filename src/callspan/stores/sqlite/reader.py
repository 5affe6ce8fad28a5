"""Reader of a SQLite file, while others write; texts are found by one scan of all texts.

SQLite's LIKE ignores the case of ASCII only, but needs no Python per text. It decides about texts of ASCII; texts with
other characters, and those stored in two parts, are compared in Python.
"""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from callspan.record.labels import label_of, labels
from callspan.stores import aggregates, bodies
from callspan.stores.aggregates import Latencies
from callspan.stores.columns import LAYOUT
from callspan.stores.filters import SQLITE
from callspan.stores.packing import SAME_HASH
from callspan.stores.sql_reader import ExactCalls, SqlReader
from callspan.stores.sql_rewards import Values
from callspan.stores.sqlite.file import explaining, open_for_reading, rescue

_CHUNK: Final = 500
_COLUMN: Final = re.compile(r"\bc\.(\w+)")
_CONDITIONS: Final = frozenset({"session_id", "provider"})
_GROUPS: Final[dict[str, str]] = {
    "model": "c.model",
    "provider": "c.provider",
    "session": "c.session_id",
    "day": "date(c.hour * 3600, 'unixepoch')",
}
_SUMS: Final = """
SELECT {key} AS key, sum(c.calls) AS calls, sum(c.errors) AS errors, sum(c.cancelled) AS cancelled,
  sum(c.in_tok) AS input_tokens, sum(c.out_tok) AS output_tokens, sum(c.cache_read_tok) AS cache_read_tokens,
  sum(c.reasoning_tok) AS reasoning_tokens, sum(c.cost_picousd) AS pico, sum(c.costs) AS priced,
  sum(c.exact_costs) AS exact, sum(c.retries) AS retries, min(c.first_ns) AS first_ns, max(c.last_ns) AS last_ns
FROM call_sums c WHERE {where} GROUP BY 1 ORDER BY 2 DESC, coalesce({key}, '')
"""
_TIMES: Final = """
SELECT {key}, c.durations, c.first_tokens FROM (
  SELECT session_id, hour, model, provider, durations, first_tokens FROM summed WHERE calls
  UNION ALL SELECT session_id, hour, model, provider, durations, first_tokens FROM fresh_sums) c WHERE {where}
"""
_TIMES_SINCE: Final = 3
"""Layout that keeps the times of calls."""
_STEP: Final = 20_000
"""Contents per query."""
_MAPPED_STEPS: Final = 4
"""The mapping of the file is renewed after so many queries: what was read through it counts as memory."""
_MOST_MAPPED: Final = 0x7FFF0000
_TEXTS: Final = """
SELECT id, CASE WHEN {contains} THEN NULL ELSE text END, rest, text_of FROM content
 WHERE role IS NOT NULL AND id BETWEEN :first AND :last
   AND ({may_contain} OR rest IS NOT NULL OR text_of IS NOT NULL OR length(text) <> length(CAST(text AS BLOB)))
"""
"""Texts that contain the part are NULL. `length` of a text with a NUL ends there."""
_LIKE: Final = "text LIKE {} ESCAPE '\\'"
_PATTERN_CHARACTERS: Final = 10_000
"""SQLite refuses patterns of more than 50,000 bytes."""
_SAMPLES: Final = 50
_SAMPLE: Final = (
    "SELECT substr(text, 1, 350) FROM content WHERE id >= ? AND role IS NOT NULL AND text IS NOT NULL LIMIT 1"
)
_FEW: Final = 20_000
"""Ids that are put into a query."""
_CALLS: Final = """
WITH RECURSIVE hit (id) AS (
  SELECT x.id FROM ctx x WHERE x.content IN ({contents})
  UNION SELECT x.id FROM hit JOIN ctx x ON x.parent = hit.id)
SELECT c.id FROM calls c
 WHERE c.output IN ({contents}) OR c.ctx IN (SELECT id FROM hit) OR c.system IN ({contents}) LIMIT {limit}
"""
_HIGHEST: Final = {table: f"SELECT coalesce(max(id), 0) FROM {table}" for table in ("content", "ctx")}
_FOUND: Final = 1


class SQLiteReader(SqlReader):
    """Opens the file read-only. Raises StoreError for a missing file or one of another application."""

    _day = "date(c.start_ns / 1000000000, 'unixepoch')"
    _same_hash = SAME_HASH.format(value=":value")
    _metadata = SQLITE
    _called = "c.first_ns AS called FROM call_sums c"
    _models = "SELECT DISTINCT session_id, model FROM call_sums"

    def __init__(self, path: str | Path) -> None:
        """Open `path` at once, so that errors show early."""
        self.name = f"sqlite:///{path}"
        self._path = Path(path)
        self._remedy = rescue(self._path)
        self._connection = open_for_reading(self._path)
        self._layout = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        self._connection.row_factory = sqlite3.Row
        self._searches: dict[str, TextSearch] = {}
        """By their texts."""
        for name, arguments, function in _FUNCTIONS:
            self._connection.create_function(name, arguments, function, deterministic=True)

    def _rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""
        with explaining(self._path):
            cursor = self._connection.execute(sql, values)
            while chunk := cursor.fetchmany(_CHUNK):
                yield from chunk

    def _tuples(self, sql: str, **values: object) -> Iterator[tuple[object, ...]]:
        """Yield the same rows as plain tuples."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        with explaining(self._path):
            yield from cursor.execute(sql, values)

    def _page_of(self, where: str, page: str) -> str:
        """Return the condition that a call `c` is on this page of the calls that match a condition."""
        return f"c.id IN (SELECT c.id FROM calls c WHERE {where} {page})"

    def _sums(self, by: str, where: str, values: Values) -> Iterator[Values]:
        """Yield one row per group, from the sums stored in the file if they can answer the query."""
        kept = _kept_sums(by, where)
        return super()._sums(by, where, values) if kept is None else self._rows(kept, **values)

    def _text_condition(self, text: str) -> str:
        """Return the condition that a message of call `c` contained the case-folded text just now."""
        search = self._searches.get(text)
        if search is None:
            search = self._searches[text] = TextSearch(self._connection, text)
            self._connection.create_function(f"callspan_finds_{len(self._searches)}", 3, search.finds)
        with explaining(self._path):
            return search.condition(f"callspan_finds_{[*self._searches].index(text) + 1}")

    def _latencies(self, key: str, where: str, values: Values) -> Mapping[object, Latencies]:
        """Return the percentiles of the calls that succeeded, from the times the file keeps where these suffice."""
        by = next((name for name in _GROUPS if self._group(name) == key), None)
        if self._layout < _TIMES_SINCE or by is None or not _answerable(where):
            return super()._latencies(key, where, values)
        durations: dict[object, list[float]] = defaultdict(list)
        first_tokens: dict[object, list[float]] = defaultdict(list)
        for group, *texts in self._tuples(_TIMES.format(key=_GROUPS[by], where=where), **values):
            for found, text in zip((durations, first_tokens), texts, strict=True):
                if isinstance(text, str):
                    # Numbers of nanoseconds are exact as floats up to 104 days, and sorted in half the time.
                    found[group].extend(map(float, text.split(",")))
        return aggregates.latencies_of(durations, first_tokens)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def query(path: Path, sql: str, **values: object) -> list[Values]:
    """Return the rows of one query of a file, with `:name` parameters."""
    reader = SQLiteReader(path)
    try:
        return list(reader._rows(sql, **values))
    finally:
        reader.close()


class WritersReader(SQLiteReader, ExactCalls):
    """Reads what a writer's transaction has written too, over its connection."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """The file is `connection`'s, of this layout."""
        self.name = f"sqlite:///{path}"
        self._path, self._remedy = path, rescue(path)
        self._connection, self._layout = connection, LAYOUT
        self._searches = {}

    def _rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""
        cursor = self._connection.cursor()
        cursor.row_factory = sqlite3.Row
        yield from cursor.execute(sql, values).fetchall()


def _label(metadata: str | None, key: str) -> str | None:
    return None if metadata is None else label_of(msgspec.json.decode(metadata, type=dict), key)


def _has(metadata: str | None, key: str, value: str) -> bool:
    return metadata is not None and value in labels(msgspec.json.decode(metadata, type=dict), key)


_FUNCTIONS: Final = (("callspan_label", 2, _label), ("callspan_has", 3, _has))


def _kept_sums(by: str, where: str) -> str | None:
    """Return the query of the stored sums for the calls `c` that match; None if the stored sums cannot answer it."""
    if by in _GROUPS and _answerable(where):
        return _SUMS.format(key=_GROUPS[by], where=where)
    return None


def _answerable(where: str) -> bool:
    """Whether what is kept of the calls tells those apart where this holds."""
    return set(_COLUMN.findall(where)) <= _CONDITIONS


class TextSearch:
    """What was found in the texts scanned so far. Contents never change; those added since are scanned next."""

    def __init__(self, connection: sqlite3.Connection, part: str) -> None:
        """`part` is case-folded. Nothing is scanned yet."""
        self._connection = connection
        self._cursor = connection.cursor()
        self._cursor.row_factory = None
        self._part = part
        self._texts, self._patterns = _query(part, self._sample() if part.isascii() else "")
        self._contents = bytearray(1)
        """By id: whether the text of the content contains the part."""
        self._nodes = bytearray(1)
        """By id: whether a content of the chain that ends in the node does."""
        self._last_node = 0
        self._version: object = None
        self._condition: str | None = None
        self._last_hash: bytes | None = None

    def _update(self) -> None:
        """Scan what was added since the last time."""
        if self._last_hash != self._hash_of(len(self._contents) - 1):
            self._forget()  # The newest contents were deleted, so their ids are given again.
        # Before the contents: each node of these refers to one of those.
        self._last_node = self._highest("ctx")
        highest = self._highest("content")
        (mapped,) = self._connection.execute("PRAGMA mmap_size").fetchone() or (0,)
        try:
            for number, start in enumerate(range(len(self._contents), highest + 1, _STEP)):
                if number % _MAPPED_STEPS == 0:
                    self._map(_MOST_MAPPED)
                self._scan(start, min(highest, start + _STEP - 1))
        finally:
            self._map(mapped)
        self._last_hash = self._hash_of(highest)

    def condition(self, function: str) -> str:
        """Return the condition that a call `c` contains the part just now. Raises sqlite3.Error.

        `function` is the SQL name of `finds`.
        """
        version = self._connection.execute("PRAGMA data_version").fetchone()[0], self._connection.total_changes
        if self._condition is None or version != self._version:
            self._version = version
            self._update()
            self._condition = self._made(function)
        return self._condition

    def _made(self, function: str) -> str:
        number = self._contents.count(_FOUND)
        if not number:
            return "1 = 0"
        if number <= _FEW:
            found = ",".join(str(place) for place in _places(self._contents))
            sql = _CALLS.format(contents=found, limit=_FEW + 1)
            calls = [str(row[0]) for row in self._cursor.execute(sql)]
            if len(calls) <= _FEW:
                return f"c.id IN ({','.join(calls)})"
        self._follow_chains()
        return f"{function}(c.output, c.ctx, c.system)"

    def finds(self, output: int | None, ctx: int | None, system: int | None) -> bool:
        """Return whether a call that refers to these contents and this chain has a message that contains the part."""
        contents, nodes = self._contents, self._nodes
        return (
            (output is not None and output < len(contents) and contents[output] == _FOUND)
            or (ctx is not None and ctx < len(nodes) and nodes[ctx] == _FOUND)
            or (system is not None and system < len(contents) and contents[system] == _FOUND)
        )

    def _forget(self) -> None:
        self._contents, self._nodes, self._last_hash = bytearray(1), bytearray(1), None

    def _sample(self) -> str:
        highest = self._highest("content")
        places = range(1, highest + 1, highest // _SAMPLES + 1)
        return "".join(str(row[0]) for place in places for row in self._cursor.execute(_SAMPLE, (place,))).casefold()

    def _scan(self, first: int, last: int) -> None:
        found, part = self._contents, self._part
        found.extend(bytes(last + 1 - len(found)))
        borrowed = []
        for place, text, rest, lender in self._cursor.execute(
            self._texts, {"first": first, "last": last, **self._patterns}
        ):
            if lender is not None:
                borrowed.append((place, lender))
            elif text is None or part in (text if rest is None else bodies.whole_text(text, rest) or "").casefold():
                found[place] = _FOUND
        for place, lender in borrowed:
            # An answer is stored before the request that sends it again.
            found[place] = found[lender] if lender < len(found) else 0

    def _follow_chains(self) -> None:
        contents, nodes = self._contents, self._nodes
        start = len(nodes)
        nodes.extend(bytes(self._last_node + 1 - start))
        # A node is stored after its parent.
        links = "SELECT id, parent, content FROM ctx WHERE id BETWEEN ? AND ? ORDER BY id"
        for node, parent, content in self._cursor.execute(links, (start, len(nodes) - 1)):
            if nodes[parent] or (content < len(contents) and contents[content]):
                nodes[node] = _FOUND

    def _map(self, size: int) -> None:
        for mapped in (0, size):
            self._connection.execute(f"PRAGMA mmap_size={mapped}").fetchall()

    def _hash_of(self, content: int) -> bytes | None:
        row = self._connection.execute("SELECT hash FROM content WHERE id = ?", (content,)).fetchone()
        return None if row is None else bytes(row[0])

    def _highest(self, table: str) -> int:
        return int(self._connection.execute(_HIGHEST[table]).fetchone()[0])


def _query(part: str, sample: str) -> tuple[str, dict[str, str]]:
    """Return the query of the texts that contain a case-folded part or are to be compared, and its patterns.

    `sample` is a sample of the texts.
    """
    if not part.isascii() or "\0" in part:
        # No text of ASCII contains it, and LIKE ends at a NUL.
        return _TEXTS.format(contains="0", may_contain="0"), {}
    if len(part) > _PATTERN_CHARACTERS:
        return _TEXTS.format(contains="0", may_contain="text IS NOT NULL"), {}
    # LIKE looks for the first character of its pattern: the rarer, the faster.
    rarest = min(range(len(part)), key=lambda at: sample.count(part[at]), default=0)
    whole, end = _LIKE.format(":whole"), _LIKE.format(":end")
    patterns = {"whole": _pattern(part), "end": _pattern(part[rarest:])}
    return _TEXTS.format(contains=whole, may_contain=f"{end} AND {whole}" if rarest else whole), patterns


def _pattern(text: str) -> str:
    return "%" + re.sub(r"([%_\\])", r"\\\1", text) + "%"


def _places(marks: bytearray) -> Iterator[int]:
    """Yield where something was found."""
    place = marks.find(_FOUND)
    while place >= 0:
        yield place
        place = marks.find(_FOUND, place + 1)
