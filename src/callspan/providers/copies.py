"""Copies of wire JSON that share no container with the caller's objects, and how copies merge."""

from __future__ import annotations

from typing import Final

from callspan.record.codec import plain

_SCALARS: Final = (str, int, float, type(None))
_MAX_DEPTH: Final = 64


def detached(value: object, depth: int = 0) -> object:
    """Return a deep copy of a JSON value, every string as it is. Below 64 levels a note stands for the rest.

    What is no JSON becomes it, see `callspan.record.codec.plain`. Never raises.
    """
    if isinstance(value, _SCALARS):
        return value
    if depth >= _MAX_DEPTH:
        return "<too deep>"
    if isinstance(value, dict):
        return detached_object(value, depth)
    if isinstance(value, list):
        return [detached(item, depth + 1) for item in value]
    return plain(value, depth)


def detached_object(value: dict[str, object], depth: int = 0) -> dict[str, object]:
    """Return a deep copy of a JSON object, as `detached` does."""
    # Scalars are most of it and need no call.
    return {key: item if isinstance(item, _SCALARS) else detached(item, depth + 1) for key, item in value.items()}


def overlay(known: dict[str, object], newer: dict[str, object], depth: int = 0) -> None:
    """Write `newer` over `known`, which is ours: the last value stated of each key wins, null erases nothing."""
    for key, value in newer.items():
        held = known.get(key)
        if isinstance(held, dict) and isinstance(value, dict) and depth < _MAX_DEPTH:
            overlay(held, value, depth + 1)
        elif value is not None or key not in known:
            known[key] = detached(value, depth + 1)
