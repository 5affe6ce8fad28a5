"""One output item of a Responses stream: fragments to the item the whole response would have had."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from callspan.providers.copies import detached
from callspan.providers.string_builder import StringBuilder


class Place(NamedTuple):
    """Where a fragment belongs within its item."""

    item_type: str
    """The type of the item, where no event names it."""
    key: str | None
    """List of parts within the item (`content`, `summary`); None: a field of the item itself."""
    field: str
    """The text that grows; also the field of the `done` twin that has it whole."""
    part_type: str = ""
    number: str | None = None
    """Field of the event that numbers the part."""


GROWING: Final = {
    "response.output_text.delta": Place("message", "content", "text", "output_text", "content_index"),
    "response.refusal.delta": Place("message", "content", "refusal", "refusal", "content_index"),
    "response.reasoning_text.delta": Place("reasoning", "content", "text", "reasoning_text", "content_index"),
    "response.reasoning_summary_text.delta": Place("reasoning", "summary", "text", "summary_text", "summary_index"),
    "response.function_call_arguments.delta": Place("function_call", None, "arguments"),
    "response.mcp_call_arguments.delta": Place("mcp_call", None, "arguments"),
    "response.custom_tool_call_input.delta": Place("custom_tool_call", None, "input"),
    "response.code_interpreter_call_code.delta": Place("code_interpreter_call", None, "code"),
}
"""The fragments of a stream, by the type of their event."""

_Key = tuple[str | None, int, str]


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
        """Take the item as first announced."""
        if not self._done:
            self._fields = detached(item)

    def finish(self, item: dict[str, Any]) -> None:
        """Take the whole item; nothing before or after it counts."""
        self._fields = detached(item)
        self._done = True
        self._texts.clear()
        self._parts.clear()

    def grow(self, place: Place, number: int, delta: str) -> None:
        """Append a fragment."""
        if not self._done:
            self._pieces(place, number).add(delta)

    def settle(self, place: Place, number: int, whole: str) -> None:
        """Replace the fragments by the whole text; an empty one does not take away what came."""
        if self._done:
            return
        pieces = self._pieces(place, number)
        self._settled.add((place.key, number, place.field))
        if whole:
            pieces.set(whole)

    def set_part(self, key: str, number: int, part: dict[str, Any]) -> None:
        """Take a part as announced or as finished; texts that are longer here replace their fragments."""
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
        """Return the item so far; a tool call whose text was not finished is marked incomplete."""
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

    def _pieces(self, place: Place, number: int) -> StringBuilder:
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
