"""Merge: adds the data of one event to a body.

Until the body is read, a text under construction is a `GrowingText`, and a list of indexed entries is an `Entries`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

from callspan.providers.wire_json import detached

Json: TypeAlias = dict[str, Any]

TEXTS: Final = frozenset(
    {
        "arguments", "code", "completion", "content", "data", "input", "partial_json", "reasoning", "reasoning_content",
        "reasoning_text", "refusal", "stderr", "stdout", "summary", "text", "thinking", "transcript",
    }
)  # fmt: skip
"""Fields whose text is streamed in pieces."""
_RICH: Final = frozenset({"content", "thinking"})
"""Those that may instead be a list of parts, in Mistral's API."""
_ENTRY_TEXTS: Final = ("text", "summary", "thinking")
"""Text fields by which an entry without an index continues the previous one."""
LISTED: Final = {
    "annotation": "annotations", "citation": "citations", "delta": "deltas", "segment": "segments",
    "token_id": "token_ids",
}  # fmt: skip
"""Fields with one item per event, by their name as a list in a complete body."""
_ALWAYS_CONTENT: Final = frozenset({"annotations", "delta", "executed_tools", "images"})
_NAMED_TEXTS: Final = TEXTS | {"b64_json", "name"}
_JOINED: Final = frozenset({"annotations", "content", "data", "logprobs", "output", "segments", "summary"})
"""Lists that are built by events and repeated as a whole by a later event."""
_MAX_SEARCHED: Final = 128
_MAX_DEPTH: Final = 8


class GrowingText(bytearray):
    """A text under construction, in UTF-8. A list of pieces, as in `io.StringIO`, would take 50 more bytes each."""

    __slots__ = ()

    def add(self, piece: str) -> None:
        """Append a piece."""
        self.extend(piece.encode("utf-8", "surrogatepass"))

    def text(self) -> str:
        """Return the text so far."""
        return self.decode("utf-8", "surrogatepass")


class Entries(dict[int, Any]):
    """A list under construction, as a dictionary by index."""


def merge(known: Json, news: Mapping[str, Any], *, last: bool = False) -> bool:
    """Merge `news` into `known`; return True if they carry content. Null values are ignored.

    Streamed texts grow, objects are merged, lists are merged by entry. Of other values the first is kept. With `last`
    the last is kept, even of texts and lists.
    """
    carried = False
    for key, value in news.items():
        if value is None:
            if last:
                known.setdefault(key, None)
            continue
        held = known.get(key)
        if type(held) is GrowingText and type(value) is str:
            if value:
                held.add(value)
                carried = True
        elif isinstance(held, dict) and isinstance(value, dict):
            carried = merge(held, value, last=last) or carried
        elif last:
            known[key] = detached(value)
        else:
            _put(known, key, value)
            carried = carried or carries(key, value)
    return carried


def _put(known: Json, key: str, value: Any) -> None:
    """Merge a value that continues neither a text under construction nor an object."""
    held = known.get(key)
    if key in LISTED:
        known.setdefault(LISTED[key], []).append(detached(value))
    elif isinstance(value, list) or (isinstance(held, list) and isinstance(value, str) and key in _RICH):
        _put_list(known, key, value)
    elif key in TEXTS and isinstance(value, str):
        if value:
            known[key] = text = GrowingText()
            text.add((held if isinstance(held, str) else "") + value)
    elif isinstance(value, dict):
        known[key] = {}
        merge(known[key], value)
    elif not held and (value or key not in known):
        known[key] = detached(value)


def _put_list(known: Json, key: str, value: list[Any] | str) -> None:
    """Merge a list, or a text into a list, as one of its parts."""
    held = known.get(key)
    if type(held) is not list:
        held = known[key] = _as_part(held.text()) if type(held) is GrowingText else []
    _merge_list(held, _as_part(value) if isinstance(value, str) else value)


def _as_part(text: str) -> list[Any]:
    return [{"type": "text", "text": text}] if text else []


def _merge_list(known: list[Any], news: list[Any]) -> None:
    """Add entries to a list, or merge them into those that they continue.

    If a longer list begins with `known`, only the rest is new.
    """
    for item in news[len(known) :] if len(news) > len(known) and news[: len(known)] == known else news:
        held = _continued(known, item) if isinstance(item, dict) else None
        if held is None:
            known.append(detached(item))
        else:
            merge(held, item)


def _continued(known: list[Any], item: Json) -> Json | None:
    """Return the entry that an item continues: with its index, else its id, else the newest."""
    number, name, kind = item.get("index"), item.get("id"), item.get("type")
    key, wanted = ("index", number) if type(number) is int else ("id", name)
    for held in islice(reversed(known), _MAX_SEARCHED if wanted or wanted == 0 else 1):
        if isinstance(held, dict) and kind in (None, held.get("type")):
            if key == "id" and not name:
                return held if _continues_newest(held, item) else None
            if held.get(key) == wanted:
                # Some gateways give all calls the index 0; others send a new id with every piece, but no name.
                is_another = name != held.get("id", name) if name else _begins_call(held, item)
                return None if is_another and _of_call(item, "name") else held
    return None


def _continues_newest(held: Json, item: Json) -> bool:
    """Return whether an item without index and id continues the newest entry."""
    if "function" in held or "custom" in held:
        return not _begins_call(held, item)
    begins = any(item.get(key) for key in _ENTRY_TEXTS)
    if signature := held.get("signature"):  # a signature ends a thought
        return not begins and item.get("signature", signature) == signature
    grows = any(key in item for key in _ENTRY_TEXTS) or ("signature" in item and "thinking" in held)
    return grows and any(key in held for key in _ENTRY_TEXTS)


def _begins_call(held: Json, item: Json) -> bool:
    """Return whether a named piece after arguments starts the next call, by another name or a second object."""
    name, opening = _of_call(item, "name"), _of_call(item, "arguments")
    known = whole(_of_call(held, "arguments")) if name else None
    if not known:
        return False
    opens = isinstance(opening, dict) or str(opening or "").startswith("{")
    return name != _of_call(held, "name") or (opens and is_json(known))


def _of_call(call: Json, key: str) -> Any:
    inner = call.get("function") or call.get("custom")
    return inner.get(key) if isinstance(inner, dict) else None


def carries(key: str, value: object, depth: int = 0) -> bool:
    """Return whether a new value has content: a streamed text, a name, or a complete entry."""
    if isinstance(value, str):
        return value != "" and key in _NAMED_TEXTS
    if key in _ALWAYS_CONTENT or depth == _MAX_DEPTH:
        return key in _ALWAYS_CONTENT and bool(value)
    if isinstance(value, dict):
        return any(carries(name, item, depth + 1) for name, item in value.items())
    return isinstance(value, list) and any(carries(key, item, depth + 1) for item in value)


def whole(value: Any) -> Any:
    """Return a finished copy of a value under construction."""
    if isinstance(value, GrowingText):
        return value.text()
    if isinstance(value, Entries):
        return [whole(value[number]) for number in sorted(value)]
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


def extend(known: Json, news: Mapping[str, Any]) -> None:
    """Merge objects. Lists grow by complete entries; of other values the last one that is not null is kept."""
    for key, value in news.items():
        held = known.get(key)
        if isinstance(value, list) and isinstance(held, list):
            held += detached(value)
        elif isinstance(value, dict) and isinstance(held, dict):
            extend(held, value)
        elif value is not None or key not in known:
            known[key] = detached(value)


def fuller(streamed: Json, stated: Mapping[str, Any]) -> Json:
    """Return an object that was both streamed in pieces and stated as a whole by a later event.

    The value with more information wins, field by field and entry by entry: the longer text, else the stated value.
    """
    joined = {key: value for key, value in streamed.items() if key not in stated and key != "incomplete"}
    for key, value in stated.items():
        held = streamed.get(key)
        if isinstance(value, list) and isinstance(held, list) and key in _JOINED:
            joined[key] = _fuller_list(held, value)
        elif isinstance(value, str) and isinstance(held, str) and key in TEXTS:
            joined[key] = max(value, held, key=len)
        else:
            is_silent = value is None or value in ("", [], {})
            joined[key] = held if is_silent and held is not None else detached(value)
    return joined


def _fuller_list(streamed: list[Any], stated: list[Any]) -> list[Any]:
    """Return the stated entries, each merged with its streamed one, and the entries that were only streamed."""
    if not all(isinstance(one, dict) and "type" in one for one in (*streamed, *stated)):
        return max(detached(stated), streamed, key=len)
    left, pairs = dict(enumerate(streamed)), dict[int, Json]()
    for are_one in (_share_id, _are_alike):
        for place, entry in enumerate(stated):
            near = islice(left.items(), _MAX_SEARCHED if place not in pairs else 0)
            at = next((at for at, held in near if are_one(held, entry)), None)
            if at is not None:
                pairs[place] = left.pop(at)
    joined = [fuller(pairs[place], entry) if place in pairs else detached(entry) for place, entry in enumerate(stated)]
    for at, held in left.items():
        joined.insert(at, held)
    return joined


def _share_id(one: Json, other: Json) -> bool:
    return any(one.get(key) == other.get(key) and other.get(key) for key in ("call_id", "id"))


def _are_alike(one: Json, other: Json) -> bool:
    """Return whether two entries have the same type and are not different calls. The same call may have a new id."""
    same = (one.get("name"), one.get("arguments")) == (other.get("name"), other.get("arguments"))
    return one["type"] == other["type"] and (same or not (one.get("call_id") and other.get("call_id")))


def is_json(written: object) -> bool:
    """Return whether a value is one complete JSON value, as text or decoded."""
    try:
        json.loads(written) if isinstance(written, str) else None
    except (ValueError, RecursionError):
        return False
    return True
