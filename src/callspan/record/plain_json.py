"""Plain JSON: converts any value to dicts, lists, strings and finite numbers of bounded depth and length."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from typing import Any, Final, TypeVar

import msgspec

from callspan.runtime.fail_open import value_of
from callspan.runtime.safe_urls import whole_words

_MAX_DEPTH: Final = 64
_MAX_VALUES: Final = 1_000_000
"""Sixty nested lists, each twice in the next, would otherwise expand without end."""
MAX_GIVEN: Final = 100_000
"""Maximum number of values in one value that the application gives, which its thread converts."""
TRUNCATED_KEY: Final = "callspan_truncated"
"""Key of the note that stands for what was left out."""
_MAX_BITS: Final = 2_126
"""640 decimal digits, the lowest limit that `sys.set_int_max_str_digits` allows."""
_MAX_REPR: Final = 200
_JSON_METHODS: Final = ("model_dump", "to_dict", "tolist", "isoformat")
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_NUMBERS: Final = frozenset({int, float})
_LISTS: Final = (list, tuple, set, frozenset)
_BYTES: Final = (bytes, bytearray, memoryview)
_ONLY_INTEGERS: Final = frozenset({int})
_ONLY_FLOATS: Final = frozenset({float})
_ONLY_LISTS: Final = frozenset({list})
_COPY_DEPTH: Final = 2
"""Maximum depth of dicts that are copied without a check for cycles."""
_MAX_COPIED_ITEMS: Final = 16
_MAX_DIMENSIONS: Final = 8
_MIN_INTEGER, _INTEGER_LIMIT = -(2**63), 2**63
_T = TypeVar("_T")


def plain(value: object, depth: int = 0, *, keep_raw: bool = False) -> object:
    """Return `value` as new plain JSON: dict, list, str, int, float, bool, None.

    Lone surrogates and NUL become U+FFFD, NaN and infinities None, bytes text (base64 if they are not UTF-8), integers
    of more than 640 digits hexadecimal text. A value that contains itself, is more than 64 levels deep or has no JSON
    form becomes a short description; what exceeds a million values is left out, see `plain_within`. Never raises,
    whatever the methods of `value` do.

    `depth` is the nesting depth of `value`. `keep_raw` leaves `msgspec.Raw` unchanged, for records.
    """
    if type(value) is dict and (copied := _copied(value, _COPY_DEPTH)) is not None:
        return copied
    return None if value is None else _Converter(keep_raw).value(value, depth)


def plain_within(value: object, max_values: int = MAX_GIVEN) -> tuple[object, bool]:
    """Return `value` as plain JSON with at most `max_values` members and items, and whether anything was left out.

    Each shortened dict or list ends with `{"callspan_truncated": {"values": number}}`. A list of numbers is one value.
    """
    if type(value) is dict and (copied := _copied(value, _COPY_DEPTH)) is not None:
        return copied, TRUNCATED_KEY in value
    if value is None:
        return None, False
    converter = _Converter(max_values=max_values)
    return converter.value(value, 0), converter.is_cut


def _copied(value: dict[Any, Any], depth: int) -> object:
    """Return a copy of a small dict with only plain values, else None."""
    copied = value.copy()  # atomic: another thread may change the original
    if len(copied) > _MAX_COPIED_ITEMS:
        return None
    for key, item in copied.items():
        if type(key) is not str or not key.isascii() or "\0" in key:
            return None
        kind = type(item)
        if kind is str:
            if not item.isascii() or "\0" in item:
                return None
        elif kind is dict and depth and (inner := _copied(item, depth - 1)) is not None:
            copied[key] = inner
        elif kind is list and _are_numbers(numbers := item.copy()):
            copied[key] = numbers
        elif not (item is None or kind is bool or (kind in _NUMBERS and _MIN_INTEGER <= item < _INTEGER_LIMIT)):
            return None
    return copied


class _Converter:
    __slots__ = ("_ancestors", "_in_list", "_keep_raw", "_remaining", "is_cut")

    def __init__(self, keep_raw: bool = False, max_values: int = _MAX_VALUES) -> None:
        self._keep_raw = keep_raw
        self._remaining = max_values
        self.is_cut = False
        """Whether anything was left out, now or before."""
        self._ancestors: set[int] = set()
        """Ids of the containers around the current value."""
        self._in_list = False
        """Whether an enclosing list was found not to be an array of numbers."""

    def value(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool):
            return value
        if type(value) is list and _are_numbers(value):
            return value.copy()
        # The encoder accepts only the plain types, so a subclass (a NumPy float) is converted.
        if isinstance(value, str):
            return clean(str.__str__(value))
        if isinstance(value, int):
            return _integer(int.__index__(value))
        if isinstance(value, float):
            return float.__float__(value) if math.isfinite(value) else None
        if isinstance(value, msgspec.Raw) and self._keep_raw:
            return value
        if depth >= _MAX_DEPTH:
            return "<too deep>"
        return self._container(value, depth)

    def _container(self, value: object, depth: int) -> object:
        identity = id(value)
        if identity in self._ancestors:
            return "<cycle>"
        self._ancestors.add(identity)
        in_list = self._in_list
        try:
            if isinstance(value, Mapping):
                self._in_list = False
                return self._object(value, depth)
            if isinstance(value, _LISTS):
                if type(value) is list and not self._in_list and _is_array(value):
                    return msgspec.json.decode(msgspec.json.encode(value))
                self._in_list = True
                return self._list(value, depth)
            if isinstance(value, _BYTES):
                return _bytes(bytes(value))
            return self._other(value, depth)
        finally:
            self._in_list = in_list
            self._ancestors.discard(identity)

    def _object(self, value: Mapping[object, object], depth: int) -> object:
        items = value_of(lambda: self._limited(dict.items(value) if isinstance(value, dict) else value.items()))
        if items is None:
            return _description(value)
        converted: dict[str, object] = {}
        for key, item in self._within_limit(items):
            converted[_key(key)] = self.value(item, depth + 1)
        if left_out := self._left_out(value, len(converted)):
            converted[TRUNCATED_KEY] = left_out
        self.is_cut = self.is_cut or TRUNCATED_KEY in converted
        return converted

    def _list(self, value: Collection[object], depth: int) -> object:
        items = value_of(lambda: self._limited(value))
        if items is None:
            return _description(value)
        converted = [self.value(item, depth + 1) for item in self._within_limit(items)]
        if left_out := self._left_out(value, len(converted)):
            self.is_cut = True
            converted.append({TRUNCATED_KEY: left_out})
        return converted

    def _limited(self, values: Iterable[_T]) -> list[_T]:
        """Return at most as many values as the limit of the whole conversion still allows."""
        return list(islice(values, self._remaining))

    def _within_limit(self, values: list[_T]) -> Iterator[_T]:
        """Yield values until the limit of the whole conversion is reached, by the contents of earlier ones too."""
        for value in values:
            if self._remaining <= 0:
                break
            self._remaining -= 1
            yield value

    def _left_out(self, value: Collection[object], number_kept: int) -> dict[str, int] | None:
        """Return the note of how many values of a dict or list were left out; None if the limit is not reached."""
        count = value_of(partial(len, value)) if self._remaining <= 0 else None
        return None if count is None or count <= number_kept else {"values": count - number_kept}

    def _other(self, value: object, depth: int) -> object:
        """Return an object's own JSON form if it has one, else its description."""
        if isinstance(value, msgspec.Raw):
            return self.value(value_of(partial(msgspec.json.decode, value)) or bytes(value), depth + 1)
        if isinstance(value, msgspec.Struct):
            return self._fields(value, depth)
        for name in _JSON_METHODS if not isinstance(value, type) else ():
            method = value_of(partial(getattr, value, name, None))
            dumped = value_of(method) if callable(method) else None
            if isinstance(dumped, dict | list | str | int | float):
                return self.value(dumped, depth + 1)
        built = value_of(partial(msgspec.to_builtins, value, str_keys=True))
        return _description(value) if built is None or built is value else self.value(built, depth + 1)

    def _fields(self, struct: msgspec.Struct, depth: int) -> dict[str, object]:
        config = type(struct).__struct_config__
        fields: dict[str, object] = {} if config.tag_field is None else {config.tag_field: config.tag}
        for field in msgspec.structs.fields(struct):
            value = getattr(struct, field.name)
            if value is not field.default:
                fields[field.encode_name] = self.value(value, depth + 1)
        return fields


def _are_numbers(values: list[Any]) -> bool:
    """Return whether all values are finite floats, or all are 64-bit integers, as in most observations."""
    kinds = set(map(type, values))
    if kinds == _ONLY_INTEGERS:
        return bool(min(values) >= _MIN_INTEGER and max(values) <= _INTEGER_LIMIT)
    return kinds == _ONLY_FLOATS and all(map(math.isfinite, values))


def _is_array(values: list[Any]) -> bool:
    """Return whether these are nested lists of numbers, at most a million."""
    for _ in range(_MAX_DIMENSIONS):
        if set(map(type, values)) != _ONLY_LISTS or sum(map(len, values)) > _MAX_VALUES:
            break
        values = list(chain.from_iterable(values))
    return _are_numbers(values)


def _bytes(value: bytes) -> str:
    try:
        return clean(value.decode())
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _integer(value: int) -> int | str:
    # Conversion to hexadecimal takes linear time, conversion to decimal quadratic time.
    return value if value.bit_length() <= _MAX_BITS else hex(value)


def _key(key: object) -> str:
    if isinstance(key, str):
        return clean(str.__str__(key))
    if isinstance(key, int) and not isinstance(key, bool):
        return str(_integer(int.__index__(key)))
    text = value_of(partial(str, key))
    return _description(key) if text is None else clean(text)


def _description(value: object) -> str:
    text = value_of(partial(repr, value)) or f"<{type(value).__name__}>"
    return clean(text if len(text) <= _MAX_REPR else whole_words(text, _MAX_REPR) + "…")


def clean(text: str) -> str:
    """Return the text with U+FFFD in place of lone surrogates and NUL, which stores reject."""
    return text if text.isascii() and "\0" not in text else _UNSTORABLE.sub("\ufffd", text)
