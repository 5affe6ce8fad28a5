"""Safe text: removes terminal control sequences from recorded text, and characters the output encoding lacks.

Characters that stdout or stderr cannot encode are replaced, box drawing and arrows by ASCII characters.
"""

from __future__ import annotations

import codecs
import io
import re
import sys
from typing import Final

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
_UNSAFE_IN_LINES: Final = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
_HANDLER: Final = "callspan.replace"
_STRICT: Final = ("strict", "surrogateescape", "backslashreplace")
"""Python's default error handlers of the standard streams; any other was chosen by the user."""
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
"""One character each, so that columns stay aligned."""
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_BMP: Final = 0xFFFF


def clean(text: str) -> str:
    """Return text safe for one terminal line: line ends become spaces, other control characters are removed.

    Bidirectional controls and zero-width characters are removed too, because they hide what is written.
    """
    return _UNSAFE.sub(_safe, text)


def clean_lines(text: str) -> str:
    """Return text safe for a terminal, with its line ends kept."""
    return _UNSAFE_IN_LINES.sub(_safe, text)


def whole_characters(value: object) -> object:
    """Return an option's value without surrogates (undecodable bytes), which no store accepts."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return tuple(map(whole_characters, value)) if isinstance(value, tuple) else value


def _safe(found: re.Match[str]) -> str:
    return " " if found[0] in "\n\t" else "" if found[0] == "\r" else "\N{REPLACEMENT CHARACTER}"


def replace_unencodable() -> None:
    """Make stdout and stderr replace characters that their encoding lacks instead of raising."""
    codecs.register_error(_HANDLER, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _STRICT:
            stream.reconfigure(errors=_HANDLER)


def ascii_json(text: str) -> str:
    """Return the same JSON with all non-ASCII characters escaped."""
    return _NOT_ASCII.sub(_escaped, text)


def is_unicode(encoding: str | None) -> bool:
    """Return whether an encoding covers all of Unicode."""
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
