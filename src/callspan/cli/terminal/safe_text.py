"""Safe text: removes terminal control sequences from recorded text."""

from __future__ import annotations

import re
from typing import Final

from callspan.formatting import INVISIBLE

_UNSAFE: Final = re.compile(f"[\t\n]|{INVISIBLE}")
_UNSAFE_IN_LINES: Final = re.compile(f"\t|{INVISIBLE}")


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


def _safe(match: re.Match[str]) -> str:
    return " " if match[0] in "\n\t" else "" if match[0] == "\r" else "\N{REPLACEMENT CHARACTER}"
