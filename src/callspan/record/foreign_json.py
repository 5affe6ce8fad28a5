"""Foreign JSON: a reader of JSON that other programs wrote, as leniently as they write it.

JavaScript cuts strings within an emoji and sends the half; Python writes NaN; others nest without end. A strict reader
would lose all of a text for one character. Here what has no meaning is replaced, and counted, and the rest is read.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from itertools import islice
from typing import Final, NamedTuple

import msgspec

CHARACTERS: Final = "characters that are no Unicode"
NUMBERS: Final = "numbers that have no value"
BRANCHES: Final = "values that are nested too deeply"
_REPLACEMENT: Final = "\ufffd"
_MAX_DEPTH: Final = 200
_MAX_DIGITS: Final = 640
"""The lowest limit that `sys.set_int_max_str_digits` allows."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MAX_STEPS: Final = 1_000_000
"""Strings and runs of brackets of a text that is too deep; one with more is not read."""
_STRING_OR_BRACKETS: Final = re.compile(r'"[^"]*"|[\[{]+|[\]}]+')
_OPENERS: Final = "[{"
_VALUE: Final = re.compile(rb'"[^"]*"|[\[{,]')
_COUNTED: Final = (b'"', b",", b"{", b"[")


class ForeignValue(NamedTuple):
    """The value of foreign JSON, and the numbers of parts that could not be read."""

    value: object
    replaced: Counter[str]
    """Numbers of replaced parts, by kind: characters by U+FFFD, all others by None."""


def read_json(data: bytes | str) -> ForeignValue | None:
    """Return the value in a text; None if it is not JSON, or empty. Never raises.

    Lone surrogates, also as bytes, and bytes that are no UTF-8 are replaced, as are NaN, infinities, numbers of more
    than 640 digits, and values below 200 levels if they are too deep for the interpreter. Strings may have line breaks.
    """
    try:
        return ForeignValue(msgspec.json.decode(data), Counter())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    reader = _Reader()
    try:
        return ForeignValue(reader.value(reader.text(data)), reader.replaced)
    except (ValueError, RecursionError):
        return None


def has_more_values(data: bytes, most: int) -> bool:
    """Return whether JSON has more objects, arrays, strings and other items than that. Makes none of them."""
    if len(data) <= most:
        return False
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # With those in strings, such as bodies, which are no values.
    if sum(map(bare.count, _COUNTED)) <= most:
        return False
    return sum(1 for _ in islice(_VALUE.finditer(bare), most + 1)) > most


def read_text(data: bytes, encoding: str = "utf-8") -> tuple[str, int]:
    """Return a text without lone surrogates, and the number of characters that were replaced. Never raises."""
    try:
        return data.decode(encoding), 0
    except UnicodeDecodeError:
        pass
    try:
        return _joined(data.decode(encoding, "surrogatepass"))
    except UnicodeDecodeError:
        text = data.decode(encoding, "replace")
        return text, text.count(_REPLACEMENT) - data.count(_REPLACEMENT.encode(encoding))


def _joined(text: str) -> tuple[str, int]:
    """Return a text with joined surrogate pairs, such as an emoji in CESU-8, and the number of surrogates replaced."""
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return joined, joined.count(_REPLACEMENT) - text.count(_REPLACEMENT)


class _Reader:
    def __init__(self) -> None:
        self.replaced: Counter[str] = Counter()

    def text(self, data: bytes | str) -> str:
        """Return the text of bytes."""
        if isinstance(data, str):
            return data
        text, replaced = read_text(data, json.detect_encoding(data))
        self._count(CHARACTERS, replaced)
        return text

    def _count(self, kind: str, number: int = 1) -> None:
        if number:
            self.replaced[kind] += number

    def value(self, text: str) -> object:
        """Return the value of JSON. Raises ValueError, RecursionError."""
        try:
            return self._mended(self._loads(text))
        except RecursionError:
            self.replaced.pop(NUMBERS, None)  # counted again
            return self._mended(self._loads(self._without_deep_values(text)))

    def _loads(self, text: str) -> object:
        return json.loads(
            text, strict=False, parse_int=self._integer, parse_float=self._float, parse_constant=self._float
        )

    def _integer(self, digits: str) -> int | None:
        if len(digits) <= _MAX_DIGITS:
            return int(digits)
        self._count(NUMBERS)
        return None

    def _float(self, digits: str) -> float | None:
        number = float(digits)
        if math.isfinite(number):
            return number
        self._count(NUMBERS)
        return None

    def _without_deep_values(self, text: str) -> str:
        """Return JSON with null in place of all that is too deep. Raises ValueError if that takes too many steps."""
        parts, depth, kept_to = [], 0, 0
        bare = text.replace("\\\\", "__").replace('\\"', "__")
        for step, match in enumerate(_STRING_OR_BRACKETS.finditer(bare)):
            if step == _MAX_STEPS:
                raise ValueError("too many brackets")
            token = match[0]
            if token[0] in _OPENERS:
                if depth < _MAX_DEPTH <= depth + len(token):
                    parts.append(text[kept_to : match.start() + _MAX_DEPTH - depth - 1])
                depth += len(token)
            elif token[0] != '"':
                if depth >= _MAX_DEPTH > depth - len(token):
                    parts.append("null")
                    self._count(BRANCHES)
                    kept_to = match.start() + depth - _MAX_DEPTH + 1
                depth -= len(token)
        return "".join([*parts, text[kept_to:]])

    def _mended(self, tree: object) -> object:
        """Replace the lone surrogates in all strings of a tree, which is changed."""
        root = [tree]
        unread: list[list[object] | dict[str, object]] = [root]
        while unread:
            node = unread.pop()
            if isinstance(node, dict):
                for key in [key for key in node if _SURROGATE.search(key)]:
                    node[self._joined(key)] = node.pop(key)
            for place, item in node.items() if isinstance(node, dict) else enumerate(node):
                if isinstance(item, str):
                    if _SURROGATE.search(item):
                        node[place] = self._joined(item)  # type: ignore[index]  # the place of an item
                elif isinstance(item, list | dict):
                    unread.append(item)
        return root[0]

    def _joined(self, text: str) -> str:
        joined, replaced = _joined(text)
        self._count(CHARACTERS, replaced)
        return joined
