"""Packing: replaces JSON text that many calls share by single control characters; a view in SQLite unpacks it.

JSON has no unescaped control characters, so each one unambiguously represents a piece of text. The column
`<name>_packed` of `call_rows` holds the packed text, the column `<name>` of the view `calls` the JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

HASH_BYTES: Final = 20
"""Length of a content's stored hash: 160 bits are enough to be unique, and each hash is stored twice."""
SAME_HASH: Final = f"hash IN ({{value}}, substr({{value}}, 1, {HASH_BYTES}))"
"""Condition that a content has a hash; layout 1 stored the full hash."""
CALL_ROWS: Final = "call_rows"
"""The table behind the view `calls`."""
PACKED: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "usage_raw": {
        '"prompt_tokens":': (
            '},"completion_tokens_details":{"reasoning_tokens":',
            ',"prompt_tokens_details":{"cached_tokens":',
            ',"accepted_prediction_tokens":',
            ',"rejected_prediction_tokens":',
            '{"prompt_tokens":',
            ',"completion_tokens":',
            ',"audio_tokens":',
        ),
        '"input_tokens":': (
            ',"output_tokens_details":{"reasoning_tokens":',
            ',"input_tokens_details":{"cached_tokens":',
            ',"cache_creation":{"ephemeral_5m_input_tokens":',
            ',"ephemeral_1h_input_tokens":',
            ',"cache_creation_input_tokens":',
            ',"cache_read_input_tokens":',
            '{"input_tokens":',
            '"output_tokens":',
            ',"service_tier":"standard"',
            ',"server_tool_use":',
        ),
        "{": (',"total_tokens":',),
    },
    "attempts": {
        '"rate_limits":': (
            ',"rate_limits":{"requests":{"limit":',
            '},"tokens":{"limit":',
            ',"remaining":',
            ',"reset_s":',
            '}},"end_ns":',
        ),
        '"input_tokens":': ('},"input_tokens":{"limit":', '},"output_tokens":{"limit":'),
        "[": ('[{"number":1,"start_ns":', ',"headers_ns":', ',"status":200', ',"request_id":"req_', ',"end_ns":'),
        '"number":2': ('},{"number":', ',"start_ns":', ',"status":', ',"planned_wait_s":', ',"wait_s":'),
        '"error_': (',"error_kind":"', ',"error_type":"'),
    },
    "extra": {
        '"rate_limits":': (
            '"rate_limits":{"requests":{"limit":',
            '},"tokens":{"limit":',
            ',"remaining":',
            ',"reset_s":',
            '}},"request":{"message_count":',
        ),
        '"input_tokens":': ('},"input_tokens":{"limit":', '},"output_tokens":{"limit":'),
        "{": (
            ',"body_bytes":',
            '},"response":{"created":',
            ',"finish_reasons":["stop"]',
            ',"system_fingerprint":"',
            '},"timing":{"answer_ns":',
            ',"headers_ns":',
        ),
        '"first_chunk_ns":': (',"first_chunk_ns":', ',"last_chunk_ns":', ',"largest_gap_ns":'),
        "_prediction_": (
            '},"usage":{"input_audio_tokens":',
            ',"output_audio_tokens":',
            ',"accepted_prediction_tokens":',
            ',"rejected_prediction_tokens":',
        ),
    },
}
"""Columns of `calls` with their pieces in the order in which they are replaced, by a text without which they are not
looked for. Part of the format, never to be edited. At most 24 each: SQLite's parser takes no deeper expressions."""
_KNOWN, _LEARNED = 4, 64
"""Shapes to try, and the maximum to learn: if every value has another shape, learning does not pay."""
_VALUES: Final = re.compile(r"[-+.\w]+")
_CODES: Final = "\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1b\x1c"


class Packer:
    """Packs the JSON of one column. Safe from any thread."""

    def __init__(self, name: str) -> None:
        """`name` is that of the column."""
        codes = dict(_pairs(name))
        self._name = name
        self._groups = [(mark, [(piece, codes[piece]) for piece in pieces]) for mark, pieces in PACKED[name].items()]
        self._known: list[_Known] = []
        self._learned = 0

    def pack(self, json: str) -> str:
        """Return the packed form of this JSON, the inverse of `unpack`."""
        for known in self._known:
            found = known.matches(json)
            if found is not None:
                return known.packed % found.groups()
        packed = json
        for mark, pairs in self._groups:
            if mark in json:
                for piece, code in pairs:
                    packed = packed.replace(piece, code)
        if self._learned < _LEARNED:
            self._learned += 1
            self._known = [self._learn(packed), *self._known[: _KNOWN - 1]]
        return packed

    def _learn(self, packed: str) -> _Known:
        """Return a packer for JSON of this shape with other values; a match takes a third of the replacements' time."""
        constant = _VALUES.split(packed)
        pattern = "([-+.\\w]+)".join(re.escape(unpack(self._name, one)) for one in constant)
        return _Known(re.compile(pattern).fullmatch, "%s".join(one.replace("%", "%%") for one in constant))


class _Known(NamedTuple):
    """JSON of one shape."""

    matches: Callable[[str], re.Match[str] | None]
    packed: str
    """Its packed form, with `%s` for each value."""


def unpack(name: str, text: str) -> str:
    """Return the JSON of a packed column value; unpacked text is returned as it is."""
    if text.isprintable():
        return text
    for piece, code in _pairs(name):
        text = text.replace(code, piece)
    return text


def unpacking(name: str) -> str:
    """Return the SQL expression that unpacks a column."""
    expression = packed(name)
    for piece, code in _pairs(name):
        expression = f"replace({expression}, char({ord(code)}), '{piece}')"
    return expression


def packed(name: str) -> str:
    """Return the name of the packed column."""
    return f"{name}_packed"


@cache
def _pairs(name: str) -> list[tuple[str, str]]:
    pieces = (piece for group in PACKED[name].values() for piece in group)
    return list(zip(pieces, _CODES, strict=False))
