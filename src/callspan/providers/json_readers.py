"""JSON readers: total functions that read wire JSON; a value of the wrong type is treated as absent.

Every reader takes any value and a path of keys, never raises, and returns None (or an empty tuple) if the path does
not exist or leads to another type. `bool` is not an integer.

Most paths are one key of an object, which readers look up themselves: calling `dig` would double their cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, TypeAlias

import msgspec

LARGEST_COUNT: Final = 2**63 - 1
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_COUNT)]
"""The type of `count`'s result, for objects decoded in one step."""
UNFIT: Final = (msgspec.ValidationError, UnicodeEncodeError, TypeError, ValueError, RecursionError)
"""Exceptions of decoding in one step for an unexpected value: of another type, too deep, or with a lone surrogate in
a text or name."""
_LONGEST_INTEGER: Final = 20


def dig(value: object, *path: str) -> object:
    """Return the value at `path`, or None."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(value: object, *path: str) -> str | None:
    """Return the string at `path`, even if empty, or None."""
    found = value.get(path[0]) if len(path) == 1 and isinstance(value, dict) else dig(value, *path)
    return found if isinstance(found, str) else None


def word(value: object, key: str) -> str | None:
    """Return the non-empty string under `key`, or None."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) and found else None


def integer(value: object, *path: str) -> int | None:
    """Return the integer at `path`, or None. Accepts floats without a fraction and digit strings."""
    found = value.get(path[0]) if len(path) == 1 and isinstance(value, dict) else dig(value, *path)
    if isinstance(found, bool):
        return None
    if isinstance(found, int):
        return found
    if isinstance(found, float):
        return int(found) if found.is_integer() else None
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < _LONGEST_INTEGER:
        return int(found)
    return None


def count(value: object, *path: str) -> int | None:
    """Return the integer at `path` if it is a valid count (not negative, for example), or None."""
    found = integer(value, *path)
    return found if found is not None and 0 <= found <= LARGEST_COUNT else None


def number(value: object, *path: str) -> float | None:
    """Return the number at `path`, or None."""
    found = dig(value, *path)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def flag(value: object, *path: str) -> bool | None:
    """Return the boolean at `path`, or None."""
    found = dig(value, *path)
    return found if isinstance(found, bool) else None


def mapping(value: object, *path: str) -> dict[str, object] | None:
    """Return the JSON object at `path` (not a copy), or None."""
    found = value.get(path[0]) if len(path) == 1 and isinstance(value, dict) else dig(value, *path)
    return found if isinstance(found, dict) else None


def items(value: object, *path: str) -> list[object] | tuple[()]:
    """Return the JSON array at `path` (not a copy); empty if there is none."""
    found = value.get(path[0]) if len(path) == 1 and isinstance(value, dict) else dig(value, *path)
    return found if isinstance(found, list) else ()


def of_type(found: object, kind: str) -> dict[str, object] | None:
    """Return the first JSON object of the given `type` in an array, itself and not a copy, or None."""
    if isinstance(found, list):
        for item in found:
            if isinstance(item, dict) and item.get("type") == kind:
                return item
    return None


def objects(value: object, *path: str) -> Iterator[dict[str, object]]:
    """Yield the JSON objects in the array at `path`."""
    for item in items(value, *path):
        if isinstance(item, dict):
            yield item
