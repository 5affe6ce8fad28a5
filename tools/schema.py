"""Writes docs/call_record.schema.json, the JSON Schema of records, from their types and the docstrings of their fields.

And docs/fields.md, the same as tables. `--check` only says whether they are up to date.
"""

from __future__ import annotations

import ast
import inspect as source
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, get_args

import msgspec
from generated import write_or_check
from msgspec import inspect

from callspan.record import call, events, messages, usage
from callspan.records import FORMAT, Record

DOCS = Path(__file__).resolve().parent.parent / "docs"

_Schema: TypeAlias = dict[str, object]
_Structs: TypeAlias = dict[str, inspect.StructType]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_VERSION_FIELD: Final = "schema_version"
_ABOUT: Final = (
    "One record per line. A field that is absent is unknown, or has its default where one is named; times are integer "
    "nanoseconds."
)
_FIELDS_PAGE: Final = """\
# The fields of a record

The fields of [records](records.md) in JSON Lines, the spool and the socket, and in Python (`callspan.CallRecord` and
its siblings). A call, abridged:

```json
{"kind": "call", "call_id": "019aa0…", "provider": "openai", "api": "chat_completions", "outcome": "success",
 "request": {"model": "gpt-5", "body": {"messages": ["…"]}}, "response": {"finish_reasons": ["stop"], "body": {"…": 0}},
 "usage": {"input_tokens": 12, "output_tokens": 7}, "timing": {"start_ns": 1760000000000000000, "duration_ns": 812000}}
```

An absent field (in Python `None`) is unknown, or has its default: false, 0, empty, or the value stated here. Names end
in `_ns` (nanoseconds; `start_ns`, `end_ns`, `time_ns` and `seen_ns` are Unix time), `_s` (seconds) or `_ms`. `trace_id`
has 32 hex digits, `span_id` 16. The last line of each list has the self-explanatory fields. Types are in the
[JSON Schema](call_record.schema.json); SQL stores have most fields as [columns](sql.md#the-tables).
"""
_SHARED_BY: Final = 2
"""Fields of so many kinds of records are explained once."""
_MAX_UNION: Final = 4
"""Longer ones are the parts of a message."""
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


class _Field(NamedTuple):
    """A row of the page of fields."""

    name: str
    type: str
    meaning: str
    default: str | None
    """A word; other defaults are false, 0 or empty."""

    @property
    def label(self) -> str:
        """The name, linked to the record type that the field holds."""
        _, has_type, link = self.type.partition("](")
        return f"[`{self.name}`]({link}" if has_type else f"`{self.name}`"

    @property
    def explanation(self) -> str:
        """The values of an enumeration, unless the meaning names them, and the meaning; empty if the name is enough."""
        values = self.type if "`" in self.type and "`" not in self.meaning else ""
        text = ". ".join(filter(None, (values, self.meaning)))
        return f"{text}; default `{self.default}`" if text and self.default else text


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
    """Return the schema's default of a flag, count or word; other absent fields are unknown or empty."""
    return {"default": field.default} if isinstance(field.default, bool | int | str) else {}


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


def fields_page(schema: _Schema) -> str:
    """Return the page of fields: what kinds of records share, then each kind, then the types that these refer to."""
    definitions: Any = schema["$defs"]
    kinds = [kind.__name__ for kind in get_args(Record)]
    types = [name for name in definitions if name not in kinds]
    fields = {name: _fields(definitions[name]) for name in (*kinds, *types)}
    counts = Counter(field for kind in kinds for field in fields[kind])
    shared = [field for field, number in counts.items() if number >= _SHARED_BY]
    own = {name: [field for field in fields[name] if name in types or field not in shared] for name in fields}
    sections = [_section(_title(name, definitions[name]), _about(definitions[name]), own[name]) for name in own]
    return "\n".join([_FIELDS_PAGE, _section("What several kinds share", "", shared), *sections])


def _fields(definition: Any) -> list[_Field]:
    """Return the fields of a type, without its tag and version."""
    properties = definition["properties"].items()
    return [
        _Field(name, _type(of), _meaning(of), _word(of.get("default"))) for name, of in properties if "const" not in of
    ]


def _meaning(of: Any) -> str:
    return str(of.get("description", "")).removesuffix(".")


def _word(default: object) -> str | None:
    return default if isinstance(default, str) else None


def _title(name: str, definition: Any) -> str:
    kind = definition["properties"].get("kind", {}).get("const")
    return f"{name}: `{kind}`" if kind else name


def _about(definition: Any) -> str:
    return str(definition["description"].partition("\n\n")[0].replace("\n", " "))


def _section(title: str, about: str, fields: Sequence[_Field]) -> str:
    """Return a list of fields, and below it those that name and type explain; fields of one meaning share a line."""
    rows: dict[str, list[str]] = {}
    for field in fields:
        rows.setdefault(field.explanation, []).append(field.label)
    plain = rows.pop("", [])
    lines = [f"## {title}", ""] + ([about, ""] if about else [])
    lines += [f"- {', '.join(names)}: {meaning}" for meaning, names in rows.items()]
    lines += [f"- {', '.join(plain)}"] if plain else []
    return "\n".join([*lines, ""])


def _type(of: Any) -> str:
    """Return a link to the record type that a field holds, or the values of an enumeration; of others nothing."""
    if "$ref" in of:
        name = of["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in of:
        return ", ".join(f"`{value}`" for value in of["enum"])
    if "items" in of:
        return _type(of["items"])
    some = of.get("anyOf", ())
    return " or ".join(filter(None, map(_type, some))) if len(some) <= _MAX_UNION else ""


def main() -> int:
    """Write or check the files."""
    schema = json_schema()
    text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return write_or_check({DOCS / "call_record.schema.json": text, DOCS / "fields.md": fields_page(schema)})


if __name__ == "__main__":
    sys.exit(main())
