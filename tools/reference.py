"""Write the pages that list what the code defines: fields of records, attributes, metrics and columns.

python tools/reference.py            write docs/call_record.schema.json, attributes.md, fields.md, functions*.md, sql.md
python tools/reference.py --check    only list stale ones, and exit with 1 if there are any
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, get_args

import msgspec
import yaml
from functions import PAGES as MODULES
from functions import field_notes, functions
from msgspec import inspect as types

from callspan import records
from callspan.semconv import call, events, gen_ai, llm, session
from callspan.semconv.metrics import OBSERVED, RECORDED, Instrument
from callspan.semconv.table import STRING, Row
from callspan.stores.tables.facts import TABLES, Table

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
DEVIATIONS = ROOT / "tests" / "otel" / "deviations.yaml"
BLOCK = re.compile(r"(?<=<!-- generated -->\n).*(?=<!-- /generated -->)", re.DOTALL)
Schema: TypeAlias = dict[str, Any]


class Entry(NamedTuple):
    """An entry of a page: a field, an attribute, a metric or a column."""

    name: str
    """Its name in Markdown."""
    of: str
    """Its type or owner."""
    meaning: str
    """Its meaning; empty if name and type suffice."""


def listed(entries: Iterable[Entry]) -> str:
    """Return a line per meaning with its entries, then a line per group of entries without one."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in sorted(entries, key=lambda one: not one.meaning):
        groups.setdefault((one.of, one.meaning), []).append(one.name)
    return "".join(f"- {line(', '.join(names), *group)}\n" for group, names in groups.items())


def line(names: str, of: str, meaning: str) -> str:
    """Return the line of a group."""
    if meaning:
        return f"{names} ({of}): {meaning}" if of else f"{names}: {meaning}"
    return f"{of}: {names}" if of else names


def together(entries: Iterable[Entry]) -> list[Entry]:
    """Return each entry once, with all its owners."""
    having: dict[tuple[str, str], list[str]] = {}
    for one in entries:
        having.setdefault((one.name, one.meaning), []).append(one.of)
    return [Entry(name, ", ".join(of), meaning) for (name, meaning), of in having.items()]


# Fields of records.

KINDS = [kind.__name__ for kind in get_args(records.Record)]
STRUCTS = {
    name: kind for name, kind in sorted(vars(records).items())
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
}  # fmt: skip
PLAIN: dict[type[types.Type], Schema] = {
    types.StrType: {"type": "string"},
    types.IntType: {"type": "integer"},
    types.FloatType: {"type": "number"},
    types.BoolType: {"type": "boolean"},
    types.NoneType: {"type": "null"},
    types.DecimalType: {"type": "string", "format": "decimal"},
}
"""Any other type is plain JSON of any shape, from a provider or an application."""


def json_schema() -> Schema:
    """Return the JSON Schema of the lines of the spool, of JSON Lines and of the socket.

    Unknown fields are allowed: later versions of callspan may add some without a new schema version.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"callspan records, schema {records.FORMAT}",
        "description": "One record per line. A field that is absent is unknown, or has its default where one is named; "
        "times are integer nanoseconds.",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in KINDS],
        "$defs": {name: definition(kind) for name, kind in STRUCTS.items()},
    }


def definition(kind: type) -> Schema:
    """Return the schema of one type of records or of their parts."""
    struct = types.type_info(kind)
    notes = {name: {"description": note} for name, note in field_notes(kind)}
    tag = {struct.tag_field: {"const": struct.tag}} if struct.tag_field else {}
    properties: Schema = {
        field.encode_name: notes.get(field.name, {}) | schema(field.type) | default(field) for field in struct.fields
    }
    if "schema_version" in properties:
        properties["schema_version"] = {"const": records.FORMAT}
    return {
        "description": inspect.getdoc(kind),
        "type": "object",
        "properties": tag | properties,
        "required": [*tag, *(field.encode_name for field in struct.fields if is_always_written(field))],
    }


def schema(kind: types.Type) -> Schema:
    """Return the schema of a field's type."""
    match kind:
        case types.Metadata():
            return schema(kind.type)
        case types.StructType():
            return {"$ref": f"#/$defs/{kind.cls.__name__}"}
        case types.UnionType():
            return {"anyOf": [schema(one) for one in kind.types]}
        case types.ListType():
            return {"type": "array", "items": schema(kind.item_type)}
        case types.DictType():
            return {"type": "object", "additionalProperties": schema(kind.value_type)}
        case types.LiteralType():
            return {"enum": list(kind.values)}
    return PLAIN.get(type(kind), {})


def default(field: types.Field) -> Schema:
    """Return the default of a flag, count or word. Other absent fields are unknown or empty."""
    return {"default": field.default} if isinstance(field.default, bool | int | str) else {}


def is_always_written(field: types.Field) -> bool:
    """Return whether a field has no default, or is written even if it has its default."""
    return field.required or field.default_factory not in (msgspec.NODEFAULT, list, dict)


def fields(definitions: Schema) -> str:
    """Return the list of fields: shared by several kinds of records, then by kind, then of referenced types."""
    found = {name: [field(*one) for one in of["properties"].items() if "const" not in one[1]]
             for name, of in definitions.items()}  # fmt: skip
    counts = Counter(one for kind in KINDS for one in found[kind])
    shared = [one for one, number in counts.items() if number > 1]
    parts = ["", "## What several kinds share", "", listed(shared)]
    for name in (*KINDS, *(name for name in found if name not in KINDS)):
        kind = definitions[name]["properties"].get("kind", {}).get("const")
        about = definitions[name]["description"].partition("\n\n")[0].replace("\n", " ")
        own = [one for one in found[name] if name not in KINDS or one not in shared]
        parts += [f"## {name}: `{kind}`" if kind else f"## {name}", "", about, "", listed(own)]
    return "\n".join(parts) + "\n"


def field(name: str, of: Schema) -> Entry:
    """Return a field with a link to its type, its values and its default."""
    options = [one.get("items", one) for one in of.get("anyOf", [of])]
    links = [one["$ref"].rpartition("/")[2].lower() for one in options if "$ref" in one]
    label = f"[`{name}`](#{links[0]})" if links else f"`{name}`"
    note = of.get("description", "").removesuffix(".")
    values = [f"`{value}`" for one in options if "`" not in note for value in one.get("enum", ())]
    meaning = ". ".join(filter(None, (", ".join(values), note)))
    word = of.get("default")
    return Entry(label, "", f"{meaning}; default `{word}`" if meaning and isinstance(word, str) else meaning)


# Attributes and metrics.

SPANS = ("session", "timestep", "environment", "tool", "agent", "guardrail", "handoff")
GROUPS = {
    "*call*": "`gen_ai.operation.name`, `gen_ai.provider.name`, `gen_ai.request.model`",
    "*server*": "`gen_ai.response.model`, `server.address`, `server.port`",
}
"""Attributes shared by many metrics, by the term that the page explains."""
RATE_LIMITS = re.compile(r"`llm\.rate_limiting.*\.rate_limiting[^`]*`")


def rows(*tables: Any) -> list[Row]:
    """Return the rows of tables."""
    return [row for table in tables for row in table.rows]


def attributes(start: Iterable[Row], others: Iterable[Row]) -> list[Entry]:
    """Return each attribute once, with its type: start attributes, then the others."""
    found: dict[str, Entry] = {}
    for row in start:
        found.setdefault(row.name, attribute(row, "†"))
    for row in others:
        found.setdefault(row.name, attribute(row))
    return list(found.values())


def attribute(row: Row, start: str = "") -> Entry:
    """Return an attribute with its type, which is empty for a string."""
    marks = start + "‡" * bool(row.content) + "§" * row.if_true
    meaning = "Only without content" if row.content is False else row.about.removesuffix(".")
    kind = row.type.replace("string (JSON)", "JSON")
    return Entry(f"`{row.name}`{marks}", "" if row.type == STRING else kind, meaning)


def spans_and_events() -> Iterator[Entry]:
    """Yield the attributes of each kind of agents' spans and events."""
    tables = {kind: getattr(session, kind.upper()) for kind in SPANS}
    kinds = {kind: attributes(of.start_with_llm.rows, of.end.rows) for kind, of in tables.items()} | {
        "event": attributes([], rows(events.EVENT, events.ACTION, events.ENVIRONMENT)),
        "message": attributes([], events.MESSAGE.rows),
        "reward": attributes([], rows(events.REWARD, events.EVALUATION)),
    }
    for kind, found in kinds.items():
        yield from (Entry(f"{one.name} {one.of}".strip(), kind, one.meaning) for one in found)


def metric(one: Instrument) -> Entry:
    """Return a metric, its meaning with its attributes."""
    names = ", ".join(f"`{row.name}`" for row in one.attributes.rows)
    for word, group in GROUPS.items():
        names = names.replace(group, word)
    return Entry(f"`{one.name}`", f"{one.kind}, {one.unit}", f"{one.about.removesuffix('.')}. {names}")


def vocabulary() -> str:
    """Return the lists of attributes and metrics. Explanations are not repeated in later lists."""
    calls = attributes(rows(call.START, llm.START, gen_ai.START), rows(llm.END, gen_ai.END, call.END))
    attempts = attributes([], rows(call.ATTEMPT, call.ATTEMPT_SPAN, call.ATTEMPT_SPAN_OF_CALL, session.EXCEPTION))
    scopes = together(spans_and_events())
    metrics = (*RECORDED, *OBSERVED)
    measured = attributes([], rows(*(one.attributes for one in metrics)))
    known = {one.name.split()[0].rstrip("†‡§") for one in (*calls, *scopes)}
    above = ", ".join(one.name for one in attempts if one.name in known)
    parts = [
        "### Calls\n", listed(sorted(calls)),
        "### Attempts and exceptions\n", listed(one for one in attempts if one.name not in known),
        f"As above: {RATE_LIMITS.sub('`llm.rate_limiting.*`', above)}.\n",
        "### Sessions and what is in them\n", listed(scopes).replace(", ".join(SPANS), "all spans"),
        "### Metrics\n", listed(map(metric, {one.name: one for one in metrics}.values())),
        "Attributes that only metrics have:\n", listed(one for one in measured if one.name not in known),
        "### Where they differ from the conventions\n", listed(map(deviation, yaml.safe_load(DEVIATIONS.read_text()))),
    ]  # fmt: skip
    return "\n".join(["", *parts, ""])


def deviation(row: dict[str, Any]) -> Entry:
    """Return a difference from the conventions: the names, the signals, and its reason."""
    signals = [row["where"]] if isinstance(row["where"], str) else row["where"]
    where = ", ".join(
        " ".join([kind, f"`{name}`" * bool(name)]).strip()
        for kind, _, name in (signal.partition(" ") for signal in signals)
    )
    return Entry(", ".join(f"`{name}`" for name in row["names"].split()), f"{row['what']}: {where}", row["why"])


# Columns.


def columns() -> str:
    """Return the columns of every table, with notes on some."""
    paragraphs = "\n".join(map(paragraph, TABLES.values()))
    notes = [
        Entry(f"`{column.name}`", table.name, column.note)
        for table in TABLES.values() for column in table.columns if column.note
    ]  # fmt: skip
    return f"\n```text\n{paragraphs}\n```\n\n{listed(together(notes))}\n"


def paragraph(table: Table) -> str:
    """Return the names of a table's columns, JSON columns last."""
    plain = " ".join(column.name for column in table.columns if column.form != "json")
    as_json = " ".join(column.name for column in table.columns if column.form == "json")
    text = f"{table.name}: {plain}; as JSON {as_json} extra"
    return textwrap.fill(text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Write or check the pages."""
    schema = json_schema()
    texts = {DOCS / "call_record.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"}
    blocks = {
        "fields": fields(schema["$defs"]), "attributes": vocabulary(), "sql": columns(),
        **{name: functions(module) for name, module in MODULES.items()},
    }  # fmt: skip
    for name, made in blocks.items():
        page = DOCS / f"{name}.md"
        texts[page] = BLOCK.sub(lambda _, made=made: made, page.read_text(encoding="utf-8"))
    stale = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    if stale and "--check" in sys.argv:
        sys.exit(f"{', '.join(path.name for path in stale)}: stale, run python tools/reference.py")
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")


if __name__ == "__main__":
    main()
