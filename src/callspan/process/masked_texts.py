"""Masked texts: applies a function to each text of a record and to each key of the application, and to nothing else.

The types of a record's fields tell texts from ids, numbers and callspan's own words (`callspan.record.vocabulary`), so
a new field is masked unless its type says otherwise. In bodies, the words of the providers' APIs are kept, as keys and
as values of the members that they are defined for (`role`, `type`), except where an application defines the keys: in
arguments and results of tools, schemas, variables and metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pkgutil import get_data
from typing import Any, Final, TypeAlias, get_args

import msgspec
from msgspec import inspect as types

from callspan.providers.base import Operation
from callspan.providers.hosts import PROVIDERS
from callspan.record import json_schema
from callspan.record.apis import APIS
from callspan.record.events import Record
from callspan.record.vocabulary import DATA_FIELDS, KEYS, METADATA_FIELDS, WORDS
from callspan.record.wire_fields import ARGUMENTS, ARGUMENTS_BESIDE, ARGUMENTS_OF_TOOLS, SCHEMAS, TOOL_NAMES, WRAPPERS

Mask: TypeAlias = Callable[[str], str]
_Step: TypeAlias = Callable[[Any, Mask], Any]
"""Returns a value of plain JSON with its texts masked."""

_IDENTITY: Final = frozenset(
    {"call_id", "timestep_id", "session_id", "event_id", "message_id", "reward_id", "trace_id", "span_id"}
    | {"parent_span_id", "parent_session_id", "parent_timestep_id", "trace", "process"}
)
"""Fields that identify a record or its process; a redactor must not change them."""
_PROVIDERS_WORDS: Final = {
    "api": frozenset(APIS),
    "operation": frozenset(get_args(Operation)),
    "provider": PROVIDERS,
}
"""Words of fields that are defined above the records, and so are not in their types."""
_DATA: Final = ("event_type", "data")
"""The fields of an event with its type and content."""
_OWN: Final = "callspan_"
"""Prefix of the only key in an object that replaces media, or what is too large."""
_REFERENCE_FIELDS: Final = frozenset({"bytes", "dimensions", "messages", "mime", "seconds", "sha256"})
"""Members of such an object's value."""
_METADATA: Final = "metadata"


def with_masked_texts(tree: dict[str, Any], kind: type[Record], mask: Mask) -> dict[str, Any]:
    """Return a record as plain JSON with `mask` applied to its texts and the application's keys: no entry is lost.

    Raises TypeError if `mask` returns no text, and whatever it raises.
    """
    masked: dict[str, Any] = _step_of_record(kind)(tree, mask)
    return masked


@cache
def _step_of_record(kind: type[Record]) -> _Step:
    return _step(types.type_info(kind))


def _step(kind: types.Type) -> _Step:
    """Return how a value of this type is masked; as the application's JSON, if its type is not known here."""
    match kind:
        case types.Metadata(type=inner, extra=dict(extra)):
            if WORDS in extra:
                return _text_unless(extra[WORDS])
            return _wire if KEYS in extra else _step(inner)
        case types.StructType():
            return _struct(kind)
        case types.RawType():
            return _wire
        case types.StrType():
            return _text
        case types.ListType(item_type=item_type):
            of_item = _step(item_type)
            return lambda value, mask: [of_item(item, mask) for item in value] if isinstance(value, list) else value
        case types.DictType(key_type=key_type, value_type=value_type):
            return _mapping(_step(key_type), _step(value_type))
        case types.UnionType(types=members):
            steps = [_step(member) for member in members if not isinstance(member, types.NoneType)]
            return steps[0] if len(steps) == 1 else _free
        case types.LiteralType() | types.DecimalType() | types.IntType() | types.FloatType() | types.BoolType():
            return _kept
        case _:
            return _free


def _struct(kind: types.StructType) -> _Step:
    steps = {field.encode_name: _step_of_field(field) for field in kind.fields}

    def masked(fields: Any, mask: Mask) -> Any:
        if not isinstance(fields, dict):
            return fields
        result = {name: steps.get(name, _kept)(value, mask) for name, value in fields.items()}
        event_type, data = (fields.get(name) for name in _DATA)
        if isinstance(data, dict) and event_type in DATA_FIELDS:
            result[_DATA[1]] = _named(data, DATA_FIELDS[event_type], mask)
        return result

    return masked


def _step_of_field(field: types.Field) -> _Step:
    if field.name in _IDENTITY:
        return _kept
    words = _PROVIDERS_WORDS.get(field.name)
    return _step(field.type) if words is None else _text_unless(words)


def _kept(value: Any, _mask: Mask) -> Any:
    return value


def _text(value: Any, mask: Mask) -> Any:
    # An empty text says nothing, and is no part of a message, which another text in its place would be.
    if not isinstance(value, str) or not value:
        return value
    masked = mask(value)
    if not isinstance(masked, str):
        raise TypeError(f"the mask returned {type(masked).__name__}, not str")
    return masked


def _text_unless(words: frozenset[str]) -> _Step:
    return lambda value, mask: value if value in words else _text(value, mask)


def _mapping(of_key: _Step, of_value: _Step) -> _Step:
    def masked(mapping: Any, mask: Mask) -> Any:
        if not isinstance(mapping, dict):
            return mapping
        names = _distinct({key: of_key(key, mask) for key in mapping})
        return {names[key]: of_value(value, mask) for key, value in mapping.items()}

    return masked


def _distinct(names: dict[str, str]) -> dict[str, str]:
    """Return the new names, with a number added to each that is taken."""
    if len(set(names.values())) == len(names):
        return names
    used_names, unique = {key for key, name in names.items() if key == name}, dict[str, str]()
    for key, name in names.items():
        candidate, number = name, 1
        while key != name and candidate in used_names:
            number += 1
            candidate = f"{name} {number}"
        used_names.add(candidate)
        unique[key] = candidate
    return unique


def _free(value: Any, mask: Mask) -> Any:
    """Mask JSON of the application: all texts and all keys."""
    if isinstance(value, dict):
        return _reference(value, mask) if _is_reference(value) else _named(value, (), mask)
    return [_free(item, mask) for item in value] if isinstance(value, list) else _text(value, mask)


def _is_reference(value: dict[str, Any]) -> bool:
    """Return whether an object stands for media or a large value that callspan has taken out."""
    return len(value) == 1 and next(iter(value)).startswith(_OWN)


def _reference(value: dict[str, Any], mask: Mask) -> dict[str, Any]:
    ((key, fields),) = value.items()
    return {key: _named(fields, _REFERENCE_FIELDS, mask) if isinstance(fields, dict) else _free(fields, mask)}


def _named(mapping: dict[str, Any], defined: Iterable[str], mask: Mask) -> dict[str, Any]:
    """Mask JSON of the application below these keys, which are not its own."""
    names = _distinct({key: key if key in defined else _text(key, mask) for key in mapping})
    return {names[key]: _free(value, mask) for key, value in mapping.items()}


def _wire(value: Any, mask: Mask, around: str = "") -> Any:
    """Mask a body, or a part of one in the member `around`: the words of its API stay."""
    if isinstance(value, list):
        return [item if _is_word(around, item) else _wire(item, mask, around) for item in value]
    if not isinstance(value, dict):
        return _text(value, mask)
    if _is_reference(value):
        return _reference(value, mask)
    defined, _ = _wire_words()
    names = _distinct({key: key if key in defined else _text(key, mask) for key in value})
    return {names[key]: _member(key, item, value, mask, around) for key, item in value.items()}


def _member(key: str, item: Any, beside: Mapping[str, Any], mask: Mask, around: str) -> Any:
    if not isinstance(item, dict | list):
        return item if _is_word(key, item) else _text(item, mask)
    if key == _METADATA and isinstance(item, dict):
        return _named(item, METADATA_FIELDS, mask)
    if key in json_schema.BY_NAME and isinstance(item, dict):
        names = _distinct({name: _text(name, mask) for name in item})
        return {names[name]: _wire(schema, mask) for name, schema in item.items()}
    return _free(item, mask) if _is_application(key, item, beside, around) else _wire(item, mask, key)


def _is_application(key: str, item: Any, beside: Mapping[str, Any], around: str) -> bool:
    """Return whether the keys in a member of a body are the application's: arguments or the result of a tool."""
    if key in ARGUMENTS or (key in ARGUMENTS_BESIDE and ARGUMENTS_BESIDE[key] in beside):
        return True
    if not isinstance(item, dict):
        return False
    if key in WRAPPERS:
        return around not in SCHEMAS
    is_of_tool = key in ARGUMENTS_OF_TOOLS and not TOOL_NAMES.isdisjoint(beside)
    return is_of_tool and (key not in SCHEMAS or json_schema.STRUCTURE.isdisjoint(item))


def _is_word(key: str, item: object) -> bool:
    """Return whether the value of a member is one that an API defines for it."""
    _, values = _wire_words()
    return isinstance(item, str) and item.casefold() in values.get(key, ())


class _WireWords(msgspec.Struct):
    """The file `wire_words.json`, which `tools/wire_words.py` writes; words are separated by spaces."""

    keys: list[str]
    values: list[tuple[str, str]]
    """The names of members, and the words that they may have."""


@cache
def _wire_words() -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """Return the keys that the providers' APIs define, and the values that they define, by the key, without case."""
    words = msgspec.json.decode(get_data(__package__, "wire_words.json") or b"", type=_WireWords)
    by_names = ((names, frozenset(listed.casefold().split())) for names, listed in words.values)
    return frozenset(" ".join(words.keys).split()), {
        name: listed for names, listed in by_names for name in names.split()
    }


def prepare() -> None:
    """Load what the first record needs, outside of a call."""
    _wire_words()
    for kind in get_args(Record):
        _step_of_record(kind)
