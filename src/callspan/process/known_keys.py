"""Known keys: masks the secrets of requests that failed, where errors repeat them, as they are or in part.

A key in no provider's format, which no name precedes, is told from other text only by having been sent. The error of a
request may come again: in the exception that leaves a session or tool, or in a text that the application makes of it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, TypeVar
from urllib.parse import quote, quote_plus

import msgspec

MASK: Final = "[secret]"
_S = TypeVar("_S", bound=msgspec.Struct)

_MAX_KNOWN: Final = 128
_PART: Final = 12
"""Characters of a key that are enough to mask the rest of the word: providers shorten keys in their errors."""
_START: Final = 6
_TAIL: Final = r"[\w+/=.~*…%-]*"
_MIXED: Final = re.compile(r"(?=.{12})(?:.*?[a-z][A-Z]){2}|.*[A-Za-z]{16}")
KNOWN: Final[dict[str, None]] = {}
"""The last keys of failed requests, the newest last."""


def is_key(text: str) -> bool:
    """Return whether a text that was sent as a key may be one: words such as `not-needed` may be anywhere."""
    return len(text) >= 8 and (any(map(str.isdigit, text)) or _MIXED.match(text) is not None)  # noqa: PLR2004


def remember(keys: Iterable[str]) -> None:
    """Mask these keys in errors from now on; the last 128 keys are known."""
    for key in keys:
        KNOWN.pop(key, None)
        KNOWN[key] = None
    while len(KNOWN) > _MAX_KNOWN:
        KNOWN.pop(next(iter(list(KNOWN))), None)


def without_known_keys(value: Any) -> Any:
    """Return a text, JSON or a struct with the known keys masked, also in names."""
    # Longer keys first: they may contain others.
    return _masked(value, sorted(KNOWN.copy(), key=len, reverse=True)) if KNOWN else value


def without_keys(text: str, keys: Iterable[str]) -> str:
    """Return a text with these keys masked."""
    masked: str = _masked(text, sorted(keys, key=len, reverse=True))
    return masked


def fields_without_known_keys(value: _S) -> _S:
    """Return an error, or what an answer states, without known keys; the same object if it has none."""
    masked: _S = without_known_keys(value)
    return masked


@lru_cache(maxsize=_MAX_KNOWN)
def _forms(key: str) -> frozenset[str]:
    """Return how a key may be written in a text."""
    from html import escape  # whose table of entities takes long to import

    written = key.encode("utf-8", "replace")
    coded = {base64.b64encode(written).decode().rstrip("="), *(_coded_after(before, written) for before in range(3))}
    return frozenset({
        key, json.dumps(key)[1:-1], json.dumps(key, ensure_ascii=False)[1:-1], key.replace("/", r"\/"),
        quote(key, safe="", errors="replace"), quote(key, errors="replace"), quote_plus(key, errors="replace"),
        *coded, *(text.replace("+", "-").replace("/", "_") for text in coded), written.hex(), escape(key),
        escape(key, quote=False), "".join(map("%{:02X}".format, written)), repr(key)[1:-1], repr(written)[2:-1],
    })  # fmt: skip


def _coded_after(before: int, key: bytes) -> str:
    """Return the characters of base64 that a key alone decides if it stands behind so many bytes, and before others."""
    bits_before, bits = 8 * before, 8 * (before + len(key))
    return base64.b64encode(bytes(before) + key).decode()[-(-bits_before // 6) : bits // 6]


@lru_cache(maxsize=_MAX_KNOWN)
def starts(key: str) -> frozenset[str]:
    """Return what is, in lower case, in every text with the key: found faster than by its pattern."""
    return frozenset(form[:_START].lower() for form in {*_forms(key), key[-_PART:]})


@lru_cache(maxsize=_MAX_KNOWN)
def pattern(key: str) -> re.Pattern[str]:
    """Return the pattern of a key in any encoding, or of a part of it."""
    patterns = [re.escape(form) for form in sorted(_forms(key), key=len, reverse=True)]
    if len(key) > _PART:
        patterns += [re.escape(key[:_PART]) + _TAIL] if is_key(key[:_PART]) else []
        patterns += [re.escape(key[-_PART:])] if is_key(key[-_PART:]) else []
    return re.compile("|".join(patterns), re.IGNORECASE)


def _masked(value: Any, keys: list[str]) -> Any:
    if isinstance(value, str):
        text = value.lower()
        for key in keys:
            for start in starts(key):
                if start in text:
                    value = pattern(key).sub(MASK, value)
                    break
        return value
    if isinstance(value, dict):
        return {_masked(name, keys): _masked(item, keys) for name, item in value.items()}
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        masked = _masked(fields, keys)
        return value if masked == fields else msgspec.structs.replace(value, **masked)
    return [_masked(item, keys) for item in value] if isinstance(value, list | tuple) else value
