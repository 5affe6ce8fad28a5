"""Rows: converts a record to the row of its table and back.

A row has the columns and `extra`, the JSON of all other fields. Together they restore the record exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache, lru_cache
from itertools import compress
from operator import attrgetter, is_not
from types import NoneType
from typing import Any, Final, TypeAlias, TypeVar, cast, get_args, get_type_hints

import msgspec

from callspan.record.codec import encode_json
from callspan.record.events import RECORD_TYPES, Record
from callspan.record.messages import Conversation
from callspan.runtime.amounts import as_text
from callspan.runtime.conversion import converter
from callspan.stores.tables.facts import MAX_COUNT, TABLES, Form, Table

Cell: TypeAlias = str | int | float | bytes | bytearray | None
Row: TypeAlias = dict[str, Cell]
Tree: TypeAlias = dict[str, object]

_INT_LIMIT: Final = 2**63
_MAX_SHAPES: Final = 64
"""Maximum number of distinct column lists of tables and queries."""
LIMITS: Final[Mapping[Form, int]] = {"int": _INT_LIMIT, "count": MAX_COUNT + 1}
"""Exclusive limit of the absolute value of a number in a column; larger numbers go to `extra`."""
_AnyRecord = TypeVar("_AnyRecord", bound=Record)

_STORED_ELSEWHERE: Final = (msgspec.Raw, Conversation | None)
"""Types of fields that rows do not store: contents have their own table, see `callspan.stores.tables.bodies`."""
_TRUE_OR_NULL: Final = frozenset({"inferred"})
"""Flags that are not stored where they are false, as they are of nearly all records."""
_CELLS: Final[frozenset[type]] = frozenset((str, bool, float))
_JSON: Final[Form] = "json"


_Field: TypeAlias = tuple[str, str | None, Form, frozenset[type], object]
"""A field of a record or of a nested struct: its name; its column or None; its form; the types of values that are
stored unchanged, besides integers in range; the value that is omitted. A plain tuple, because Python unpacks it
fastest.
"""
_Layout: TypeAlias = tuple[str, Callable[[object], tuple[Any, ...]], Sequence[_Field], Sequence[object], object]
"""A struct with fields that have columns: its name, empty for the record itself; the getter of its field values; its
fields; their defaults; its own default.
"""


def to_row(table: Table, record: Record) -> Row:
    """Return the columns of a record that are not NULL, without bodies, conversation and computed columns."""
    row: Row = {}
    extra: Tree = {}
    for name, values_of, fields, defaults, struct_default in _layouts(table.kind):
        struct = getattr(record, name) if name else record
        if struct is None:
            continue
        struct_extra: Tree = {} if name else extra
        number = 0
        values = values_of(struct)
        # Filtered in C, because most fields have their defaults; this and the next one save 0.8 % of a delivery.
        changed_values = compress(zip(values, fields, strict=True), map(is_not, values, defaults))
        for value, (field, column, form, plain_types, default) in changed_values:
            if column is not None:
                # Inlined from `_cell`: for most values the function call would take as long as the rest.
                kind = type(value)
                if kind in plain_types or (kind is int and plain_types and -MAX_COUNT < value < MAX_COUNT):
                    row[column] = value
                    number += 1
                    continue
            if value == default:
                continue
            cell = None if column is None else _cell(value, form)
            if column is None or cell is None:
                struct_extra[field] = value
            else:
                row[column] = cell
                number += 1
        if name and (struct_extra or not (number or struct == struct_default)):
            extra[name] = struct_extra
    if extra:
        row["extra"] = encode_json(extra).decode()
    return row


@cache
def _layouts(tag: str) -> list[_Layout]:
    table, kind = TABLES[tag], RECORD_TYPES[tag]
    names = list(dict.fromkeys(path[0] for path in (field.path for field in table.fields) if len(path) > 1))
    hints = get_type_hints(kind)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    layouts = [_layout(table, "", kind, None, names)]
    for name in names:
        struct = next(member for member in get_args(hints[name]) or (hints[name],) if member is not NoneType)
        layouts.append(_layout(table, name, struct, _default(fields[name])))
    return layouts


def _layout(table: Table, name: str, kind: type, struct_default: object, struct_names: Sequence[str] = ()) -> _Layout:
    columns = {column.path: column for column in table.fields}
    fields: list[_Field] = []
    for field in msgspec.structs.fields(kind):
        if field.name not in struct_names and field.type not in _STORED_ELSEWHERE:
            column = columns.get((name, field.name) if name else (field.name,))
            default = _default(field)
            is_left_out = column is None or default in (None, [], {}) or field.name in _TRUE_OR_NULL
            column_name, form = (None, _JSON) if column is None else (column.name, column.form)
            plain_types = frozenset[type]() if form == _JSON else _CELLS
            fields.append((field.name, column_name, form, plain_types, default if is_left_out else msgspec.UNSET))
    defaults = [default for *_, default in fields]
    return name, attrgetter(*(field[0] for field in fields)), fields, defaults, struct_default


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return msgspec.UNSET if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def to_tree(table: Table, row: Mapping[str, object]) -> Tree:
    """Return the JSON tree of the record in a row, without bodies. Raises msgspec.DecodeError for invalid JSON."""
    extra = row["extra"]
    tree: Tree = {} if extra is None else msgspec.json.decode(cast("str", extra))
    tree["kind"] = table.kind
    # A SQLite row finds a name by comparing it with every column name.
    cells = tuple(row.values()) if isinstance(row, dict) else tuple(row)
    for index, path, form in _fields(table.kind, tuple(row.keys())):
        cell: object = cells[index]
        if cell is None:
            continue
        if form == "flag":
            cell = bool(cell)
        elif form == "json":
            cell = msgspec.json.decode(cast("str", cell))
        if len(path) == 1:
            tree[path[0]] = cell
        elif isinstance(inner := tree.setdefault(path[0], {}), dict):
            inner[path[1]] = cell
    return tree


@lru_cache(maxsize=_MAX_SHAPES)
def _fields(kind: str, names: tuple[str, ...]) -> list[tuple[int, tuple[str, ...], Form]]:
    """Return the index, path and form of each of these columns that is a field of the record.

    Raises KeyError if a column is missing.
    """
    indexes = {name: index for index, name in enumerate(names)}
    return [(indexes[field.name], field.path, field.form) for field in TABLES[kind].fields]


def _cell(value: object, form: Form) -> Cell:
    """Return the value of a column; None for empty JSON and for a number out of range, which goes to `extra`."""
    if form == "json":
        return None if value in ([], {}) else encode_json(value).decode()
    if isinstance(value, int):
        limit = LIMITS.get(form, _INT_LIMIT)
        return value if -limit <= value < limit else None
    return as_text(value) if isinstance(value, Decimal) else None


_CONVERTERS: Final[Mapping[type, Callable[[object], Record]]] = {
    kind: converter(kind, strict=False) for kind in RECORD_TYPES.values()
}


def converted(tree: object, kind: type[_AnyRecord]) -> _AnyRecord:
    """Return the record of a tree. Raises msgspec.ValidationError."""
    return cast("_AnyRecord", _CONVERTERS[kind](tree))
