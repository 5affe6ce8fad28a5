"""Chat streams: folds chunks into the `chat.completion` body that the endpoint returns without streaming."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from callspan.providers.openai.chat_choice import ChoiceAccumulator, choice_index
from callspan.providers.wire_json import detached, overlay

# `obfuscation` is padding against eavesdroppers; `value` is the text of Writer's chunks.
_APART: Final = frozenset({"choices", "object", "obfuscation", "value"})
_CUMULATIVE: Final = ("usage", "x_groq")
_NEVER_OPEN: Final = _APART | {"usage"}


class ChunkHeader:
    """Folds top-level fields: the first non-empty value wins; for usage the last counters win.

    `still_open` names the fields of the last chunk that a later one may still change.
    """

    __slots__ = ("fields", "still_open")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.still_open: tuple[str, ...] = ()

    def take(self, chunk: Mapping[str, object]) -> None:
        """Fold in the top-level fields of one chunk."""
        fields = self.fields
        for key, value in chunk.items():
            if key in _APART:
                continue
            known = fields.get(key)
            if key in _CUMULATIVE and isinstance(value, dict):
                if not isinstance(known, dict):
                    known = fields[key] = {}
                overlay(known, value)
            # Azure begins with empty names and a time of 0; later chunks have the real values.
            elif not known and (value or key not in fields):
                fields[key] = detached(value)
        self.still_open = tuple(
            key for key in chunk if key == "x_groq" or (key not in _NEVER_OPEN and not fields.get(key))
        )

    def body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, object]:
        """Return the body of `object` type `kind` with these choices; containers are new."""
        head: dict[str, object] = {key: self.fields[key] for key in ("id",) if key in self.fields}
        head["object"] = kind
        rest = detached(self.fields)
        head.update((key, value) for key, value in rest.items() if key not in _CUMULATIVE)
        head["choices"] = choices
        head.update((key, rest[key]) for key in _CUMULATIVE if rest.get(key) is not None)
        return head


class ChatAccumulator:
    """Folds chat chunks. Choices are identified by their index, without one by their place in the list."""

    __slots__ = ("_came", "_choices", "_envelope", "_open", "_width", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._came = False
        self._envelope = ChunkHeader()
        self._choices: dict[int, ChoiceAccumulator] = {}
        self._open: tuple[str, ...] = ()
        self._width = -1

    def body(self) -> dict[str, object] | None:
        """Return the `chat.completion` so far; None if no chunk was received."""
        if not self._came:
            return None
        choices = [self._choices[index].body() for index in sorted(self._choices)]
        return self._envelope.body("chat.completion", choices)

    def add(self, chunk: object) -> bool:
        """Fold in one chunk; True if it carried content. Anything but an object is ignored."""
        if not isinstance(chunk, dict):
            return False
        choices = chunk.get("choices")
        carried = may_end = False
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if not isinstance(choice, dict):
                continue
            index = choice_index(choice, position)
            lane = self._choices.get(index)
            if lane is None:
                lane = self._choices[index] = ChoiceAccumulator(index)
            carried = lane.take(choice) or carried
            may_end = may_end or choice.get("finish_reason") is not None
        if may_end or self.complete:
            self.complete = all(lane.finish_reason for lane in self._choices.values())
        # Most chunks repeat the fields of the one before.
        repeats = not may_end and choices and len(chunk) == self._width and chunk.get("usage") is None
        if not repeats or (self._open and any(map(chunk.get, self._open))):
            self._add_fields(chunk)
        return carried

    def _add_fields(self, chunk: dict[str, Any]) -> None:
        self._came = True
        self._envelope.take(chunk)
        self._open = self._envelope.still_open
        self._width = len(chunk)
        # A chunk with only usage is the last one, even from servers that send no finish reason.
        if chunk.get("choices") == [] and self._choices and chunk.get("usage"):
            self.complete = True
