"""Writes docs/call_record.schema.json, the JSON Schema of records, from their types and the docstrings of their fields.

`--check` only says whether it is up to date.
"""

from __future__ import annotations

import ast
import inspect as source
import json
import sys
from pathlib import Path
from typing import Final, TypeAlias, get_args

import msgspec
from msgspec import inspect

from callspan.record import call, events, messages, usage
from callspan.record.events import Record
from callspan.record.formats import FORMAT

TARGET = Path(__file__).resolve().parent.parent / "docs" / "call_record.schema.json"

_Schema: TypeAlias = dict[str, object]
_Structs: TypeAlias = dict[str, inspect.StructType]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_VERSION_FIELD: Final = "schema_version"
_ABOUT: Final = (
    "One record per line. A field that is absent is unknown, or has its default where one is named; times are integer "
    "nanoseconds."
)
_EMPTY: Final = (list, dict)
_MODULES: Final = (call, events, messages, usage)
_PLAIN: Final[dict[type[inspect.Type], _Schema]] = {
    inspect.StrType: {"type": "string"},
    inspect.IntType: {"type": "integer"},
    inspect.FloatType: {"type": "number"},
    inspect.BoolType: {"type": "boolean"},
    inspect.NoneType: {"type": "null"},
    inspect.DecimalType: {"type": "string", "format": "decimal"},
}


def json_schema() -> _Schema:
    """Return the JSON Schema of all kinds of records in the spool, JSON Lines files and socket lines.

    Unknown fields are allowed: later versions of callspan may add some without a new schema version.
    """
    structs: _Structs = {}
    kinds = [_schema(inspect.type_info(kind), structs) for kind in get_args(Record)]
    notes = _field_notes()
    definitions: _Schema = {}
    while missing := structs.keys() - definitions.keys():
        for name in missing:
            definitions[name] = _struct(structs[name], structs, notes[name])
    return {
        "$schema": _DIALECT,
        "title": f"callspan records, schema {FORMAT}",
        "description": _ABOUT,
        "anyOf": kinds,
        "$defs": dict(sorted(definitions.items())),
    }


def _struct(kind: inspect.StructType, structs: _Structs, notes: dict[str, str]) -> _Schema:
    """Return the schema of one record type; adds the types of its fields to `structs`."""
    properties: _Schema = {}
    required = [field.encode_name for field in kind.fields if _is_always_written(field)]
    if kind.tag_field is not None:
        properties[kind.tag_field] = {"const": kind.tag}
        required.insert(0, kind.tag_field)
    for field in kind.fields:
        described = {"description": notes[field.name]} if field.name in notes else {}
        properties[field.encode_name] = described | _schema(field.type, structs) | _default(field)
    if _VERSION_FIELD in properties:
        properties[_VERSION_FIELD] = {"const": FORMAT}
    about = source.cleandoc(kind.cls.__doc__ or "")
    return {"description": about, "type": "object", "properties": properties, "required": required}


def _is_always_written(field: inspect.Field) -> bool:
    """Return whether a field has no default, or is written even if it has its default."""
    return field.required or field.default_factory not in (msgspec.NODEFAULT, *_EMPTY)


def _default(field: inspect.Field) -> _Schema:
    """Return the schema's default of a flag or count; other absent fields are unknown or empty."""
    return {"default": field.default} if isinstance(field.default, bool | int) else {}


def _schema(kind: inspect.Type, structs: _Structs) -> _Schema:
    if isinstance(kind, inspect.StructType):
        structs[kind.cls.__name__] = kind
        return {"$ref": f"#/$defs/{kind.cls.__name__}"}
    if isinstance(kind, inspect.UnionType):
        return {"anyOf": [_schema(one, structs) for one in kind.types]}
    if isinstance(kind, inspect.ListType):
        return {"type": "array", "items": _schema(kind.item_type, structs)}
    if isinstance(kind, inspect.DictType):
        return {"type": "object", "additionalProperties": _schema(kind.value_type, structs)}
    if isinstance(kind, inspect.LiteralType):
        return {"enum": list(kind.values)}
    # Other values are plain JSON of any shape, from a provider or an application.
    return dict(_PLAIN.get(type(kind), {}))


def _field_notes() -> dict[str, dict[str, str]]:
    """Return the docstring of each field of each record type, by type and field."""
    found: dict[str, dict[str, str]] = {}
    for module in _MODULES:
        for node in ast.parse(source.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = _notes_of(node)
    return found


def _notes_of(node: ast.ClassDef) -> dict[str, str]:
    notes: dict[str, str] = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            value = text.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                notes[field.target.id] = source.cleandoc(value.value).replace("\n", " ")
    return notes


def main() -> int:
    """Write or check the file; return 1 where a check fails."""
    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print("docs/call_record.schema.json is not what the record types say; run: python tools/schema.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
