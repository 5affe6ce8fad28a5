"""Wire JSON: total readers of it, and copies that share no containers with the caller's objects.

Every reader takes any value and a path of keys, never raises, and returns None (or an empty tuple) if the path does
not exist or leads to another type. `bool` is not an integer.

Most paths are one key of an object, which readers look up themselves: calling `dig` would double their cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias, TypeVar

from callspan.record.codec import encodable
from callspan.record.plain_json import plain

Json: TypeAlias = dict[str, Any]
"""A JSON object."""
LARGEST_COUNT: Final = 2**63 - 1
"""Maximum result of `count`."""
_NS: Final = 1_000_000_000
_END_S: Final = 2**63 // _NS
_MAX_INTEGER_LENGTH: Final = 20
_MAX_FLOAT_BITS: Final = 1023
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
"""An SDK also takes members of an `Enum` that are strings or numbers; a copy has their values."""
_LISTS: Final = (list, tuple)
_JSON_KEYS: Final = {True: "true", False: "false", None: "null"}
_MAX_DEPTH: Final = 64
_T = TypeVar("_T")


def dig(value: object, *path: str) -> object:
    """Return the value at `path`, or None."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(value: object, *path: str) -> str | None:
    """Return the string at `path`, even if empty, or None; U+FFFD replaces lone surrogates."""
    member = value.get(path[0]) if len(path) == 1 and isinstance(value, dict) else dig(value, *path)
    # Most texts are ASCII and need no Python function call.
    if type(member) is str and member.isascii():
        return member
    return encodable(member) if isinstance(member, str) else None


def word(value: object, key: str) -> str | None:
    """Return the non-empty string under `key`, or None; U+FFFD replaces lone surrogates."""
    member = value.get(key) if isinstance(value, dict) else None
    if type(member) is str and member.isascii():
        return member or None
    return (encodable(member) or None) if isinstance(member, str) else None


def unix_ns(seconds: object) -> int | None:
    """Return a provider's Unix time in seconds as nanoseconds; None unless it is between 1970 and 2262."""
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        return None
    return seconds * _NS if 0 < seconds < _END_S else None


def integer(value: object, *path: str) -> int | None:
    """Return the integer at `path`; None for any other value and for those that 64 bits cannot hold.

    Accepts floats without a fraction and digit strings.
    """
    member = value.get(path[0]) if len(path) == 1 and isinstance(value, dict) else dig(value, *path)
    if isinstance(member, bool):
        return None
    if isinstance(member, float):
        member = int(member) if member.is_integer() else None
    elif isinstance(member, str):
        digits = member.removeprefix("-")
        is_number = digits.isascii() and digits.isdigit() and len(digits) < _MAX_INTEGER_LENGTH
        member = int(member) if is_number else None
    return member if isinstance(member, int) and -LARGEST_COUNT <= member <= LARGEST_COUNT else None


def count(value: object, *path: str) -> int | None:
    """Return the integer at `path` if it is a valid count (not negative, for example), or None."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return None
    member = value if type(value) is int else integer(value)
    return member if member is not None and 0 <= member <= LARGEST_COUNT else None


def number(value: object, *path: str) -> float | None:
    """Return the number at `path`, or None."""
    member = dig(value, *path)
    if isinstance(member, int) and not isinstance(member, bool):
        return float(member) if member.bit_length() <= _MAX_FLOAT_BITS else None
    return member if isinstance(member, float) else None


def flag(value: object, *path: str) -> bool | None:
    """Return the boolean at `path`, or None."""
    member = dig(value, *path)
    return member if isinstance(member, bool) else None


def mapping(value: object, *path: str) -> dict[str, object] | None:
    """Return the JSON object at `path` (not a copy), or None."""
    member = value.get(path[0]) if len(path) == 1 and isinstance(value, dict) else dig(value, *path)
    return member if isinstance(member, dict) else None


def items(value: object, *path: str) -> list[object] | tuple[()]:
    """Return the JSON array at `path` (not a copy); empty if the path has no array."""
    member = value.get(path[0]) if len(path) == 1 and isinstance(value, dict) else dig(value, *path)
    return member if isinstance(member, list) else ()


def of_type(array: object, kind: str) -> dict[str, object] | None:
    """Return the first JSON object of the given `type` in an array (not a copy), or None."""
    if isinstance(array, list):
        for item in array:
            if isinstance(item, dict) and item.get("type") == kind:
                return item
    return None


def objects(value: object, *path: str) -> Iterator[dict[str, object]]:
    """Yield the JSON objects in the array at `path`."""
    for item in items(value, *path):
        if isinstance(item, dict):
            yield item


def detached(value: _T) -> _T:
    """Return a deep copy of a JSON value in its wire form: tuples become lists, keys strings.

    Plain strings are unchanged; subclasses of plain types, such as members of an `Enum`, become plain. Values that are
    not JSON are converted, see `plain`. Below 64 levels a note replaces the rest.
    """
    return value if type(value) in _SCALARS else _copied(value, 0)  # type: ignore[return-value] # the same JSON


def detached_object(value: dict[str, object], depth: int = 0) -> dict[str, object]:
    """Return a deep copy of a JSON object, see `detached`."""
    # Most items are scalars under string keys, which need no function call.
    return {
        key if type(key) is str else _key(key): item if type(item) in _SCALARS else _copied(item, depth + 1)
        for key, item in value.items()
    }


def _copied(value: object, depth: int) -> object:
    if depth >= _MAX_DEPTH:
        return "<too deep>"
    if isinstance(value, dict):
        return detached_object(value, depth)
    if isinstance(value, _LISTS):
        return [item if type(item) in _SCALARS else _copied(item, depth + 1) for item in value]
    return plain(value, depth)


def _key(key: object) -> str:
    """Return a key as the standard library's JSON encoder writes it."""
    if isinstance(key, str):
        return str.__str__(key)
    return _JSON_KEYS[key] if key is None or isinstance(key, bool) else str(key)
