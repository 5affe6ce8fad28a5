"""Safe text: removes terminal control sequences from recorded text."""

from __future__ import annotations

import re
from typing import Final

_JOINERS: Final = "\u200c\u200d"
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb"
    f"\U000e0000-\U000e007f]|(?<![^\x00-\x7f])[{_JOINERS}]|[{_JOINERS}](?![^\x00-\x7f{_JOINERS}])"
)
"""Joiners belong to the spelling of Persian, Indic scripts and emoji: they stay between characters beyond ASCII."""
_UNSAFE_IN_LINES: Final = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))


def clean(text: str) -> str:
    """Return text safe for one terminal line: line ends become spaces, other control characters are removed.

    Bidirectional controls and zero-width characters are removed too, because they hide text.
    """
    return _UNSAFE.sub(_safe, text)


def clean_lines(text: str) -> str:
    """Return text safe for a terminal, keeping line ends."""
    return _UNSAFE_IN_LINES.sub(_safe, text)


def whole_characters(text: str) -> str:
    """Return text without surrogates (undecodable bytes), which no store accepts."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _safe(found: re.Match[str]) -> str:
    return " " if found[0] in "\n\t" else "" if found[0] == "\r" else "\N{REPLACEMENT CHARACTER}"
