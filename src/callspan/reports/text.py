"""Text of the page: recorded text made safe for HTML, attributes and scripts."""

from __future__ import annotations

import html
import re
from typing import Final

import msgspec

_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
_SPACES: Final = re.compile(r"\s+")
_SCRIPT_ENDS: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def shown(text: str, limit: int | None = None) -> str:
    """Return recorded text on one line without control characters or what turns the direction of writing round."""
    if limit is not None:
        text = text[: limit * 2]
    text = _SPACES.sub(" ", _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text)).strip()
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def escaped(text: object) -> str:
    """Return text for HTML content and quoted attributes."""
    return html.escape(shown(str(text)), quote=True)


def json_block(value: object) -> str:
    """Return JSON that may stand inside a script element: nothing in it ends the element or starts another."""
    text = msgspec.json.encode(value).decode()
    for character, instead in _SCRIPT_ENDS.items():
        text = text.replace(character, instead)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
