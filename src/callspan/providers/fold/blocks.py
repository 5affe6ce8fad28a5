"""Blocks: an answer's list with entries that events begin, continue and stop, for wires that need no table.

Which entry an event is about, `entries` decides: its id, else its start. What the entry then takes, the fold knows.
"""

from __future__ import annotations

from callspan.providers.fold.entries import Entries, Entry


class Blocks(Entries):
    """The blocks of one answer. Each piece of one states what kind it is, so that it belongs to no other kind."""

    __slots__ = ("_newest",)

    def __init__(self) -> None:
        super().__init__()
        self._newest: tuple[int | None, str | None, str | None, Entry] | None = None
        """Index, id and kind of the last piece, and its block, which most pieces continue."""

    def begin(self, index: int | None, name: str | None, kind: str | None) -> Entry:
        """Return the block that a start announces: a new one, unless its pieces or its id announced it already."""
        entry = self.started(index, name, kind) or self.new(index, name, kind)
        entry.is_started = True
        self._newest = (index, None, kind, entry)
        return entry

    def grow(self, index: int | None, name: str | None, kind: str | None) -> Entry:
        """Return the block that a piece continues, or begins."""
        newest = self._newest
        if newest is not None and newest[0] == index and newest[1] == name and newest[2] == kind:
            return newest[3]
        entry = self.continued(index, name, kind, is_text=kind is not None) or self.new(index, name, kind)
        if kind is not None and entry.kind is None:
            entry.fields["type"] = kind
        self._newest = (index, name, kind, entry)
        return entry

    def stop(self, index: int | None) -> Entry | None:
        """Close the newest open block with this index, or the newest."""
        self._newest = None
        return super().stop(index)
