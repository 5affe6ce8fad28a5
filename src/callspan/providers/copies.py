"""Copies: copies and merges wire JSON without sharing containers with the caller's objects; builds long strings."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from callspan.record.codec import plain

_SCALARS: Final = (str, int, float, type(None))
_LISTS: Final = (list, tuple)
_JSON_KEYS: Final = {True: "true", False: "false", None: "null"}
_MAX_DEPTH: Final = 64
_T = TypeVar("_T")


def detached(value: _T, depth: int = 0) -> _T:
    """Return a deep copy of a JSON value in its wire form: tuples become lists, keys strings; strings are unchanged.

    Values that are not JSON are converted, see `callspan.record.codec.plain`. Below 64 levels a note replaces the rest.
    """
    return value if isinstance(value, _SCALARS) else _copied(value, depth)  # type: ignore[return-value] # the same JSON


def detached_object(value: dict[str, object], depth: int = 0) -> dict[str, object]:
    """Return a deep copy of a JSON object, see `detached`."""
    # Most items are scalars under string keys, which need no function call.
    return {
        key if isinstance(key, str) else _key(key): item if isinstance(item, _SCALARS) else _copied(item, depth + 1)
        for key, item in value.items()
    }


def overlay(known: dict[str, Any], newer: dict[str, object], depth: int = 0) -> None:
    """Merge `newer` into `known` in place: the last value of each key wins, null erases nothing, objects are merged."""
    for key, value in newer.items():
        held = known.get(key)
        if isinstance(held, dict) and isinstance(value, dict) and depth < _MAX_DEPTH:
            overlay(held, value, depth + 1)
        elif value is not None or key not in known:
            known[key] = detached(value, depth + 1)


def fill(known: dict[str, Any], newer: dict[str, object], depth: int = 0) -> None:
    """Add missing values of `newer` to `known` in place: the first value that is neither null nor empty wins."""
    for key, value in newer.items():
        held = known.get(key)
        if isinstance(value, dict) and isinstance(held, dict) and depth < _MAX_DEPTH:
            fill(held, value, depth + 1)
        elif not held and (value or key not in known):
            known[key] = detached(value, depth + 1)


def merge_list(known: list[Any], newer: list[Any] | tuple[Any, ...]) -> None:
    """Append the items of `newer` to `known` in place; an object with a known `index` updates that item.

    A longer list that begins with `known` is that list as it has grown: only the rest is new.
    """
    for item in newer[len(known) :] if len(newer) > len(known) and newer[: len(known)] == known else newer:
        index = item.get("index") if isinstance(item, dict) else None
        held = _by_index(known, index) if isinstance(index, int) else None
        if held is None:
            known.append(detached(item))
        else:
            overlay(held, item)


def _copied(value: object, depth: int) -> object:
    if isinstance(value, _SCALARS):
        return value
    if depth >= _MAX_DEPTH:
        return "<too deep>"
    if isinstance(value, dict):
        return detached_object(value, depth)
    if isinstance(value, _LISTS):
        return [item if isinstance(item, _SCALARS) else _copied(item, depth + 1) for item in value]
    return plain(value, depth)


def _key(key: object) -> str:
    """Return a key as the standard library's JSON encoder writes it."""
    return _JSON_KEYS[key] if key is None or isinstance(key, bool) else str(key)


def _by_index(entries: list[Any], index: int) -> dict[str, Any] | None:
    # A stream usually updates the newest entries.
    for entry in reversed(entries):
        if isinstance(entry, dict) and entry.get("index") == index:
            return entry
    return None


FULL: Final = 64
"""Number of strings that are joined into one block: a `str` has an overhead of about 50 bytes."""


class StringBuilder:
    """Builds a text from strings. `loose` holds the newest ones; append only through `add`, or call `pack` in time."""

    __slots__ = ("blocks", "loose")

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.loose: list[str] = []

    def add(self, text: str) -> None:
        """Append `text`. Amortised O(1)."""
        self.loose.append(text)
        if len(self.loose) >= FULL:
            self.pack()

    def pack(self) -> None:
        """Join the loose strings into one block."""
        self.blocks.append("".join(self.loose))
        self.loose.clear()

    def set(self, text: str) -> None:
        """Replace the text."""
        self.blocks.clear()
        self.loose[:] = [text]

    def joined(self) -> str:
        """Return the complete text, without clearing it."""
        return "".join([*self.blocks, *self.loose])

    def __bool__(self) -> bool:
        return bool(self.loose or self.blocks)
