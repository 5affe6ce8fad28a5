"""Text search: the calls whose messages contain a part of a text, first by a look at the first calls, then by a scan.

A page of results is full after a few calls where many contain the part. Else all texts are scanned once. SQLite's LIKE
ignores the case of ASCII only, but needs no Python per text. It decides about texts of ASCII; texts with other
characters are compared in Python.
"""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Final, cast

_STEP: Final = 20_000
"""Contents per query."""
_MAPPED_STEPS: Final = 4
"""The mapping of the file is renewed after so many queries: what was read through it counts as memory."""
_MOST_MAPPED: Final = 0x7FFF0000
_TEXTS: Final = """
SELECT id, CASE WHEN {contains} THEN NULL ELSE text END FROM content
 WHERE role IS NOT NULL AND id BETWEEN :first AND :last
   AND ({may_contain} OR length(text) <> length(CAST(text AS BLOB)))
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
_CONTENT: Final = "SELECT text FROM content WHERE id = ? AND role IS NOT NULL"
_NODE: Final = "SELECT parent, content FROM ctx WHERE id = ?"
MOST_LOOKUPS: Final = 20_000
"""Contents and nodes that are read one by one before all texts are scanned instead."""
_FOLDED: Final = 0x1E944
"""Case folding changes only characters below."""


class Lookup:
    """Reads the texts of single calls, each text once."""

    def __init__(self, connection: sqlite3.Connection, part: str) -> None:
        """`part` is case-folded."""
        self._cursor = connection.cursor()
        self._cursor.row_factory = None
        self._part = part
        self._contents: dict[int, bool] = {}
        self._nodes: dict[int, bool] = {0: False}
        """By node: whether its chain contains the part; the chain of 0 is empty."""

    def first(self, calls: Iterable[tuple[object, ...]], number: int) -> list[int] | None:
        """Return the first calls that contain the part, at most so many; None if that takes too many lookups.

        A call is the row ids of itself, its output, the chain of its messages and its system message.
        """
        found: list[int] = []
        for call, output, ctx, system in cast("Iterable[tuple[int, int | None, int | None, int | None]]", calls):
            if len(found) >= number:
                break
            if self._in_content(output) or self._in_content(system) or self._in_chain(ctx):
                found.append(call)
            elif len(self._contents) + len(self._nodes) > MOST_LOOKUPS:
                return None
        return found

    def _in_content(self, place: int | None) -> bool:
        if place is None:
            return False
        found = self._contents.get(place)
        if found is None:
            row = self._cursor.execute(_CONTENT, (place,)).fetchone()
            text = None if row is None else row[0]
            found = self._contents[place] = text is not None and self._part in text.casefold()
        return found

    def _in_chain(self, node: int | None) -> bool:
        """Return whether a chain contains the part; False too where it is so long that `first` gives up."""
        passed: list[int] = []
        while node is not None and node not in self._nodes and len(passed) <= MOST_LOOKUPS:
            passed.append(node)
            parent, content = self._cursor.execute(_NODE, (node,)).fetchone() or (0, None)
            if self._in_content(content):
                self._nodes[node] = True
            else:
                node = parent
        found = node is not None and self._nodes.get(node, False)
        self._nodes.update(dict.fromkeys(passed, found))
        return found


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
        found = self._contents
        found.extend(bytes(last + 1 - len(found)))
        for place, text in self._cursor.execute(self._texts, {"first": first, "last": last, **self._patterns}):
            if text is None or self._contains(text):
                found[place] = _FOUND

    def _contains(self, text: str) -> bool:
        """Return whether a text contains the part that LIKE did not find in it."""
        # Folding takes much longer than to look for some characters.
        return any(one in text for one in self._needed) and self._part in text.casefold()

    @cached_property
    def _needed(self) -> str:
        """Characters one of which is in each text that contains the part, though LIKE did not find it."""
        if not self._patterns:
            rarest = max(self._part)
            return rarest + "".join(one for one in map(chr, range(_FOLDED)) if rarest in one.casefold())
        part = set(self._part)
        # LIKE ends at a NUL.
        return "\0" + "".join(one for one in map(chr, range(0x80, _FOLDED)) if not part.isdisjoint(one.casefold()))

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
