"""Detaching: copies of wire JSON that share no container with the caller's objects, and how copies merge."""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

from callspan.record.codec import plain

_SCALARS: Final = (str, int, float)
_MAX_DEPTH: Final = 64
_T = TypeVar("_T")


def detached(value: _T) -> _T:
    """Return a deep copy of a JSON value. Raises nothing: below 64 levels a short note stands for the rest."""
    return cast("_T", _copied(value, 0))


def _copied(value: object, depth: int) -> object:
    if value is None or isinstance(value, _SCALARS):
        return value
    if depth >= _MAX_DEPTH:
        return "<too deep>"
    if isinstance(value, dict):
        # Scalars are most of it and need no call.
        return {
            str(key): item if item is None or isinstance(item, _SCALARS) else _copied(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_copied(item, depth + 1) for item in value]
    return plain(value, depth)


def overlay(target: dict[str, Any], new: dict[str, object], depth: int = 0) -> None:
    """Write `new` over `target`, which is ours: the last value of each key wins, None never erases, objects merge."""
    for key, value in new.items():
        known = target.get(key)
        if value is None:
            target.setdefault(key, None)
        elif isinstance(value, dict) and isinstance(known, dict) and depth < _MAX_DEPTH:
            overlay(known, value, depth + 1)
        else:
            target[key] = _copied(value, depth + 1)


def fill(target: dict[str, Any], new: dict[str, object], depth: int = 0) -> None:
    """Add to `target`, which is ours, what it lacks: the first value that is neither None nor empty wins."""
    for key, value in new.items():
        known = target.get(key)
        if isinstance(value, dict) and isinstance(known, dict) and depth < _MAX_DEPTH:
            fill(known, value, depth + 1)
        elif not known and (value or key not in target):
            target[key] = _copied(value, depth + 1)


def merge_list(target: list[Any], new: list[Any] | tuple[Any, ...]) -> None:
    """Append the items of `new` to `target`, which is ours; an object with an `index` known there updates that one."""
    for item in new:
        index = item.get("index") if isinstance(item, dict) else None
        known = _by_index(target, index) if isinstance(index, int) else None
        if known is None:
            target.append(detached(item))
        else:
            overlay(known, item)


def _by_index(entries: list[Any], index: int) -> dict[str, Any] | None:
    # The newest entries are the ones a stream still adds to.
    for entry in reversed(entries):
        if isinstance(entry, dict) and entry.get("index") == index:
            return entry
    return None
