"""Chunk header: everything in a chunk beside its choices, folded over a stream (chat and legacy completions)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from callspan.providers.copies import detached, overlay

# `obfuscation` is padding against eavesdroppers; `value` is the text of Writer's chunks.
_APART: Final = frozenset({"choices", "object", "obfuscation", "value"})
_CUMULATIVE: Final = ("usage", "x_groq")
_NEVER_OPEN: Final = _APART | {"usage"}


class ChunkHeader:
    """Folds top-level fields: the first value that is not empty wins, of usage the last counters win.

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
            # Azure opens with empty names and a time of 0; the chunks after it have the true ones.
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
