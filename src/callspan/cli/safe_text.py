"""Safe text: recorded text and arguments without what could command a terminal."""

from __future__ import annotations

import re
from typing import Final

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
_UNSAFE_IN_LINES: Final = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))


def clean(text: str) -> str:
    """Return text fit for one line of a terminal: line ends become spaces, other control characters go away.

    Also gone: what turns the direction of writing round or has no width, for it hides what is there.
    """
    return _UNSAFE.sub(_replacement, text)


def clean_lines(text: str) -> str:
    """Return text fit for a terminal with its line ends kept."""
    return _UNSAFE_IN_LINES.sub(_replacement, text)


def whole_characters(value: object) -> object:
    """Return an option's value without surrogates: they stand for bytes that are no text, which no store takes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return tuple(map(whole_characters, value)) if isinstance(value, tuple) else value


def _replacement(found: re.Match[str]) -> str:
    return " " if found[0] in "\n\t" else "" if found[0] == "\r" else "\N{REPLACEMENT CHARACTER}"
