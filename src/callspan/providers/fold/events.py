"""Events: folds streams of typed events.

A table maps each event type to the place of its data in the body; one interpreter applies it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeAlias

from callspan.providers.error_kinds import error_in
from callspan.providers.fold.accounts import TEXTS, bare, begins_another, joined, says_the_same
from callspan.providers.fold.entries import Entries, Entry
from callspan.providers.fold.merge import LISTED, GrowingText, carries, extend, finished_copy, merge
from callspan.providers.fold.usage_merge import UsageRule, merge_usage
from callspan.providers.wire_json import Json, detached, integer, word

Verb: TypeAlias = Literal["begin", "grow", "last", "whole", "done", "stop"]
"""`begin`: the first account of a body or entry. `grow`: a piece. `last`: replaces what was known. `whole`: all of an
entry's text. `done`: all of a body or entry. `stop`: an entry is complete.
"""
BLOCK: Final = (("content", "index"),)
_NESTED: Final = "content_block_delta"
"""The event that has the type in its delta. A delta of unknown type is kept on its block."""
_ABOUT_EVENT: Final = frozenset(
    {
        "content_index", "delta", "error", "event_id", "index", "item_id", "logprobs", "obfuscation",
        "partial_image_index", "segment_id", "sequence_number", "type",
    }
)  # fmt: skip
_USAGE: Final = "usage"
_LOGPROBS: Final = "logprobs"
_RENAMED: Final = {"created_at": "created"}
_CALLS: Final = ("_call", "tool_use")
"""Suffixes of the types of entries that are incomplete if the stream stops within them."""


class EventTarget(NamedTuple):
    """Where the data of an event belongs in the body."""

    lists: tuple[tuple[str, str], ...]
    """From the body inwards: the name of a list, and the event field with the index of the entry."""
    field: str
    """The event field with the data; empty: the event itself."""
    name: str
    """The field of the entry to set; empty: the data has fields of the entry."""
    verb: Verb
    kinds: tuple[str, ...] = ()
    """The types of entries that are not announced by an event."""
    has_body_fields: bool = False
    """Whether other fields of the event are fields of the body."""


class EventFold:
    """Joins events by a table. Which entry an event is about, `Entries` decides."""

    targets: ClassVar[Mapping[str | None, EventTarget]]
    """Targets by event type; None for events without a type."""
    usage_rule: ClassVar[UsageRule]
    starts: ClassVar[frozenset[str]] = frozenset()
    """Event types that begin a body; one with another id discards what came before."""
    ends: ClassVar[frozenset[str]] = frozenset()
    """Event types that end the stream."""
    has_one_end: ClassVar[bool] = True
    """Whether nothing follows such an event."""
    entries: ClassVar[str] = ""
    """The list of the body that is built entry by entry."""
    carrying: ClassVar[frozenset[Verb]] = frozenset({"begin", "grow", "last", "whole", "done"})
    """The verbs of events with content."""
    defaults: ClassVar[Json] = {}

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Begin with an empty body, also after an attempt that the server gave up."""
        self.ended = False
        """True once the event was received after which nothing follows."""
        self.terminated = False
        """True once the terminal event was received, which some APIs send after `complete`."""
        self._has_started = False
        self._body: Json = {}
        self._body_entry = Entry(self._body)
        """The body, for events about no entry of it."""
        self._final: Json = {}
        self._error: Json = {}
        self._growing_texts: dict[object, tuple[EventTarget, str, object, str, object, GrowingText]] = {}
        """The texts that grow, by type of event: its target, and the fields that name the entry, and their values."""

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
        update, kind = event, event.get("type")
        if kind == _NESTED and isinstance(event.get("delta"), dict):
            update = event["delta"]
            kind = update.get("type")
        # Most events continue the text of the one before.
        if type(kind) is str and kind in self._growing_texts:
            target, outer, number, inner, part, growing = self._growing_texts[kind]
            piece = update.get(target.field)
            is_next = type(piece) is str and event.get(outer) == number and event.get(inner) == part
            if is_next and piece and "error" not in event and not event.get(_LOGPROBS):
                if target.has_body_fields:
                    self._take_rest(event, target)
                growing.add(piece)
                return True
        return self._take(event, update, kind)

    def _take(self, event: Json, update: Json, kind: object) -> bool:
        if not self._error and not _is_of_part(kind) and (error := error_in(event)) is not None:
            request_id = word(event, "request_id")
            self._error = {**({} if request_id is None else {"request_id": request_id}), "error": detached(error)}
        target = self.targets.get(kind) if kind is None or isinstance(kind, str) else None
        if target is None and isinstance(kind, str) and update is not event:
            target = EventTarget(BLOCK, "", "delta", "grow", (kind.removesuffix("_delta"),))
        if target is None:
            return isinstance(kind, str) and kind.endswith(".delta") and bool(event.get("delta"))
        if kind in self.ends:
            self.terminated, self.ended = True, self.has_one_end
        value: Any = update.get(target.field) if target.field else update
        fits = isinstance(value, str if target.name and target.name not in LISTED else dict)
        if target.has_body_fields and (fits or kind is not None):
            self._take_rest(event, target)
        if not fits or (value == "" and target.verb == "grow"):
            return False
        is_body = not target.lists and not target.name and target.verb in ("begin", "done")
        has_content = self._take_body(value, target, kind) if is_body else self._take_entry(event, value, target, kind)
        return has_content and target.verb in self.carrying

    def _is_of_another(self, body: Json) -> bool:
        """Return whether the start of a body states another id than the one before."""
        current_id, new_id = word(self._body, "id"), word(body, "id")
        return self._has_started and None not in (current_id, new_id) and current_id != new_id

    def _take_rest(self, event: Json, target: EventTarget) -> None:
        """Take the fields of an event that belong to the body."""
        skipped = _ABOUT_EVENT | {target.field, target.name}
        update = {_RENAMED.get(key, key): event[key] for key in event.keys() - skipped}
        if isinstance(usage := update.get(_USAGE), dict):
            update[_USAGE] = None
            usage_so_far = self._body.get(_USAGE)
            self._body[_USAGE] = merge_usage(
                usage_so_far if isinstance(usage_so_far, dict) else {}, usage, self.usage_rule
            )
        merge(self._body, update, last=True)

    def _take_body(self, body: Json, target: EventTarget, kind: object) -> bool:
        if kind in self.starts and self._is_of_another(body):
            self._forget()
        if target.verb == "done":
            is_body = isinstance(body.get(self.entries), list) or body.get("object", "") == self.defaults.get("object")
            if not target.field and not is_body:
                return False
            self.ended = self.terminated = True
            self._final = detached(body)
        elif self._has_started:
            # Each of these events repeats instructions and tools; only the status is new.
            merge(self._body, {"status": body.get("status")}, last=True)
        else:
            self._has_started, self.terminated = True, self.terminated or bool(word(body, "stop_reason"))
            fields = detached(body)
            for entry in _entries(fields, self.entries).in_order():
                entry.settled = True
            self._body = self._body_entry.fields = {**fields, **self._body}
        return carries(self.entries, body.get(self.entries))

    def _take_entry(self, event: Json, value: Any, target: EventTarget, kind: object) -> bool:
        path = list(self._path(event, value, target, kind))
        entry = path[-1]
        if entry is None or any(ancestor is None or ancestor.is_done for ancestor in path):
            return False
        if target.verb == "grow":
            return self._grow(event, value, target, entry, kind)
        self._growing_texts.clear()
        if target.verb == "stop":
            return False
        update = {target.name: value, **_logprobs(event)} if target.name else value
        if target.verb == "last":
            update = {key: content for key, content in update.items() if key != "type"}
            merge(entry.fields, update, last=True)
            return carries("", update)
        self._state(entry, update, target, kind)
        return carries("", update)

    def _state(self, entry: Entry, update: Json, target: EventTarget, kind: object) -> None:
        """Take an account of an entry: its first, all of its text, or all of it."""
        is_added = isinstance(kind, str) and kind.endswith(".added") and _is_start(kind, target)
        if entry.is_draft and not is_added and target.name:
            entry.fields.pop(target.name, None)
        entry.is_draft = is_added and (entry.is_draft or entry.fields.keys() <= {"type"})
        account = joined(finished_copy(entry.fields), update)
        entry.fields.clear()
        entry.fields.update(account)
        if _is_start(kind, target):
            return
        entry.is_open, entry.settled = False, True
        entry.is_done = target.verb == "done" or not target.name
        self.terminated = self.terminated or (target.verb == "done" and not target.lists)

    def _path(self, event: Json, value: Any, target: EventTarget, kind: object) -> Iterator[Entry | None]:
        """Yield the entries that lead to what an event is about, from the body inwards; None for a missing one."""
        entry, last = self._body_entry, len(target.lists) - 1
        if not target.lists:
            yield entry
        for depth, (name, field) in enumerate(target.lists):
            if entry.is_done or not isinstance(entry.fields, dict):
                return
            entries, index = _entries(entry.fields, name, is_draft=entry.is_draft), integer(event, field)
            identity = None if depth else word(event, "item_id") or word(event.get("item"), "id")
            about = _About(entries, index, identity, target.kinds[depth] if target.kinds else None)
            child = about.outer(target) if depth < last else about.inner(target, value, kind)
            if child is None or not isinstance(child.fields, dict):
                yield None
                return
            if child.is_new:
                child.is_new = False
                self._growing_texts.clear()
            entry = child
            yield entry

    def _grow(self, event: Json, value: Any, target: EventTarget, entry: Entry, kind: object) -> bool:
        fields = entry.fields
        if entry.is_draft:
            _drop_repeated(entry, target.name, value)
        has_content = merge(fields, {target.name: value} if target.name else value)
        extend(fields, _logprobs(event))
        growing = fields.get(target.name)
        outer, inner = (target.lists[0][1], target.lists[-1][1]) if target.lists else ("", "")
        if outer and event.get("item_id"):
            outer = "item_id"
        if type(growing) is GrowingText and (not target.lists or type(event.get(outer)) in (int, str)):
            self._growing_texts[kind] = (target, outer, event.get(outer), inner, event.get(inner), growing)
        return has_content

    def body(self) -> Json | None:
        """Return the body so far, valid after any prefix of the stream; None if nothing was received.

        It is a new object. Incomplete entries are marked by `"incomplete": true`.
        """
        if not self._body and not self._final:
            return detached(self._error) or None
        entries = self._body.get(self.entries)
        body: Json = finished_copy({key: value for key, value in self._body.items() if key != self.entries})
        if isinstance(entries, Entries):
            body[self.entries] = [self._finished(entry, finished_copy(entry.fields)) for entry in entries.in_order()]
        body = {**self.defaults, **joined(body, self._final)}
        if self._error:
            body = {**detached(self._error), **body, "error": body.get("error") or detached(self._error["error"])}
        return body

    def _finished(self, entry: Entry, fields: Any) -> Any:
        """Return an entry as in a body, marked if incomplete."""
        if isinstance(fields, dict) and self._is_cut(entry, fields):
            fields["incomplete"] = True
        return fields

    def _is_cut(self, entry: Entry, fields: Json) -> bool:
        is_open = not entry.settled and not self.complete
        return is_open and str(fields.get("type", "")).endswith(_CALLS)


class _About(NamedTuple):
    """What an event says of the entry that it is about, in one list."""

    entries: Entries
    number: int | None
    """Its index; None if the event has none."""
    identity: str | None
    kind: str | None
    """The type of an entry that no event announced."""

    def outer(self, target: EventTarget) -> Entry:
        """Return the entry that contains what the event is about."""
        entry = self._continued(is_text=target.verb == "grow" and target.name in TEXTS)
        if entry is None and target.verb != "grow" and self.identity is None:
            entry = self.entries.closed(self.number)  # what comes late
        return entry or self._new()

    def inner(self, target: EventTarget, value: Any, kind: object) -> Entry | None:
        """Return the entry that the event is about; None if it stops none."""
        if target.verb == "stop":
            return self.entries.stop(self.number)
        if _is_start(kind, target):
            return self._started(value)
        if target.verb in ("whole", "done") and isinstance(value, dict):
            return self._ended(value)
        entry = self._continued(is_text=target.verb == "grow" and target.name in TEXTS)
        if entry is None and target.verb == "whole":
            entry = self._repeated({**({"type": self.kind} if self.kind else {}), target.name: value})
        return entry or self._new()

    def _started(self, value: Json) -> Entry:
        kind = word(value, "type")
        entry = self.entries.started(self.number, self.identity, kind)
        if entry is None:
            entry = self._started_twice(value)
        elif entry.is_started and begins_another(finished_copy(entry.fields), value):
            entry = None
        entry = entry or self.entries.new(self.number, self.identity, kind)
        entry.is_started = True
        return entry

    def _started_twice(self, value: Json) -> Entry | None:
        """Return the entry with this id, if all that it states is this start."""
        return self.entries.reopened(self.number, value) if word(value, "id") else None

    def _continued(self, *, is_text: bool) -> Entry | None:
        return self.entries.continued(self.number, self.identity, self.kind, is_text=is_text)

    def _ended(self, value: Json) -> Entry:
        kind = word(value, "type")
        entry = self.entries.ended(self.number, self.identity, kind)
        if entry is not None and entry.is_done and not says_the_same(finished_copy(entry.fields), value):
            entry = None
        return entry or self._repeated(value) or self.entries.new(self.number, self.identity, kind)

    def _repeated(self, value: Json) -> Entry | None:
        """Return the newest entry with this index, if it has said this already."""
        entry = self.entries.closed(self.number)
        return (
            entry
            if entry is not None and not entry.is_open and says_the_same(finished_copy(entry.fields), value)
            else None
        )

    def _new(self) -> Entry:
        entry = self.entries.new(self.number, self.identity, self.kind)
        entry.repeats_name = self.identity is not None
        return entry


def _is_start(kind: object, target: EventTarget) -> bool:
    """Return whether an event announces an entry."""
    is_added = target.verb == "whole" and isinstance(kind, str) and kind.endswith(".added")
    return target.verb == "begin" or is_added


def _drop_repeated(entry: Entry, name: str, piece: object) -> None:
    """Drop the text of a start that the first delta repeats, all of it or its beginning."""
    entry.is_draft = False
    draft = entry.fields.get(name)
    if isinstance(draft, str) and isinstance(piece, str):
        drafted, first = bare(draft), bare(piece)
        if drafted.startswith(first) or first.startswith(drafted):
            del entry.fields[name]


def _entries(fields: Json, name: str, *, is_draft: bool = False) -> Entries:
    """Return the list of that name as entries under construction; `is_draft`: only a start stated it."""
    entries = fields.get(name)
    if type(entries) is not Entries:
        entries = fields[name] = Entries(entries if isinstance(entries, list) else ())
        for entry in entries.in_order() if is_draft else ():
            entry.is_draft = True
    return entries


def _is_of_part(kind: object) -> bool:
    """Return whether an event reports a failed part, such as `response.mcp_call.failed`: the response continues."""
    return isinstance(kind, str) and kind.endswith(".failed") and kind.count(".") > 1


def _logprobs(event: Json) -> Json:
    logprobs = event.get(_LOGPROBS)
    return {_LOGPROBS: logprobs} if isinstance(logprobs, list) and logprobs else {}
