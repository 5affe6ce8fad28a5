"""Entries: a list that the events of a stream build, and which entry an event is about.

An entry is what its id says, else what its start says; an index is a hint. Servers repeat an index for several entries,
count it up with each delta, or leave it out; some invent an id for each event. So a start begins an entry of its own,
unless only deltas or the same id announced it; a delta goes to the entry with its id, else to the newest open one with
its index, else to the newest open one of its kind. A delta of text that would fall on an entry of another kind begins
its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

MAX_SEARCHED: Final = 128
"""Limit on the entries that are looked through, so that an event takes constant time."""
TEXTUAL: Final = frozenset(
    {
        "audio", "message", "model_output", "output_audio", "output_text", "reasoning", "reasoning_text",
        "redacted_thinking", "refusal", "summary_text", "text", "thinking", "thought",
    }
)  # fmt: skip
"""Types of entries with text. A delta of one of these types belongs to no other type."""


class Entry:
    """One entry under construction."""

    __slots__ = (
        "fields", "index", "is_done", "is_draft", "is_new", "is_open", "is_started", "name", "repeats_name", "settled",
    )  # fmt: skip

    def __init__(self, fields: Any, index: int | None = None) -> None:
        self.fields = fields
        self.index = index
        """The first index that an event gave it; None if none did."""
        self.name: str | None = None
        """The id that its start or first event states."""
        self.repeats_name = False
        """Whether a second event states this id, which servers that invent ids never do."""
        self.is_new = True
        """Whether the event that began it is being read."""
        self.is_started = False
        self.is_open = True
        """Whether more deltas may come."""
        self.settled = False
        """Whether it is complete, even if the stream stops."""
        self.is_done = False
        """Whether an event stated all of it; later ones about it are ignored."""
        self.is_draft = False
        """Whether only its start stated its text, which the deltas may repeat."""

    def is_a(self, kind: str | None) -> bool:
        """Return whether a delta of this kind can belong to it."""
        own_kind = self.kind
        if kind is None or own_kind is None or own_kind == kind:
            return True
        return kind not in TEXTUAL and own_kind not in TEXTUAL

    def is_exactly(self, kind: str | None) -> bool:
        """Return whether an account of the whole entry with this type can be of it."""
        return self.kind == kind or (not self.is_started and self.is_a(kind))

    def is_elsewhere(self, index: int | None) -> bool:
        """Return whether it has another index than this."""
        return None not in (index, self.index) and index != self.index

    def is_other(self, name: str | None) -> bool:
        """Return whether an id that is not its own shows that an event is about another entry."""
        return name is not None and self.repeats_name

    @property
    def kind(self) -> str | None:
        """Its type; None if unknown."""
        kind = self.fields.get("type") if isinstance(self.fields, dict) else None
        return kind if isinstance(kind, str) else None


class Entries:
    """The entries of a list, in the order of their starts."""

    __slots__ = ("_by_id", "_by_index", "_entries")

    def __init__(self, fields: Iterable[Any] = ()) -> None:
        self._entries = [Entry(item, index) for index, item in enumerate(fields)]
        self._by_index = dict(enumerate(self._entries))
        """The newest entry of each index."""
        self._by_id: dict[str, Entry] = {}
        """The newest entry of each id."""

    def __bool__(self) -> bool:
        return bool(self._entries)

    def in_order(self) -> list[Entry]:
        """Return the entries in the order of their indexes if each has its own, else as they began."""
        indexes = [entry.index for entry in self._entries if entry.index is not None]
        if len(set(indexes)) < len(self._entries):
            return list(self._entries)
        return sorted(self._entries, key=lambda entry: entry.index or 0)

    def new(self, index: int | None, name: str | None, kind: str | None) -> Entry:
        """Begin an entry."""
        entry = Entry({} if kind is None else {"type": kind}, index)
        self._entries.append(entry)
        self._register(entry, index, name)
        return entry

    def started(self, index: int | None, name: str | None, kind: str | None) -> Entry | None:
        """Return the entry that a start announces, if it is known: by its id, or by deltas that came before."""
        entry = self._by_id.get(name) if name else None
        is_over = entry is not None and entry.is_started and (not entry.is_open or entry.is_elsewhere(index))
        if entry is None or is_over or not entry.is_exactly(kind):
            entry = self._newest_open(index)
            is_announced = entry is not None and not entry.is_started and entry.is_a(kind)
            if entry is None or not is_announced or (name and entry.name not in (None, name)):
                return None
        self._register(entry, index, name)
        return entry

    def reopened(self, index: int | None, start: Any) -> Entry | None:
        """Return the newest entry that has nothing but this start and is open for deltas, or None."""
        for entry in self._searched():
            if entry.is_started and not entry.is_done and entry.fields == start:
                entry.is_open, entry.settled = True, False
                self._register(entry, index, None)
                return entry
        return None

    def continued(self, index: int | None, name: str | None, kind: str | None, *, is_text: bool) -> Entry | None:
        """Return the entry that a delta continues; None if it begins its own.

        `is_text`: whether the delta is text, which belongs only to an entry of its own kind.
        """
        if (entry := self._by_name(index, name)) is not None:
            entry.repeats_name = True
            return entry
        newest = self._newest_open(index)
        if newest is not None and not newest.is_other(name):
            if newest.is_a(kind):
                return newest
            if not is_text:
                return next(
                    (entry_at_index for entry_at_index in self._open_at(index) if entry_at_index.is_a(kind)), newest
                )
        if newest is None or kind not in TEXTUAL:
            return self._nearest(index, name, kind, is_text=is_text)
        return None

    def ended(self, index: int | None, name: str | None, kind: str | None) -> Entry | None:
        """Return the entry that an event states as a whole; None if it was unknown."""
        entry = self._by_name(index, name)
        if entry is not None and entry.is_exactly(kind):
            return entry
        at = None if index is None else self._by_index.get(index)
        at_index = [
            candidate
            for candidate in self._searched()
            if at is not None and (candidate is at or candidate.index == index)
        ]
        for candidate in at_index or self._searched():
            is_near = bool(at_index) or (candidate.is_started if name or kind not in TEXTUAL else True)
            if is_near and not candidate.is_done and candidate.is_exactly(kind) and not candidate.is_other(name):
                self._register(candidate, index, name)
                return candidate
        return None

    def stop(self, index: int | None) -> Entry | None:
        """Close the newest open entry with this index, or the newest, and those that deltas began on it; return it."""
        entries = list(self._open_at(index)) or list(islice((entry for entry in self._searched() if entry.is_open), 1))
        for entry in entries:
            entry.is_open, entry.settled = False, True
            if entry.is_started:
                return entry
        return None

    def closed(self, index: int | None) -> Entry | None:
        """Return the newest entry with this index, or the newest, whether or not it is open."""
        return self._by_index.get(index) if index is not None else next(self._searched(), None)

    def _by_name(self, index: int | None, name: str | None) -> Entry | None:
        """Return the entry with this id, but not a closed one that has another index."""
        entry = self._by_id.get(name) if name else None
        if entry is None or entry.is_open or index is None:
            return entry
        return entry if index == entry.index or self._by_index.get(index) is entry else None

    def _nearest(self, index: int | None, name: str | None, kind: str | None, *, is_text: bool) -> Entry | None:
        """Return the newest open entry of this kind, for a delta with an index and id that say nothing.

        With an id it must have been announced and wait for its deltas, because they may have another id than it.
        """
        for entry in self._searched():
            is_waiting = entry.is_started or (name is None and index is not None and kind in TEXTUAL)
            if entry.is_open and is_waiting and entry.is_a(kind) and not entry.is_other(name):
                if name is not None:
                    self._register(entry, index, name)
                return entry
        closed_entry = self.closed(index)
        can_continue = closed_entry is not None and closed_entry.is_a(kind) and (not is_text or kind not in TEXTUAL)
        return closed_entry if can_continue and not name else None

    def _newest_open(self, index: int | None) -> Entry | None:
        entry = self._by_index.get(index) if index is not None else next(self._searched(), None)
        return entry if entry is None or entry.is_open else next(self._open_at(index), None)

    def _open_at(self, index: int | None) -> Iterator[Entry]:
        at = self._by_index.get(index) if index is not None else None
        for entry in self._searched():
            if entry.is_open and (index is None or entry.index == index or entry is at):
                yield entry

    def _searched(self) -> Iterator[Entry]:
        return islice(reversed(self._entries), MAX_SEARCHED)

    def _register(self, entry: Entry, index: int | None, name: str | None) -> None:
        if index is not None:
            self._by_index[index] = entry
            entry.index = index if entry.index is None else entry.index
        if name:
            self._by_id[name] = entry
            entry.name = entry.name or name
