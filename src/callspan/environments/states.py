"""States: observations, actions and infos of environments as JSON, however large they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from callspan.fail_open import value_of
from callspan.record.bounded import text_attribute

_MAX_DEPTH: Final = 16
_CHARACTERS_PER_ELEMENT: Final = 16


def state_json(state: object, max_elements: int, depth: int = 0) -> object:
    """Return a state in plain values: arrays as lists, larger ones than `max_elements` by shape, type and range.

    Texts are cut to 16 bytes per element, longer lists to so many items and a last one that says how many there
    were. Anything else is as given.
    """
    if isinstance(state, str):
        return text_attribute(state, max_elements * _CHARACTERS_PER_ELEMENT)
    if depth >= _MAX_DEPTH:
        return "<too deep>"
    if isinstance(state, Mapping):
        return {str(key): state_json(item, max_elements, depth + 1) for key, item in state.items()}
    if isinstance(state, list | tuple):
        items = [state_json(item, max_elements, depth + 1) for item in state[:max_elements]]
        return items if len(state) <= max_elements else [*items, {"callspan_truncated": {"items": len(state)}}]
    size = getattr(state, "size", None)
    if isinstance(size, int) and hasattr(state, "tolist"):
        return state.tolist() if size <= max_elements else _described(state)
    return state


def _described(array: object) -> dict[str, object]:
    facts: dict[str, object] = {
        "shape": list(getattr(array, "shape", ())),
        "dtype": str(getattr(array, "dtype", "unknown")),
    }
    for name in ("min", "max"):
        extreme = value_of(partial(_called, array, name))
        if extreme is not None:
            facts[name] = extreme
    return {"callspan_array": facts}


def _called(array: object, name: str) -> object:
    found = getattr(array, name)()
    return found.item() if hasattr(found, "item") else found
