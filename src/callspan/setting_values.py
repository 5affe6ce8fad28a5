"""Setting values: what a value of each kind of setting may be, given as an argument or as text of the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias, cast, get_args

Parse: TypeAlias = Callable[[object], object]
"""From a text of the environment, or an argument, to the setting's value. Raises InvalidValueError."""

KIB: Final = 1024
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", "none"})
_UNITS: Final = {"k": KIB, "m": KIB**2, "g": KIB**3}
_LARGEST: Final = 2**62
_DIGITS: Final = re.compile("[0-9]{1,18}", re.ASCII)
_SHOWN: Final = re.compile(r"[A-Za-z_., -]{1,24}|-?[0-9.]{1,20}[A-Za-z]{0,2}")
_URL_START: Final = re.compile(r"\w[\w+.-]*://")
_FILE_URL: Final = re.compile(r"(?:sqlite3?|jsonl|unix|console)(?:\+\w+)?://", re.IGNORECASE)
_FILE_SUFFIXES: Final = (".db", ".sqlite", ".sqlite3", ".jsonl", ".ndjson")


class SettingError(ValueError):
    """A setting has an invalid value. The message names the setting and what it may be.

    Example:
        >>> callspan.instrument(content="everything")
        Traceback (most recent call last):
        callspan.setting_values.SettingError: content='everything': use one of full, metadata, off
    """


class InvalidValueError(ValueError):
    """A value is invalid for its setting. The message says what it may be."""

    def __init__(self, expected: str, value: object, kept: object = None) -> None:
        super().__init__(expected)
        self.shown = shown(value)
        self.kept = kept
        """What is left where only a part of the value is wrong; None: nothing."""


def shown(value: object) -> str:
    """Return a value as a message may show it: words and small numbers as they are, of anything else only the type."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) <= _LARGEST):
        return repr(value)
    if isinstance(value, str):
        return repr(value) if _SHOWN.fullmatch(value) else f"a text of {len(value)} characters"
    return f"a value of type {type(value).__name__}"


def flag(value: object) -> bool:
    """Read a switch."""
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    lowered = value.strip().lower() if isinstance(value, str) else ""
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise InvalidValueError("use true or false", value)


def size(value: object) -> int:
    """Read a number of bytes, as text also with a unit: `32k`, `16m`, `1g`."""
    found = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if isinstance(value, str):
        text, unit = value.strip().lower(), 1
        if text[-1:] in _UNITS:
            text, unit = text[:-1], _UNITS[text[-1]]
        found = int(text) * unit if _DIGITS.fullmatch(text) else -1
    if not 0 < found <= _LARGEST:
        raise InvalidValueError("use a positive number of bytes, such as 32768 or 32k", value)
    return found


def count(value: object) -> int:
    """Read a number that may be 0."""
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise InvalidValueError("use a number, 0 for none", value)
    return value


def one_of(choices: object, **others: tuple[object, ...]) -> Parse:
    """Return what reads one word of a `Literal`; `others` are further values of a word, `off=(False, "no")`."""
    words = cast("tuple[str, ...]", get_args(choices))
    known: dict[object, str] = {word: word for word in words}
    known |= {other: word for word, several in others.items() for other in several}

    def parse(value: object) -> str:
        key = value.strip().lower() if isinstance(value, str) else value
        # 0 and False are the same key of a dictionary, 0.0 too.
        if isinstance(key, str | bool) and key in known:
            return known[key]
        raise InvalidValueError(f"use one of {', '.join(words)}", value)

    return parse


def words_of(choices: object) -> Parse:
    """Return what reads a comma list or a sequence of words of a `Literal`."""
    words = cast("tuple[str, ...]", get_args(choices))

    def parse(value: object) -> tuple[str, ...]:
        items = _items(value, f"use some of {', '.join(words)}")
        plain = [item.strip().lower() if isinstance(item, str) else item for item in items]
        kept = tuple(dict.fromkeys(item for item in plain if isinstance(item, str) and item in words))
        wrong = [item for item in plain if item not in kept]
        if wrong:
            raise InvalidValueError(f"use some of {', '.join(words)}", wrong[0], kept or None)
        return kept

    return parse


def urls(value: object) -> tuple[str, ...]:
    """Read URLs or paths of stores: a comma list, a path, or a sequence of them. False or `none`: no store."""
    expected = "use URLs or paths of stores, as a comma list or a sequence"
    if value is False or (isinstance(value, str) and value.strip().lower() == "none"):
        return ()
    several: list[str] = []
    for item in [value] if isinstance(value, Path) else _items(value, expected, split_urls):
        if isinstance(item, Path):
            if "," in str(item):
                raise InvalidValueError("the path of a store cannot hold a comma", item)
            several.append(str(item))
        elif isinstance(item, str):
            several += split_urls(item)
        else:
            raise InvalidValueError(expected, item)
    return tuple(dict.fromkeys(several))


def split_urls(text: str) -> list[str]:
    """Return the URLs and paths of a comma list. A comma in a password or between hosts belongs to its URL."""
    found: list[str] = []
    for part in text.split(","):
        stripped = part.strip()
        goes_on = bool(found) and bool(_URL_START.match(found[-1])) and not _FILE_URL.match(found[-1])
        if goes_on and stripped and not _URL_START.match(stripped) and not stripped.lower().endswith(_FILE_SUFFIXES):
            found[-1] += f",{stripped}"
        elif stripped:
            found.append(stripped)
    return found


def text(value: object) -> str | None:
    """Read any text; False: none."""
    if value is False:
        return None
    if not isinstance(value, str):
        raise InvalidValueError("use a text", value)
    return value.strip() or None


def path(value: object) -> Path | None:
    """Read the path of a file or directory; False: none."""
    if value is False:
        return None
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise InvalidValueError("use a path", value)
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise InvalidValueError("use a path; its home directory is unknown", value) from error


def _items(value: object, expected: str, split: Callable[[str], list[str]] | None = None) -> list[object]:
    """The items of a comma list or of any iterable but bytes and mappings. Raises InvalidValueError."""
    if isinstance(value, str):
        return list(split(value)) if split else [word.strip() for word in value.split(",") if word.strip()]
    if not isinstance(value, Iterable) or isinstance(value, bytes | bytearray | dict):
        raise InvalidValueError(expected, value)
    return list(value)
