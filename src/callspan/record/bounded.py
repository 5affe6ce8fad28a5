"""Bounded values: truncate text and JSON to a number of bytes, with a note of the original size.

The cost depends on the limit, not on the value: strings are sliced before they are encoded. JSON stays valid, and
characters are never split. Encoded bytes (encrypted content, signatures, base64) are truncated before text.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from callspan.record.codec import encode_json
from callspan.record.plain_json import plain

_ATTEMPTS: Final = 6
_SMALLEST: Final = b"0"
_PER_ITEM: Final = 4
"""Approximate bytes of punctuation per element."""
_UNLIMITED: Final = 1 << 62
_OPAQUE_LIMIT: Final = 32
"""Length to which opaque strings are truncated: enough for the note of their size."""
_MIN_OPAQUE_LENGTH: Final = 128
"""Ids, hashes and words are shorter."""
_SAMPLE_LENGTH: Final = 99
"""Number of characters by which a string is judged."""
_LETTERS: Final = string.ascii_letters + "+/_-"
_BASE64: Final = _LETTERS + string.digits
_SCALARS: Final = frozenset({int, float, bool, type(None)})
"""Types whose values take about `_PER_ITEM` bytes."""
_LISTS: Final = (list, tuple)
"""A constant, because evaluating `list | tuple` takes twice as long as the check."""


def text_attribute(text: str, max_bytes: int) -> str:
    """Return `text` truncated to `max_bytes` of UTF-8, with a note of its original size if it was longer.

    Never splits a character; lone surrogates become U+FFFD.
    """
    if len(text) <= max_bytes and text.isascii():
        return text
    size = _utf8_size(text)
    if size is None:
        return text_attribute(str(plain(text)), max_bytes)
    return text if size <= max_bytes else _cut(text, max_bytes, size)


def json_attribute(value: object, max_bytes: int) -> str:
    """Return `value` as valid JSON of at most `max_bytes` (at least 2) in UTF-8. Never raises.

    Opaque strings are truncated first, then the longest strings, each with a note of its original size. If that is not
    enough, the value becomes `{"callspan_truncated": {"bytes": original size}}`.
    """
    return fit_json(value, max_bytes)[0].decode()


def fit_json(value: object, max_bytes: int, size_bound: int | None = None) -> tuple[bytes, int]:
    """Return the result of `json_attribute` as bytes, and the approximate number of bytes removed.

    `size_bound` is an upper bound of the size of `value`, if known; measuring a small value costs more than encoding.
    """
    limit = 4 * max_bytes
    size: int | None = None
    if (size_bound is not None and size_bound <= limit) or weight(value, limit) <= limit:
        data = encode_json(value)
        size = len(data)
        if size <= max_bytes:
            return data, 0
    return _shrunk(value, max_bytes, size)


def fit_texts(texts: Sequence[str], max_bytes: int) -> list[str]:
    """Return `texts` truncated, the longest first, to about `max_bytes` of UTF-8 in total."""
    sizes = [_utf8_size(text) or len(text) for text in texts]
    if sum(sizes) <= max_bytes:
        return list(texts)
    level = _level(sizes, max(0, max_bytes))
    return [text if size <= level else text_attribute(text, level) for text, size in zip(texts, sizes, strict=True)]


def weight(value: object, limit: int) -> int:
    """Return the approximate size of `value` as JSON in bytes; counts no further than `limit`. Never raises."""
    if isinstance(value, dict):
        total = 2
        for key, item in value.items():
            total += len(key) + _PER_ITEM if isinstance(key, str) else _PER_ITEM
            kind = type(item)
            if kind is str:
                total += len(item) + 2
            else:
                total += _PER_ITEM if kind in _SCALARS else weight(item, limit - total)
            if total > limit:
                break
        return total
    if isinstance(value, _LISTS):
        # The fast path for observations, which are mostly lists of numbers.
        if _SCALARS.issuperset(map(type, value)):
            return 2 + (1 + _PER_ITEM) * len(value)
        total = 2
        for item in value:
            total += 1 + weight(item, limit - total)
            if total > limit:
                break
        return total
    if isinstance(value, str):
        return len(value) + 2
    return len(memoryview(value)) if isinstance(value, msgspec.Raw) else _PER_ITEM


def newest_that_fit(count: int, size: Callable[[int], int], limit: int) -> int:
    """Return the index from which the items of a history are kept, in addition to its first item.

    The first item (often the instructions) and the newest are always kept, and as many of the items before the newest
    as fit into `limit`. 1 or 0 means that everything is kept. Only the sizes of the kept items and one more are
    computed, so that a long history costs no more than a short one.
    """
    if count <= 1:
        return 0
    room = limit - size(0) - size(count - 1)
    start = count - 1
    while start > 1:
        room -= size(start - 1)
        if room < 0:
            break
        start -= 1
    return start


def _utf8_size(text: str) -> int | None:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def _cut(text: str, max_bytes: int, size: int) -> str:
    mark = f"…[cut: {size} bytes]"
    room = max_bytes - len(mark) - 2
    if room < 0:
        return text[:max_bytes].encode()[:max_bytes].decode("utf-8", "ignore")
    return text[:room].encode()[:room].decode("utf-8", "ignore") + mark


def _shrunk(value: object, max_bytes: int, size: int | None) -> tuple[bytes, int]:
    """Truncate opaque strings, then the longest strings, until `value` fits; else replace it by a marker."""
    lengths: list[int] = []
    opaque: list[int] = []
    _collect(value, lengths, opaque)
    total = weight(value, _UNLIMITED)
    size = total if size is None else size
    room = max_bytes - max(0, total - sum(lengths) - sum(opaque))
    for _ in range(_ATTEMPTS):
        if room <= 0 or not (lengths or opaque):
            break
        data = encode_json(_clipped(value, *_levels(lengths, opaque, room)))
        if len(data) <= max_bytes:
            return data, max(1, size - len(data))
        room = min(room - 1, room * max_bytes * 49 // (len(data) * 50))
    data = _marker(size, max_bytes)
    return data, max(1, size - len(data))


def _marker(size: int, max_bytes: int) -> bytes:
    for data in (encode_json({"callspan_truncated": {"bytes": size}}), b"{}", _SMALLEST):
        if len(data) <= max_bytes:
            return data
    return _SMALLEST


def _collect(value: object, lengths: list[int], opaque: list[int]) -> None:
    if isinstance(value, str):
        (opaque if _is_opaque(value) else lengths).append(len(value))
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, lengths, opaque)
    elif isinstance(value, _LISTS):
        for item in value:
            _collect(item, lengths, opaque)


def _is_opaque(text: str) -> bool:
    """Return whether a text looks like base64: its first characters are letters of both cases and digits."""
    if len(text) < _MIN_OPAQUE_LENGTH:
        return False
    start = text.find(",", 0, _MIN_OPAQUE_LENGTH) + 1 if text.startswith("data:") else 0
    head = text[start : start + _SAMPLE_LENGTH]
    return not head.strip(_BASE64) and bool(head.strip(_LETTERS)) and head.lower() != head != head.upper()


def _levels(lengths: list[int], opaque: list[int], room: int) -> tuple[int, int]:
    """Return the lengths to which plain and opaque strings must be truncated to fit into `room` together."""
    if not opaque:
        level = _level(lengths, room)
        return level, level
    left = room - sum(lengths)
    if left >= len(opaque) * _OPAQUE_LIMIT:
        return _UNLIMITED, _level(opaque, left)
    return _level(lengths or [0], max(0, room - len(opaque) * _OPAQUE_LIMIT)), _OPAQUE_LIMIT


def _level(lengths: list[int], room: int) -> int:
    """Return the length to which longer strings must be truncated so that all fit into `room`."""
    ordered = sorted(lengths)
    for position, length in enumerate(ordered):
        share = room // (len(ordered) - position)
        if length > share:
            return share
        room -= length
    return ordered[-1]


def _clipped(value: object, level: int, opaque_level: int) -> object:
    if isinstance(value, str):
        if level != opaque_level and _is_opaque(value):
            return text_attribute(value, opaque_level)
        return value if len(value) <= level and value.isascii() else text_attribute(value, level)
    if isinstance(value, dict):
        return {key: _clipped(item, level, opaque_level) for key, item in value.items()}
    if isinstance(value, _LISTS):
        return [_clipped(item, level, opaque_level) for item in value]
    return value
