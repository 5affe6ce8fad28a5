"""Responses streams: folds events into the response object that the endpoint returns without streaming.

The terminal event has the complete response and wins. Until then the response is built from its items, and each item
from its fragments; a `done` event replaces the fragments of its item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from callspan.providers.wire_json import StringBuilder, detached, integer, text

_Key = tuple[str | None, int, str]

_Event: TypeAlias = dict[str, Any]

_ABOUT_EVENT: Final = frozenset({"type", "sequence_number"})


class ItemField(NamedTuple):
    """The field of an item that a fragment of text belongs to."""

    item_type: str
    """Type of the item, if no event names it."""
    key: str | None
    """List of parts within the item (`content`, `summary`); None: a field of the item itself."""
    field: str
    """Field of the text; the `done` event has the complete text in the same field."""
    part_type: str = ""
    number: str | None = None
    """Field of the event with the index of the part."""


GROWING: Final = {
    "response.output_text.delta": ItemField("message", "content", "text", "output_text", "content_index"),
    "response.refusal.delta": ItemField("message", "content", "refusal", "refusal", "content_index"),
    "response.reasoning_text.delta": ItemField("reasoning", "content", "text", "reasoning_text", "content_index"),
    "response.reasoning_summary_text.delta": ItemField("reasoning", "summary", "text", "summary_text", "summary_index"),
    "response.function_call_arguments.delta": ItemField("function_call", None, "arguments"),
    "response.mcp_call_arguments.delta": ItemField("mcp_call", None, "arguments"),
    "response.custom_tool_call_input.delta": ItemField("custom_tool_call", None, "input"),
    "response.code_interpreter_call_code.delta": ItemField("code_interpreter_call", None, "code"),
}
"""Positions of fragments, by the type of their event."""


class Item:
    """One item under construction."""

    __slots__ = ("_done", "_fields", "_parts", "_settled", "_texts", "_type")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._parts: dict[tuple[str, int], dict[str, Any]] = {}
        self._texts: dict[_Key, StringBuilder] = {}
        self._settled: set[_Key] = set()
        self._type: str | None = None
        self._done = False

    def begin(self, item: dict[str, Any]) -> None:
        """Set the item as first announced."""
        if not self._done:
            self._fields = detached(item)

    def finish(self, item: dict[str, Any]) -> None:
        """Set the complete item; all other data of it is ignored."""
        self._fields = detached(item)
        self._done = True
        self._texts.clear()
        self._parts.clear()

    def grow(self, place: ItemField, number: int, delta: str) -> None:
        """Append a fragment."""
        if not self._done:
            self._pieces(place, number).add(delta)

    def complete_text(self, place: ItemField, number: int, whole: str) -> None:
        """Replace the fragments by the complete text; an empty text replaces nothing."""
        if self._done:
            return
        pieces = self._pieces(place, number)
        self._settled.add((place.key, number, place.field))
        if whole:
            pieces.set(whole)

    def set_part(self, key: str, number: int, part: dict[str, Any]) -> None:
        """Set a part as announced or finished; longer texts replace their fragments."""
        if self._done:
            return
        self._parts[key, number] = detached(part)
        for field in ("text", "refusal"):
            whole = part.get(field)
            pieces = self._texts.get((key, number, field))
            if isinstance(whole, str) and whole and pieces is not None:
                pieces.set(whole)

    def annotate(self, number: int, annotation: object) -> None:
        """Add an annotation to a text."""
        if self._done or annotation is None:
            return
        part = self._parts.setdefault(("content", number), {"type": "output_text", "text": ""})
        if not isinstance(part.get("annotations"), list):
            part["annotations"] = []
        part["annotations"].append(detached(annotation))

    def body(self) -> dict[str, Any]:
        """Return the item so far; an unfinished tool call is marked incomplete."""
        if self._done:
            return detached(self._fields)
        whole = {"type": self._type or "message", **detached(self._fields)}
        if whole["type"] == "message":
            whole.setdefault("role", "assistant")
        parts = {at: detached(part) for at, part in self._parts.items()}
        for (key, number, field), pieces in self._texts.items():
            if key is None:
                whole[field] = pieces.joined()
            else:
                kind = _part_type(str(whole["type"]), key, field)
                parts.setdefault((key, number), {"type": kind})[field] = pieces.joined()
        for key in {key for key, _ in parts}:
            whole[key] = [parts[at] for at in sorted(parts) if at[0] == key]
        if str(whole["type"]).endswith("_call") and not any(key is None for key, _, _ in self._settled):
            whole["incomplete"] = True
        return whole

    def _pieces(self, place: ItemField, number: int) -> StringBuilder:
        if self._type is None:
            self._type = place.item_type
        key = (place.key, number, place.field)
        pieces = self._texts.get(key)
        if pieces is None:
            pieces = self._texts[key] = StringBuilder()
        return pieces


def _part_type(item_type: str, key: str, field: str) -> str:
    fitting = [place for place in GROWING.values() if (place.key, place.field) == (key, field)]
    return next((place for place in fitting if place.item_type == item_type), fitting[0]).part_type


class ResponsesAccumulator:
    """Folds Responses events. Items are identified by output index, else by id, else the newest is used."""

    __slots__ = ("_by_id", "_error", "_final", "_items", "_response", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._response: dict[str, Any] | None = None
        self._final: dict[str, Any] | None = None
        self._error: object = None
        self._items: dict[int, Item] = {}
        self._by_id: dict[str, int] = {}

    def add(self, chunk: object) -> bool:
        """Fold in one event; return True for a delta with content. Anything but an object is ignored."""
        if not isinstance(chunk, dict):
            return False
        kind = chunk.get("type")
        if not isinstance(kind, str):
            self._untyped(chunk)
            return False
        place = GROWING.get(kind)
        if place is not None:
            return self._grow(chunk, place)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self, chunk)
        return kind.endswith(".delta") and bool(chunk.get("delta"))

    def body(self) -> dict[str, object] | None:
        """Return the response so far; None if nothing was received."""
        if self._final is not None:
            whole = detached(self._final)
        elif self._response is None and not self._items and not self._error:
            return None
        else:
            whole = {"object": "response", **detached(self._response or {})}
        # Some servers end with a response without its output.
        if self._items and not whole.get("output"):
            whole["output"] = [self._items[index].body() for index in sorted(self._items)]
        elif not self._error:
            whole.setdefault("output", [])
        if self._error and not whole.get("error"):
            whole["error"] = detached(self._error)
        return whole

    def _grow(self, event: _Event, place: ItemField) -> bool:
        delta = event.get("delta")
        if not isinstance(delta, str) or not delta:
            return False
        self._item(event).grow(place, _count(event, place.number), delta)
        return True

    def _item(self, event: _Event) -> Item:
        index = integer(event, "output_index")
        item_id = text(event, "item_id") or text(event, "item", "id")
        if index is None and item_id is not None:
            index = self._by_id.get(item_id, len(self._items))
        if index is None:
            index = max(self._items, default=0)
        if item_id is not None:
            self._by_id.setdefault(item_id, index)
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = Item()
        return item

    def _under_way(self, event: _Event) -> None:
        response = event.get("response")
        if not isinstance(response, dict):
            return
        if self._response is None:
            self._response = detached(response)
        elif isinstance(status := response.get("status"), str):
            # Each of these events repeats instructions and tools; only the status is new.
            self._response["status"] = status

    def _ended(self, event: _Event) -> None:
        self.complete = True
        response = event.get("response")
        if isinstance(response, dict):
            self._final = detached(response)

    def _failed(self, event: _Event) -> None:
        nested = event.get("error")
        error = nested or {key: value for key, value in event.items() if key not in _ABOUT_EVENT}
        self._error = detached(error)

    def _untyped(self, chunk: _Event) -> None:
        """Fold in a complete body instead of a stream, or an error of a gateway."""
        if chunk.get("error"):
            self._error = detached(chunk["error"])
        if chunk.get("object") == "response" or isinstance(chunk.get("output"), list):
            self._ended({"response": chunk})

    def _item_added(self, event: _Event) -> None:
        item = event.get("item")
        if isinstance(item, dict):
            self._item(event).begin(item)

    def _item_done(self, event: _Event) -> None:
        item = event.get("item")
        if isinstance(item, dict):
            self._item(event).finish(item)

    def _part(self, event: _Event) -> None:
        part = event.get("part")
        if isinstance(part, dict):
            summary = str(event.get("type")).startswith("response.reasoning_summary")
            key, count = ("summary", "summary_index") if summary else ("content", "content_index")
            self._item(event).set_part(key, _count(event, count), part)

    def _annotation(self, event: _Event) -> None:
        self._item(event).annotate(_count(event, "content_index"), event.get("annotation"))

    def _twin(self, event: _Event) -> None:
        place = GROWING[str(event.get("type")).removesuffix("done") + "delta"]
        whole = event.get(place.field)
        if isinstance(whole, str):
            self._item(event).complete_text(place, _count(event, place.number), whole)


def _count(event: _Event, key: str | None) -> int:
    found = None if key is None else integer(event, key)
    return 0 if found is None else found


_Handler: TypeAlias = Callable[[ResponsesAccumulator, _Event], None]

_HANDLERS: Final[dict[str, _Handler]] = {
    "response.created": ResponsesAccumulator._under_way,
    "response.queued": ResponsesAccumulator._under_way,
    "response.in_progress": ResponsesAccumulator._under_way,
    "response.completed": ResponsesAccumulator._ended,
    "response.incomplete": ResponsesAccumulator._ended,
    "response.failed": ResponsesAccumulator._ended,
    "response.cancelled": ResponsesAccumulator._ended,
    "error": ResponsesAccumulator._failed,
    "response.error": ResponsesAccumulator._failed,
    "response.output_item.added": ResponsesAccumulator._item_added,
    "response.output_item.done": ResponsesAccumulator._item_done,
    "response.content_part.added": ResponsesAccumulator._part,
    "response.content_part.done": ResponsesAccumulator._part,
    "response.reasoning_summary_part.added": ResponsesAccumulator._part,
    "response.reasoning_summary_part.done": ResponsesAccumulator._part,
    "response.output_text.annotation.added": ResponsesAccumulator._annotation,
    **{name.removesuffix("delta") + "done": ResponsesAccumulator._twin for name in GROWING},
}
