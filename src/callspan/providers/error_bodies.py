"""Error bodies: as much of them as a record keeps, what is left out marked."""

from __future__ import annotations

from typing import Final

from callspan.safe_urls import whole_words

MAX_MESSAGE_BYTES: Final = 4096
"""Longest text of an error that an ErrorInfo keeps, in UTF-8."""
MAX_BODY_BYTES: Final = 4 * MAX_MESSAGE_BYTES
"""How much of a parsed error body an ErrorInfo keeps, in UTF-8, counted roughly: texts, keys and a few per value."""
MAX_WORD_BYTES: Final = 256
"""Longest type, code or id that an ErrorInfo keeps."""

_PER_VALUE: Final = 8
_CUT: Final = "…"


def capped(text: str, most: int = MAX_MESSAGE_BYTES) -> str:
    """Return the text, or its beginning in at most `most` bytes of UTF-8, which then ends in `…`.

    The word that is cut is left out: half a secret is not recognised as one when the record is searched for secrets.
    """
    if len(text) * 4 <= most:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= most:
        return text
    kept = encoded[: max(0, most - 3)].decode("utf-8", "ignore")
    return whole_words(kept, len(kept)) + _CUT


def capped_body(body: object) -> object:
    """Return JSON values with long texts cut as messages are, and no more items than fit into `MAX_BODY_BYTES`.

    Where items of a list or a mapping are left out, `…` stands in their place with their number.
    """
    return _Room(MAX_BODY_BYTES).fitted(body)


class _Room:
    """How many bytes of a body may still be kept."""

    def __init__(self, bytes_left: int) -> None:
        self._left = bytes_left

    def fitted(self, value: object) -> object:
        """Return as much of the value as there is room for."""
        if isinstance(value, str):
            return self._text(value)
        self._left -= _PER_VALUE
        if isinstance(value, dict):
            return self._mapping(value)
        return self._list(value) if isinstance(value, list) else value

    def _text(self, text: str) -> str:
        kept = capped(text, max(0, min(MAX_MESSAGE_BYTES, self._left)))
        self._left -= _PER_VALUE + len(kept.encode("utf-8", "replace"))
        return kept

    def _mapping(self, items: dict[object, object]) -> dict[object, object]:
        kept: dict[object, object] = {}
        for key, item in items.items():
            if self._left <= 0:
                kept[_CUT] = len(items) - len(kept)
                break
            name = self._text(key) if isinstance(key, str) else key
            kept[name] = self.fitted(item)
        return kept

    def _list(self, items: list[object]) -> list[object]:
        kept: list[object] = []
        for item in items:
            if self._left <= 0:
                return [*kept, f"{_CUT} {len(items) - len(kept)}"]
            kept.append(self.fitted(item))
        return kept
