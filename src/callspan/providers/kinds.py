"""Kinds: the types that fields of a body have, by which a row tells its API from other programs' JSON.

Only the first elements of a list are looked at, so that a check costs the same for any body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from callspan.record.apis import Field

_TEXT_OR_OBJECT: Final = (str, dict)
_TOKENS: Final = (str, int, list, dict)
"""What prompts are listed as: texts, tokens, lists of tokens, parts of several media."""
_BASE64: Final = re.compile("[A-Za-z0-9+/]{6}")
"""The start of any vector: its first number has four bytes."""
_SCORES: Final = ("relevance_score", "score")
_COUNTERS: Final = ("input_tokens", "output_tokens")
_MOST: Final = 4
"""The first messages of which one has a role and a content; one that calls tools has none."""


def fits(fields: Mapping[object, object], field: Field) -> bool:
    """Return whether a body has a field, of its type."""
    name, kind = field
    value = fields.get(name)
    if value is None:
        return False
    if isinstance(kind, str):
        return _KINDS[kind](value)
    return isinstance(value, list) and bool(value) and fits_any(value[0], kind)


def fits_any(body: object, fields: Iterable[Field]) -> bool:
    """Return whether a body has one of the fields, of its type."""
    if type(body) is dict:
        for field in fields:
            if field.name in body and fits(body, field):
                return True
    return False


def _is_of(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], kinds) and not isinstance(value[0], bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_of_objects(value: object) -> bool:
    return _is_of(value, dict)


def _are_turns(value: object) -> bool:
    if type(value) is list:
        for turn in value[:_MOST]:
            if type(turn) is dict and type(turn.get("role")) is str and "content" in turn:
                return True
    return False


def _is_vector(value: object) -> bool:
    return value == [] or _is_of(value, (int, float))


def _are_vectors(value: object) -> bool:
    """Return whether they are listed, or by their encoding."""
    if type(value) is dict:
        return any(type(listed) is list for listed in value.values())
    return value == [] or _is_of(value, list)


def _is_encoded(value: object) -> bool:
    """Return whether it is a vector in base64."""
    return type(value) is str and len(value) % 4 == 0 and _BASE64.match(value) is not None


def _is_ranking(value: object) -> bool:
    """Return whether they are documents by their place in the request, each with its score."""
    first = value[0] if type(value) is list and value else None
    return type(first) is dict and type(first.get("index")) is int and any(name in first for name in _SCORES)


def _is_reply(value: object) -> bool:
    return type(value) is dict and (value.get("role") == "assistant" or type(value.get("content")) is list)


def _is_output(value: object) -> bool:
    return type(value) is dict and type(value.get("message")) is dict


def _are_counters(value: object) -> bool:
    return type(value) is dict and any(type(value.get(name)) is int for name in _COUNTERS)


_KINDS: Final[Mapping[object, Callable[[object], bool]]] = {
    "text": _is_text,
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "flag": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "objects": _is_of_objects,
    "texts": lambda value: _is_of(value, str),
    "prompt": lambda value: _is_text(value) or _is_of(value, _TOKENS),
    "documents": lambda value: value == [] or _is_of(value, _TEXT_OR_OBJECT),
    "reference": lambda value: _is_text(value) or isinstance(value, dict),
    "turns": _are_turns,
    "items": lambda value: _is_text(value) or _is_of_objects(value),
    "contents": lambda value: _is_text(value) or isinstance(value, dict) or _is_of(value, _TEXT_OR_OBJECT),
    "vector": _is_vector,
    "vectors": _are_vectors,
    "encoded": _is_encoded,
    "ranking": _is_ranking,
    "reply": _is_reply,
    "output": _is_output,
    "counters": _are_counters,
    "response": lambda value: value == "response",
    "interaction": lambda value: value == "interaction",
}
"""The check of each kind."""
