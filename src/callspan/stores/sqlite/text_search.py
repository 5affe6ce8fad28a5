"""Text search: the calls whose messages contain a part of a text, first by a look at the first calls, then by a scan.

A page of results is full after a few calls where many contain the part. Else all texts are scanned once. SQLite's LIKE
ignores the case of ASCII only, but needs no Python per text. It decides about texts of ASCII; texts with other
characters are compared in Python.
"""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from functools import cached_property
from typing import Final, cast

_STEP: Final = 20_000
"""Contents per query."""
_MAPPED_STEPS: Final = 4
"""The mapping of the file is renewed after so many queries: what was read through it counts as memory."""
_MOST_MAPPED: Final = 0x7FFF0000
_TEXTS: Final = """
INSERT OR IGNORE INTO {found} SELECT id FROM content
 WHERE role IS NOT NULL AND id BETWEEN :first AND :last AND ({contains})
"""
"""What an interrupt has left of the last scan is found again."""
_NOT_ASCII: Final = "length(text) <> length(CAST(text AS BLOB))"
"""The condition of a text that is not ASCII, or has a NUL, at which `length` ends."""
_LIKE: Final = "text LIKE {} ESCAPE '\\'"
_PATTERN_CHARACTERS: Final = 10_000
"""SQLite refuses patterns of more than 50,000 bytes."""
_SAMPLES: Final = 50
_SAMPLE: Final = (
    "SELECT substr(text, 1, 350) FROM content WHERE id >= ? AND role IS NOT NULL AND text IS NOT NULL LIMIT 1"
)
_FEW: Final = 20_000
"""Calls whose rows are looked up."""
_CALLS: Final = """
INSERT INTO {found}
WITH RECURSIVE hit (id) AS (
  SELECT x.id FROM ctx x WHERE x.content IN (SELECT id FROM {contents})
  UNION SELECT x.id FROM hit JOIN ctx x ON x.parent = hit.id)
SELECT c.id FROM calls c
 WHERE c.output IN (SELECT id FROM {contents}) OR c.ctx IN (SELECT id FROM hit)
   OR c.system IN (SELECT id FROM {contents})
"""
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
    """Keeps what was found in temporary tables. Contents never change; those added since are scanned next."""

    def __init__(self, connection: sqlite3.Connection, part: str, number: int) -> None:
        """`part` is case-folded, `number` another one for each search. Nothing is scanned yet."""
        self._connection = connection
        self._run = connection.execute
        self._part = part
        self._contents, self._calls = f"found_contents_{number}", f"found_calls_{number}"
        for table in (self._contents, self._calls):
            # What an interrupt has left is there, and empty.
            self._run(f"CREATE TEMP TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY)")
        compare = f"callspan_finds_{number}"
        connection.create_function(compare, 1, self._contains, deterministic=True)
        contains, self._patterns = _condition(part, self._sample() if part.isascii() else "", compare)
        self._scan = _TEXTS.format(found=self._contents, contains=contains)
        self._last = 0
        """Up to which content was scanned."""
        self._last_hash: bytes | None = None
        self._version: object = None
        self._condition = ""

    def condition(self) -> str:
        """Return the condition that a call `c` contains the part just now. Raises sqlite3.Error."""
        version = self._run("PRAGMA data_version").fetchone()[0]
        # Other writers change the one, this connection the other.
        if self._version != (version, self._connection.total_changes):
            self._update()
            self._run(f"DELETE FROM {self._calls}")
            number = self._run(_CALLS.format(found=self._calls, contents=self._contents)).rowcount
            # With few of them their rows are looked up, else all calls are read in the order that is wanted.
            self._condition = f"{'' if number <= _FEW else '+'}c.id IN (SELECT id FROM {self._calls})"
            self._version = version, self._connection.total_changes
        return self._condition

    def _update(self) -> None:
        """Scan what was added since the last time."""
        if self._last_hash != self._hash_of(self._last):
            # The newest contents were deleted, so their ids are given again.
            self._run(f"DELETE FROM {self._contents}")
            self._last = 0
        highest = self._highest()
        (mapped,) = self._run("PRAGMA mmap_size").fetchone() or (0,)
        try:
            for number, start in enumerate(range(self._last + 1, highest + 1, _STEP)):
                if number % _MAPPED_STEPS == 0:
                    self._map(_MOST_MAPPED)
                self._run(self._scan, {"first": start, "last": min(highest, start + _STEP - 1), **self._patterns})
        finally:
            self._map(mapped)
        self._last, self._last_hash = highest, self._hash_of(highest)

    def _sample(self) -> str:
        highest = self._highest()
        places = range(1, highest + 1, highest // _SAMPLES + 1)
        return "".join(str(row[0]) for place in places for row in self._run(_SAMPLE, (place,))).casefold()

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

    def _map(self, size: int) -> None:
        for mapped in (0, size):
            self._run(f"PRAGMA mmap_size={mapped}").fetchall()

    def _hash_of(self, content: int) -> bytes | None:
        row = self._run("SELECT hash FROM content WHERE id = ?", (content,)).fetchone()
        return None if row is None else bytes(row[0])

    def _highest(self) -> int:
        return int(self._run("SELECT coalesce(max(id), 0) FROM content").fetchone()[0])


def _condition(part: str, sample: str, compare: str) -> tuple[str, dict[str, str]]:
    """Return the condition that a text contains a case-folded part, and its patterns.

    `sample` is a sample of the texts, `compare` the function that compares one.
    """
    compared = f"{_NOT_ASCII} AND {compare}(text)"
    if not part.isascii() or "\0" in part:
        # No text of ASCII contains it, and LIKE ends at a NUL.
        return compared, {}
    if len(part) > _PATTERN_CHARACTERS:
        return f"text IS NOT NULL AND {compare}(text)", {}
    # LIKE looks for the first character of its pattern: the rarer, the faster.
    rarest = min(range(len(part)), key=lambda at: sample.count(part[at]), default=0)
    whole, end = _LIKE.format(":whole"), _LIKE.format(":end")
    found = f"{end} AND {whole}" if rarest else whole
    return f"{found} OR {compared}", {"whole": _pattern(part), "end": _pattern(part[rarest:])}


def _pattern(text: str) -> str:
    return "%" + re.sub(r"([%_\\])", r"\\\1", text) + "%"
