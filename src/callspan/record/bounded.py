"""Bounded values: truncate text and JSON to a number of bytes, with a note of the original size.

The cost depends on the limit, not on the value: strings are sliced before they are encoded. JSON stays valid, and
characters are never split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from callspan.record.codec import encode_json
from callspan.record.plain_json import TRUNCATED_KEY, plain

_ATTEMPTS: Final = 6
EMPTY: Final = b"{}"
"""The result of a truncation that has no room even for a note."""
_PER_ITEM: Final = 4
"""Approximate bytes of punctuation per element."""
_UNLIMITED: Final = 1 << 62
_BACKGROUND: Final = (
    "_tool_result", "server_tool_call_response", "web_search_call", "file_search_call", "code_interpreter_call",
    "mcp_call", "mcp_list_tools",
)  # fmt: skip
"""Endings of the types of objects with what a server searched or ran, which a person reads after the answer."""
_MAX_SHARE: Final = 2
"""An item larger than 1/2 of the limit counts as 1/2: it is truncated, not omitted."""
_SCALARS: Final = frozenset({int, float, bool, type(None)})
"""Types with values of about `_PER_ITEM` bytes."""
_LISTS: Final = (list, tuple)


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


def fit_json(value: object, max_bytes: int, size_bound: int | None = None) -> tuple[bytes, int]:
    """Return `value` as valid JSON of at most `max_bytes` (at least 2), and the approximate number of bytes removed.

    Results of hosted tools are cut first, to the room that the rest leaves them; then the longest strings, each with a
    note of its original size. If that is not enough, the value becomes
    `{"callspan_truncated": {"bytes": original size}}`. Never raises.

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


def weight(value: object, limit: int) -> int:
    """Return the approximate size of `value` as JSON in bytes; counts no further than `limit`. Never raises."""
    if isinstance(value, dict):
        total = 2
        for key, item in value.items():
            total += len(key) + _PER_ITEM if type(key) is str else _PER_ITEM
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
    """Return the index of the first item of a history that is kept after its very first one.

    The first item (often the instructions) and the newest are always kept, and as many of the items before the newest
    as fit into `limit`. 1 or 0 means that everything is kept. Only the sizes of the kept items and one more are
    computed, so that a long history costs no more than a short one.
    """
    if count <= 1:
        return 0
    share = limit // _MAX_SHARE
    room = limit - min(share, size(0)) - min(share, size(count - 1))
    start = count - 1
    while start > 1:
        room -= min(share, size(start - 1))
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
    """Return `value` within `max_bytes`: first with less of what servers searched or ran, then with shorter strings."""
    size = weight(value, _UNLIMITED) if size is None else size
    return _with_shorter_strings(_with_less_background(value, max_bytes), max_bytes, size)


def _with_less_background(value: object, max_bytes: int) -> object:
    """Return `value` with results of hosted tools cut to the room that the rest leaves them."""
    sizes = [weight(result, _UNLIMITED) for result in _background_in(value)]
    if not sizes:
        return value
    room = max_bytes - (weight(value, _UNLIMITED) - sum(sizes))
    return _with_background(value, _level(sizes, room) if room > 0 else 0)


def _background_in(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, dict):
        if _is_background(value):
            yield value
        else:
            for item in value.values():
                yield from _background_in(item)
    elif isinstance(value, _LISTS):
        for item in value:
            yield from _background_in(item)


def _is_background(value: dict[str, object]) -> bool:
    kind = value.get("type")
    return isinstance(kind, str) and kind.endswith(_BACKGROUND)


def _with_background(value: object, share: int) -> object:
    """Return `value` with each result of a hosted tool cut to about `share` bytes; its type always stays."""
    if isinstance(value, dict) and not _is_background(value):
        return {key: _with_background(item, share) for key, item in value.items()}
    if isinstance(value, _LISTS):
        return [_with_background(item, share) for item in value]
    if not isinstance(value, dict) or (size := weight(value, _UNLIMITED)) <= share:
        return value
    data, _ = _with_shorter_strings(value, max(share, 2), size)
    shortened = msgspec.json.decode(data)
    return {"type": value["type"], **shortened}


def _with_shorter_strings(value: object, max_bytes: int, size: int) -> tuple[bytes, int]:
    """Truncate the longest strings until `value` fits; else replace it by a marker."""
    lengths: list[int] = []
    _collect(value, lengths)
    total = weight(value, _UNLIMITED)
    room = max_bytes - max(0, total - sum(lengths))
    for _ in range(_ATTEMPTS):
        if room <= 0 or not lengths:
            break
        data = encode_json(_clipped(value, _level(lengths, room)))
        if len(data) <= max_bytes:
            return data, max(1, size - len(data))
        room = min(room - 1, room * max_bytes * 49 // (len(data) * 50))
    data = _marker(size, max_bytes)
    return data, max(1, size - len(data))


def _marker(size: int, max_bytes: int) -> bytes:
    marker = encode_json({TRUNCATED_KEY: {"bytes": size}})
    return marker if len(marker) <= max_bytes else EMPTY


def _collect(value: object, lengths: list[int]) -> None:
    if isinstance(value, str):
        lengths.append(len(value))
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, lengths)
    elif isinstance(value, _LISTS):
        for item in value:
            _collect(item, lengths)


def _level(lengths: list[int], room: int) -> int:
    """Return the maximum length of a string so that all fit into `room`."""
    ordered = sorted(lengths)
    for position, length in enumerate(ordered):
        share = room // (len(ordered) - position)
        if length > share:
            return share
        room -= length
    return ordered[-1]


def _clipped(value: object, level: int) -> object:
    if isinstance(value, str):
        return value if len(value) <= level and value.isascii() else text_attribute(value, level)
    if isinstance(value, dict):
        return {key: _clipped(item, level) for key, item in value.items()}
    if isinstance(value, _LISTS):
        return [_clipped(item, level) for item in value]
    return value
