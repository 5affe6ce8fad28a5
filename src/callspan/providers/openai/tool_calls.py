"""Tool calls of a chat stream: folds fragments, with or without index and id, into complete calls."""

from __future__ import annotations

import json
from typing import Any, Final

from callspan.providers.wire_json import StringBuilder, fill
from callspan.record.codec import encode_json

_TEXTS: Final = {"function": "arguments", "custom": "input"}
"""Field that arrives in fragments, for each kind of call."""


class CallFragments:
    """One tool call under construction. `index` is None if the provider sends none."""

    __slots__ = ("_names", "_texts", "fields", "index")

    def __init__(self, index: int | None = None) -> None:
        self.index = index
        self.fields: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._texts: dict[str, StringBuilder] = {}

    @property
    def name(self) -> str:
        """The name so far; empty until received."""
        return "".join(self._names.values())

    def has_text(self) -> bool:
        """Return whether any part of the arguments was received."""
        return any(self._texts.values())

    def take(self, fragment: dict[str, Any]) -> None:
        """Fold in one fragment of the call."""
        for key, value in fragment.items():
            if key in _TEXTS:
                if isinstance(value, dict):
                    self.grow(value, key)
            elif key != "index" and (isinstance(value, dict) or not self.fields.get(key)):
                fill(self.fields, {key: value})

    def grow(self, part: dict[str, Any], kind: str = "function") -> None:
        """Fold in a `function` or `custom` object: its name is appended, unless it repeats the name so far."""
        pieces = self._texts.setdefault(kind, StringBuilder())
        name, text = part.get("name"), part.get(_TEXTS[kind])
        known = self._names.get(kind, "")
        if isinstance(name, str) and name != known:
            self._names[kind] = known + name
        if isinstance(text, str) and text:
            pieces.add(text)
        elif isinstance(text, dict):
            pieces.add(encode_json(text).decode())
        for key, value in part.items():
            if key not in ("name", _TEXTS[kind]):
                fill(self.fields, {kind: {key: value}})

    def part(self, kind: str = "function") -> dict[str, Any]:
        """Return the `function` or `custom` object as in a response without streaming."""
        known = self.fields.get(kind)
        rest = known if isinstance(known, dict) else {}
        return {**rest, "name": self._names.get(kind), _TEXTS[kind]: self._text(kind)}

    def body(self, *, cut: bool) -> dict[str, Any]:
        """Return the call as in a response without streaming, marked if it is incomplete."""
        kind = next(iter(self._texts), "function")
        whole = {key: value for key, value in self.fields.items() if key not in _TEXTS}
        whole["type"] = whole.get("type") or kind
        whole[kind] = self.part(kind)
        if not self.name or (cut and (kind == "custom" or not is_json(self._text(kind)))):
            whole["incomplete"] = True
        return whole

    def _text(self, kind: str) -> str:
        pieces = self._texts.get(kind)
        return pieces.joined() if pieces is not None else ""


class ToolCalls:
    """The tool calls of one choice, in order of index, else of arrival.

    A fragment belongs to the call of its index, else of its id, else to the newest. The same index with another id
    and a name is another call, because some gateways number all calls 0.
    """

    __slots__ = ("_by_id", "_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[CallFragments] = []
        self._by_index: dict[int, CallFragments] = {}
        self._by_id: dict[str, CallFragments] = {}

    def add(self, fragments: list[Any]) -> bool:
        """Fold in the `tool_calls` of one delta; return True if there was any."""
        seen = False
        for position, fragment in enumerate(fragments):
            if isinstance(fragment, dict):
                self._call(fragment, position if len(fragments) > 1 else None).take(fragment)
                seen = True
        return seen

    def body(self, *, cut: bool) -> list[dict[str, Any]]:
        """Return the calls as in a response without streaming. `cut`: the choice did not end normally."""
        places = [position if call.index is None else call.index for position, call in enumerate(self._calls)]
        order = sorted(range(len(places)), key=places.__getitem__)
        return [self._calls[position].body(cut=cut) for position in order]

    def __bool__(self) -> bool:
        return bool(self._calls)

    def _call(self, fragment: dict[str, Any], position: int | None) -> CallFragments:
        index, call_id = fragment.get("index"), fragment.get("id")
        index = index if isinstance(index, int) and not isinstance(index, bool) else None
        call_id = call_id if isinstance(call_id, str) and call_id else None
        call = self._find(fragment, index, call_id, position)
        if call is None:
            call = CallFragments(index)
            self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        if call_id is not None:
            self._by_id.setdefault(call_id, call)
        return call

    def _find(
        self, fragment: dict[str, Any], index: int | None, call_id: str | None, position: int | None
    ) -> CallFragments | None:
        if index is not None:
            known = self._by_index.get(index)
            # Others send a new id with every fragment of one call, but no name.
            return None if known is not None and _is_another(known, fragment, call_id) else known
        if call_id is not None:
            return self._by_id.get(call_id)
        if position is not None:
            return self._calls[position] if position < len(self._calls) else None
        newest = self._calls[-1] if self._calls else None
        return None if newest is not None and _starts_anew(newest, fragment) else newest


def is_json(text: str) -> bool:
    """Return whether `text` is one complete JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_another(known: CallFragments, fragment: dict[str, Any], call_id: str | None) -> bool:
    known_id = known.fields.get("id")
    return bool(known_id and call_id and call_id != known_id and _first_set(fragment, "name"))


def _starts_anew(newest: CallFragments, fragment: dict[str, Any]) -> bool:
    """Return whether a named fragment after arguments begins the next call: another name, or new arguments."""
    name = _first_set(fragment, "name")
    if not name or not newest.has_text():
        return False
    opening = _first_set(fragment, "arguments")
    return name != newest.name or isinstance(opening, dict) or (isinstance(opening, str) and opening.startswith("{"))


def _first_set(fragment: dict[str, Any], key: str) -> object:
    for kind in _TEXTS:
        part = fragment.get(kind)
        if isinstance(part, dict) and part.get(key):
            return part[key]
    return None
