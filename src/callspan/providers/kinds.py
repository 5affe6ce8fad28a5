"""Kinds: the types that fields of a body have, by which a row tells its API from other programs' JSON.

Only the first elements of a list are looked at, so that a check costs the same for any body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from callspan.record.apis import Field

_TEXT_OR_OBJECT: Final = (str, dict)
_TOKENS: Final = (str, int, list, dict)
"""What prompts are listed as: texts, tokens, lists of tokens, parts of several media."""
_MOST: Final = 4
"""The first messages of which one has a role and a content; one that calls tools has none."""


def fits(fields: Mapping[object, object], field: Field) -> bool:
    """Return whether a body has a field, of its type."""
    name, kind = field
    value = fields.get(name)
    if value is None:
        return False
    if type(kind) is str:
        return _KINDS[kind](value)
    return _is_of_objects(value) and any(member in value[0] for member in kind)  # type: ignore[index] # a list


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


_KINDS: Final[Mapping[object, Callable[[object], bool]]] = {
    "text": _is_text,
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
    "response": lambda value: value == "response",
    "interaction": lambda value: value == "interaction",
}
"""The check of each kind."""
