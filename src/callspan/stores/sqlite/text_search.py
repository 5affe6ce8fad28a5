"""Text search: which calls of a SQLite file have a message that contains a text, by one scan of all texts."""

from __future__ import annotations

import sqlite3
from typing import Final

from callspan.stores import bodies

_STEP: Final = 20_000
"""Contents per query."""
_MAPPED_STEPS: Final = 4
"""The mapping of the file is renewed after so many queries: what was read through it counts as memory."""
_MOST_MAPPED: Final = 0x7FFF0000
_TEXTS: Final = """
SELECT id, text, rest, text_of FROM content
 WHERE role IS NOT NULL AND id BETWEEN ? AND ? AND (text IS NOT NULL OR text_of IS NOT NULL)
"""
_HIGHEST: Final = {
    table: f"SELECT coalesce(max(id), 0) FROM {table}"  # noqa: S608 - our own names
    for table in ("content", "ctx")
}
_FOUND: Final = 1


class TextSearch:
    """What was found in the texts scanned so far. Contents never change; those added since are scanned next."""

    def __init__(self, connection: sqlite3.Connection, part: str) -> None:
        """`part` is case-folded. Nothing is scanned yet."""
        self._connection = connection
        self._cursor = connection.cursor()
        self._cursor.row_factory = None
        self._part = part
        self._contents = bytearray(1)
        """By id: whether the text of the content contains the part."""
        self._nodes = bytearray(1)
        """By id: whether a content of the chain that ends in the node does."""
        self._last_hash: bytes | None = None

    def update(self) -> None:
        """Scan what was added since the last time. Raises sqlite3.Error."""
        if self._last_hash != self._hash_of(len(self._contents) - 1):
            self._forget()  # The newest contents were deleted, so their ids are given again.
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
        self._follow_chains()

    @property
    def has_found(self) -> bool:
        """Whether any content contains the part."""
        return _FOUND in self._contents

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

    def _scan(self, first: int, last: int) -> None:
        found, part = self._contents, self._part
        found.extend(bytes(last + 1 - len(found)))
        borrowed = []
        for place, text, rest, lender in self._cursor.execute(_TEXTS, (first, last)):
            if text is None:
                borrowed.append((place, lender))
            elif part in (text if rest is None else bodies.whole_text(text, rest) or "").casefold():
                found[place] = _FOUND
        for place, lender in borrowed:
            # An answer is stored before the request that sends it again.
            found[place] = found[lender] if lender < len(found) else 0

    def _follow_chains(self) -> None:
        contents, nodes = self._contents, self._nodes
        start = len(nodes)
        nodes.extend(bytes(self._highest("ctx") + 1 - start))
        if not self.has_found:
            return
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
