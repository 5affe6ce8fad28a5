"""Events: folds streams of typed events.

A table maps each event type to the place of its data in the body; one interpreter applies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeAlias

from callspan.providers.error_kinds import error_in
from callspan.providers.fold.merge import (
    LISTED,
    Entries,
    GrowingText,
    Json,
    carries,
    extend,
    fuller,
    merge,
    whole,
)
from callspan.providers.wire_json import detached, integer, word

Verb: TypeAlias = Literal["begin", "grow", "last", "whole", "done", "stop"]
"""`begin`: the first account of a body or entry. `grow`: a piece. `last`: replaces what was known. `whole`: all of an
entry's text. `done`: all of a body or entry. `stop`: an entry is complete.
"""
BLOCK: Final = (("content", "index"),)
_NESTED: Final = "content_block_delta"
"""The event whose delta has the type. A delta of unknown type is kept on its block."""
_ABOUT_EVENT: Final = frozenset(
    {
        "content_index", "delta", "error", "event_id", "index", "item_id", "logprobs", "obfuscation",
        "partial_image_index", "segment_id", "sequence_number", "type",
    }
)  # fmt: skip
_LOGPROBS: Final = "logprobs"
_RENAMED: Final = {"created_at": "created"}
_BODY: Final = -1
_CALLS: Final = ("_call", "tool_use")
"""Suffixes of the types of entries that are incomplete if the stream stops within them."""


class Place(NamedTuple):
    """The place of an event's data in the body."""

    lists: tuple[tuple[str, str], ...]
    """From the body inwards: the name of a list, and the event field with the index of the entry."""
    field: str
    """The event field with the data; empty: the event itself."""
    name: str
    """The field of the entry to set; empty: the data has fields of the entry."""
    verb: Verb
    kinds: tuple[str, ...] = ()
    """The types of entries that are not announced by an event."""
    rest: bool = False
    """Whether other fields of the event are fields of the body."""


class EventFold:
    """Joins events by a table. An entry is identified by its index, else by its id, else it is the newest."""

    places: ClassVar[Mapping[str | None, Place]]
    """Places by event type; None for events without a type."""
    ends: ClassVar[frozenset[str]] = frozenset()
    """Event types that end the stream."""
    entries: ClassVar[str] = ""
    """The list of the body that is built entry by entry."""
    carrying: ClassVar[frozenset[Verb]] = frozenset({"begin", "grow", "last", "whole", "done"})
    """The verbs whose data counts as content."""
    defaults: ClassVar[Json] = {}

    def __init__(self) -> None:
        self.terminated = False
        """True once the terminal event was received, which some APIs send after `complete`."""
        self._begun = False
        self._body: Json = {}
        self._final: Json = {}
        self._error: Json = {}
        self._numbers: dict[str, int] = {}
        self._settled: set[int] = set()
        """Indexes of entries that are complete."""
        self._done: set[int] = set()
        self._open: dict[object, tuple[Place, str, object, str, object, GrowingText]] = {}
        """The texts that grow, by type of event: its place, and the fields with the numbers of the entry, and these."""

    @property
    def complete(self) -> bool:
        """True once the stream has signalled its end."""
        return self.terminated or bool(self._body.get("stop_reason"))

    def add(self, event: object) -> bool:
        """Fold in one parsed event; return True if it carried content (text, reasoning, refusal, tool call).

        Called in the caller's loop: takes constant time and keeps only strings of the event.
        """
        if not isinstance(event, dict):
            return False
        news, kind = event, event.get("type")
        if kind == _NESTED and isinstance(event.get("delta"), dict):
            news = event["delta"]
            kind = news.get("type")
        # Most events continue the text of the one before.
        if type(kind) is str and kind in self._open:
            place, outer, number, inner, part, growing = self._open[kind]
            piece = news.get(place.field)
            is_next = type(piece) is str and event.get(outer) == number and event.get(inner) == part
            if is_next and piece and "error" not in event and not event.get(_LOGPROBS):
                if place.rest:
                    self._take_rest(event, place)
                growing.add(piece)
                return True
        return self._take(event, news, kind)

    def _take(self, event: Json, news: Json, kind: object) -> bool:
        if not self._error and not _is_of_part(kind) and (error := error_in(event)) is not None:
            request_id = word(event, "request_id")
            self._error = {**({} if request_id is None else {"request_id": request_id}), "error": detached(error)}
        place = self.places.get(kind) if kind is None or isinstance(kind, str) else None
        if place is None and isinstance(kind, str) and news is not event:
            place = Place(BLOCK, "", "delta", "grow", (kind.removesuffix("_delta"),))
        if place is None:
            return isinstance(kind, str) and kind.endswith(".delta") and bool(event.get("delta"))
        self.terminated = self.terminated or kind in self.ends
        value: Any = news.get(place.field) if place.field else news
        fits = isinstance(value, str if place.name and place.name not in LISTED else dict)
        if place.rest and (fits or kind is not None):
            self._take_rest(event, place)
        if not fits or (value == "" and place.verb == "grow"):
            return False
        is_body = not place.lists and not place.name and place.verb in ("begin", "done")
        carried = self._take_body(value, place) if is_body else self._take_entry(event, value, place, kind)
        return carried and place.verb in self.carrying

    def _take_rest(self, event: Json, place: Place) -> None:
        """Take the fields of an event that belong to the body."""
        skipped = _ABOUT_EVENT | {place.field, place.name}
        merge(self._body, {_RENAMED.get(key, key): event[key] for key in event.keys() - skipped}, last=True)

    def _take_body(self, body: Json, place: Place) -> bool:
        if place.verb == "done":
            is_body = isinstance(body.get(self.entries), list) or body.get("object", "") == self.defaults.get("object")
            if not place.field and not is_body:
                return False
            self.terminated, self._final = True, detached(body)
        elif self._begun:
            # Each of these events repeats instructions and tools; only the status is new.
            merge(self._body, {"status": body.get("status")}, last=True)
        else:
            self._begun, self.terminated = True, self.terminated or bool(word(body, "stop_reason"))
            begun = detached(body)
            self._settled.update(_numbered(begun, self.entries))
            self._body = {**begun, **self._body}
        return carries(self.entries, body.get(self.entries))

    def _take_entry(self, event: Json, value: Any, place: Place, kind: object) -> bool:
        number, entry = self._entry(event, place)
        if entry is None or number in self._done:
            return False
        if place.verb == "grow":
            return self._grow(event, value, place, entry, kind)
        self._open.clear()
        if place.verb == "stop":
            self._settled.add(number)
            return False
        news = {place.name: value, **_logprobs(event)} if place.name else value
        if place.verb == "last":
            news = {key: one for key, one in news.items() if key != "type"}
            merge(entry, news, last=True)
            return carries("", news)
        if place.verb == "begin" and entry.get("id") not in (None, news.get("id")):
            entry.clear()  # a block of the same number
        joined = fuller(whole(entry), news)
        entry.clear()
        entry.update(joined)
        if place.verb == "done":
            self._done.add(number)
            self.terminated = self.terminated or not place.lists
        if place.verb != "begin" and len(place.lists) == 1:
            self._settled.add(number)
        return carries("", news)

    def _entry(self, event: Json, place: Place) -> tuple[int, Json | None]:
        """Return the index of an entry of the body and the object that the event describes, or None."""
        number, found = _BODY, self._body
        for depth, (name, field) in enumerate(place.lists):
            entries = _numbered(found, name)
            at = integer(event, field) or 0
            if not depth:
                at = number = self._number(event, field, entries, place)
            entry = entries.get(at)
            if not isinstance(entry, dict):
                if place.verb == "stop":
                    return number, None
                entry = entries[at] = {"type": place.kinds[depth]} if place.kinds else {}
            found = entry
        return number, found

    def _number(self, event: Json, field: str, entries: Entries, place: Place) -> int:
        number, name = integer(event, field), word(event, "item_id") or word(event.get("item"), "id")
        if number is None:
            newest = max(entries, default=None)
            is_over = place.verb == "begin" or (place.verb != "stop" and newest in self._settled)
            following = 0 if newest is None else newest + 1
            number = self._numbers.get(name, following) if name else following if newest is None or is_over else newest
        if name is not None:
            self._numbers.setdefault(name, number)
        return number

    def _grow(self, event: Json, value: Any, place: Place, entry: Json, kind: object) -> bool:
        carried = merge(entry, {place.name: value} if place.name else value)
        extend(entry, _logprobs(event))
        growing = entry.get(place.name)
        outer, inner = (place.lists[0][1], place.lists[-1][1]) if place.lists else ("", "")
        if type(growing) is GrowingText and (not place.lists or type(event.get(outer)) is int):
            self._open[kind] = (place, outer, event.get(outer), inner, event.get(inner), growing)
        return carried

    def body(self) -> Json | None:
        """Return the body so far, valid after any prefix of the stream; None if nothing was received.

        It is a new object. Incomplete entries are marked by `"incomplete": true`.
        """
        if not self._body and not self._final:
            return detached(self._error) or None
        entries = self._body.get(self.entries)
        body: Json = whole({key: value for key, value in self._body.items() if key != self.entries})
        if isinstance(entries, Entries):
            body[self.entries] = [self._finished(number, whole(entries[number])) for number in sorted(entries)]
        body = {**self.defaults, **fuller(body, self._final)}
        if self._error:
            body = {**detached(self._error), **body, "error": body.get("error") or detached(self._error["error"])}
        return body

    def _finished(self, number: int, entry: Any) -> Any:
        """Return an entry as in a body, marked if incomplete."""
        if isinstance(entry, dict) and self._is_cut(number, entry):
            entry["incomplete"] = True
        return entry

    def _is_cut(self, number: int, entry: Json) -> bool:
        is_open = number not in self._settled and not self.complete
        return is_open and str(entry.get("type", "")).endswith(_CALLS)


def _numbered(known: Json, name: str) -> Entries:
    """Return the list of that name as a dictionary by index."""
    held = known.get(name)
    if type(held) is not Entries:
        held = known[name] = Entries(enumerate(held) if isinstance(held, list) else ())
    return held


def _is_of_part(kind: object) -> bool:
    """Return whether an event reports a failed part, such as `response.mcp_call.failed`: the response continues."""
    return isinstance(kind, str) and kind.endswith(".failed") and kind.count(".") > 1


def _logprobs(event: Json) -> Json:
    found = event.get(_LOGPROBS)
    return {_LOGPROBS: found} if isinstance(found, list) and found else {}
