"""Merge: adds the data of one event to a body.

Until the body is read, a text under construction is a `GrowingText`, and a list of indexed entries is an `Entries`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

from callspan.providers.fold.accounts import TEXTS, normal
from callspan.providers.fold.entries import MAX_SEARCHED, Entries
from callspan.providers.wire_json import Json, detached

_RICH: Final = frozenset({"content", "thinking"})
"""Those that may instead be a list of parts, in Mistral's API."""
_ENTRY_TEXTS: Final = ("text", "summary", "thinking")
"""Text fields. An entry without an index that has one of them continues the previous entry."""
LISTED: Final = {
    "annotation": "annotations", "citation": "citations", "delta": "deltas", "segment": "segments",
    "token_id": "token_ids",
}  # fmt: skip
"""Fields with one item per event, by their name as a list in a complete body."""
_ALWAYS_CONTENT: Final = frozenset({"annotations", "delta", "executed_tools", "images"})
_NAMED_TEXTS: Final = TEXTS | {"b64_json", "name"}
_INDEX: Final = "index"
_CALLS: Final = "tool_calls"
_CALLED: Final = ("function", "custom", "function_call")
"""Fields with the name and the arguments of a call."""
_CUMULATIVE: Final = frozenset({"web_search_results"})
"""Lists that each event repeats with all items so far. All other lists are deltas, even where one looks like the
last."""
_OPENING: Final = ("{", "[")
_CLOSING: Final = ("}", "]")
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


def grow(target: Json, key: str, piece: str) -> bool:
    """Append a piece to a text under construction, which it may begin; return whether it has content."""
    growing = target.get(key)
    if type(growing) is not GrowingText:
        target[key] = growing = GrowingText()
    growing.add(piece)
    return piece != ""


def merge(target: Json, update: Mapping[str, Any], *, last: bool = False) -> bool:
    """Merge `update` into `target`; return True if they carry content. Null values are ignored.

    Streamed texts grow, objects are merged, lists are merged by entry. Of other values the first is kept. With `last`
    the last is kept, even of texts and lists.
    """
    has_content = False
    for key, value in update.items():
        if value is None:
            if last:
                target.setdefault(key, None)
            continue
        current = target.get(key)
        if type(current) is GrowingText and type(value) is str:
            if value:
                current.add(value)
                has_content = True
        elif isinstance(current, dict) and isinstance(value, dict):
            if key in _CALLED:
                _join_name(current, value)
            has_content = merge(current, value, last=last) or has_content
        elif last:
            target[key] = detached(value)
        else:
            _put(target, key, value)
            has_content = has_content or carries(key, value)
    return has_content


def _put(target: Json, key: str, value: Any) -> None:
    """Merge a value that continues neither a text under construction nor an object."""
    current = target.get(key)
    if key in LISTED:
        target.setdefault(LISTED[key], []).append(detached(value))
    elif isinstance(value, list) or (isinstance(current, list) and isinstance(value, str) and key in _RICH):
        _put_list(target, key, value)
    elif key in TEXTS and isinstance(value, str):
        if value:
            target[key] = text = GrowingText()
            text.add((current if isinstance(current, str) else "") + value)
    elif isinstance(value, dict):
        target[key] = {}
        merge(target[key], value)
    elif (current is None if key == _INDEX else not current) and (value or key not in target):
        target[key] = detached(value)


def _put_list(target: Json, key: str, value: list[Any] | str) -> None:
    """Merge a list, or add a text to a list as a part."""
    current = target.get(key)
    if key in _CUMULATIVE:
        target[key] = detached(value)
        return
    if type(current) is not list:
        current = target[key] = _as_part(current.text()) if type(current) is GrowingText else []
    _merge_list(
        current, _as_part(value) if isinstance(value, str) else value, _continued_call if key == _CALLS else _continued
    )


def _as_part(text: str) -> list[Any]:
    return [{"type": "text", "text": text}] if text else []


def _merge_list(entries: list[Any], update: list[Any], continued: Callable[[list[Any], Json], Json | None]) -> None:
    """Add entries to a list, or merge them into those that they continue."""
    for item in update:
        entry = continued(entries, item) if isinstance(item, dict) else None
        if entry is None:
            entries.append(detached(item))
        elif item is not _repetition(entry, item):
            merge(entry, item)


def _continued(entries: list[Any], item: Json) -> Json | None:
    """Return the entry that an item continues: with its index, else its id, else the newest."""
    number, name, kind = item.get("index"), item.get("id"), item.get("type")
    key, key_value = ("index", number) if type(number) is int else ("id", name)
    for entry in islice(reversed(entries), MAX_SEARCHED if key_value or key_value == 0 else 1):
        if isinstance(entry, dict) and kind in (None, entry.get("type")):
            if key == "id" and not name:
                return entry if _continues_newest(entry, item) else None
            if entry.get(key) == key_value and (not name or entry.get("id") in (None, "", name)):
                return entry
    return None


def _continues_newest(newest: Json, item: Json) -> bool:
    """Return whether an item without index and id continues the newest entry."""
    begins = any(item.get(key) for key in _ENTRY_TEXTS)
    if signature := newest.get("signature"):  # a signature ends a thought
        return not begins and item.get("signature", signature) == signature
    has_text = any(key in item for key in _ENTRY_TEXTS) or ("signature" in item and "thinking" in newest)
    return has_text and any(key in newest for key in _ENTRY_TEXTS)


def _continued_call(calls: list[Any], item: Json) -> Json | None:
    """Return the call that a piece continues: the call with its id, else the newest with its index, else the newest.

    A piece with a name begins another call where that one is whole, or has another id or index.
    """
    identity, index, name = item.get("id") or None, item.get("index"), _of_call(item, "name")
    near = [call for call in islice(reversed(calls), MAX_SEARCHED) if isinstance(call, dict)]
    with_id = [call for call in near if identity is not None and call.get("id") == identity]
    at_index = [call for call in near if type(index) is int and call.get("index") == index]
    call = next(
        (candidate for candidate in with_id if candidate in at_index), next(iter([*with_id, *at_index, *near]), None)
    )
    if call is None or not name:
        return call
    if with_id:
        return None if _is_another(call, item) else call
    if call in at_index and not _of_call(call, "name") and (identity is None or not call.get("id")):
        return call
    if _is_over(call, name) or (identity is not None and call.get("id")):
        return None
    if type(index) is int:
        return call if at_index else None
    return call if call.get("id") or _of_call(call, "arguments") else None


def _is_over(call: Json, name: str) -> bool:
    """Return whether a name after arguments begins the next call: another name, or after all of its JSON."""
    arguments = finished_copy(_of_call(call, "arguments"))
    return bool(arguments) and (name != _of_call(call, "name") or (arguments.endswith(_CLOSING) and is_json(arguments)))


def _is_another(call: Json, item: Json) -> bool:
    """Return whether a named piece begins another call than the newest with its id, because some servers repeat ids."""
    opening, arguments = _of_call(item, "arguments"), finished_copy(_of_call(call, "arguments"))
    opens = isinstance(opening, dict) or str(opening or "").lstrip().startswith(_OPENING)
    if arguments and opens and is_json(arguments):
        return normal(arguments) != normal(opening) or item.get("index") != call.get("index")
    return _of_call(item, "name") != _of_call(call, "name") and item.get("index") != call.get("index")


def _repetition(call: Json, item: Json) -> Json | None:
    """Return a piece that states all of its call once more, under its id."""
    arguments = finished_copy(_of_call(call, "arguments")) if item.get("id") and _of_call(item, "name") else None
    opening = _of_call(item, "arguments")
    is_all = bool(arguments) and isinstance(opening, str) and opening.startswith(_OPENING) and is_json(arguments)
    return item if is_all and item["id"] == call.get("id") and normal(opening) == normal(arguments) else None


def _join_name(call: Json, update: Json) -> None:
    """Join a name that comes in pieces, all of them before the arguments."""
    name, piece = call.get("name"), update.get("name")
    is_before = not call.get("arguments") and not call.get("input")
    if is_before and isinstance(name, str) and isinstance(piece, str) and piece != name:
        call["name"] = name + piece


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


def finished_copy(value: Any) -> Any:
    """Return a finished copy of a value under construction."""
    if isinstance(value, GrowingText):
        return value.text()
    if isinstance(value, Entries):
        return [finished_copy(entry.fields) for entry in value.in_order()]
    if isinstance(value, dict):
        return {key: finished_copy(item) for key, item in value.items()}
    return [finished_copy(item) for item in value] if isinstance(value, list) else value


def extend(target: Json, update: Mapping[str, Any]) -> None:
    """Merge objects. Lists grow by complete entries; of other values the last one that is not null is kept."""
    for key, value in update.items():
        current = target.get(key)
        if isinstance(value, list) and isinstance(current, list):
            current += detached(value)
        elif isinstance(value, dict) and isinstance(current, dict):
            extend(current, value)
        elif value is not None or key not in target:
            target[key] = detached(value)


def is_json(value: object) -> bool:
    """Return whether a value is one complete JSON value, as text or decoded."""
    try:
        json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return False
    return True
