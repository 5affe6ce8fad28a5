"""Kinds: the types that fields of a body have, by which a row tells its API from other programs' JSON.

Only the first elements of a list are looked at, so that a check costs the same for any body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from callspan.record.apis import Exact, Field, Proof

_TEXT_OR_OBJECT: Final = (str, dict)
_TOKENS: Final = (str, int, list, dict)
"""What prompts are listed as: texts, tokens, lists of tokens, parts of several media."""
_BASE64: Final = re.compile("[A-Za-z0-9+/]{6}")
"""The start of any vector: its first number has four bytes."""
_SIZE: Final = re.compile("auto|[1-9][0-9]*x[1-9][0-9]*")
_SOUND: Final = "audio/"
_MOST: Final = 4
"""The first messages of which one has a role and a content; one that calls tools has none."""


def fits(body: object, field: Field | Exact) -> bool:
    """Return whether a body, or the first element of one that is a list, has a field, of its type."""
    name, kind = field
    for part in name.split("."):
        body = (body[0] if body else None) if type(body) is list else body
        body = body.get(part) if type(body) is dict else None
    if body is None:
        return False
    return _KINDS[kind](body) if isinstance(kind, str) else body in kind


def fits_any(body: object, fields: Iterable[Field]) -> bool:
    """Return whether a body has one of the fields, of its type."""
    return any(fits(body, field) for field in fields)


def proves(body: object, proofs: Iterable[Proof]) -> bool:
    """Return whether a body has all fields of one of the proofs."""
    return any(all(fits(body, field) for field in proof) for proof in proofs)


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
    return _is_of(value, (int, float))


def _are_vectors(value: object) -> bool:
    """Return whether they are listed, or by their encoding."""
    listed = next(iter(value.values()), None) if type(value) is dict else value
    return type(listed) is list and bool(listed) and (_is_vector(listed[0]) or _is_encoded(listed[0]))


def _is_encoded(value: object) -> bool:
    """Return whether it is a vector in base64."""
    return type(value) is str and len(value) % 4 == 0 and _BASE64.match(value) is not None


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
    "size": lambda value: isinstance(value, str) and _SIZE.fullmatch(value) is not None,
    "sound": lambda value: isinstance(value, str) and value.startswith(_SOUND),
    "vector": _is_vector,
    "vectors": _are_vectors,
    "encoded": _is_encoded,
    "generated": _is_text,
}
"""The check of each kind."""
