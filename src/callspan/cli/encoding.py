"""Encoding: what stdout and stderr cannot encode is replaced, lines and arrows by ASCII ones, never a traceback."""

from __future__ import annotations

import codecs
import io
import re
import sys
from typing import Final

_HANDLER: Final = "callspan.replace"
_STRICT: Final = ("strict", "surrogateescape", "backslashreplace")
"""What Python gives its streams by itself; another choice is the user's own."""
_ASCII: Final = str.maketrans(
    {
        **dict.fromkeys("─━═╌╍╴╶╸╺", "-"),
        **dict.fromkeys("│┃║╎╏╷╵╿", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯┏┓┗┛┣┫╞╡╪", "+"),
        **dict.fromkeys("\N{EN DASH}\N{EM DASH}\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{MINUS SIGN}", "-"),
        **dict.fromkeys("\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}", "'"),
        **dict.fromkeys("\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}", '"'),
        "→": ">",
        "←": "<",
        "…": "~",
        "·": ".",
        "•": "*",
        "✓": "+",
        "✗": "x",
        "\N{NO-BREAK SPACE}": " ",
        "\N{MULTIPLICATION SIGN}": "x",
    }
)
"""One character for one, so that columns stay in line."""
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_BMP: Final = 0xFFFF


def forgive_encodings() -> None:
    """Let both output streams of this process take any text, whatever their encoding."""
    codecs.register_error(_HANDLER, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _STRICT:
            stream.reconfigure(errors=_HANDLER)


def fit(text: str, encoding: str | None) -> str:
    """Return text with every character that the encoding lacks replaced; None is UTF-8."""
    codecs.register_error(_HANDLER, _replaced)
    return text.encode(encoding or "utf-8", _HANDLER).decode(encoding or "utf-8")


def ascii_json(text: str) -> str:
    """Return the same JSON in ASCII alone."""
    return _NOT_ASCII.sub(_escaped, text)


def is_unicode(encoding: str | None) -> bool:
    """Return whether an encoding has every character."""
    return (encoding or "utf-8").lower().replace("_", "-").startswith("utf")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end].translate(_ASCII)
    return _NOT_ASCII.sub("?", lost), error.end


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code <= _BMP:
        return f"\\u{code:04x}"
    high, low = divmod(code - _BMP - 1, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
