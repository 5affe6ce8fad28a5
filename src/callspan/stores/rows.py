"""Rows: converts a record to the row of its table and back, and merges versions of a session or timestep into one row.

A row holds the columns and `extra`, the JSON of everything no column holds; together they give the record back exactly.
When versions are merged, in any order, each field and each key of `metadata` has the value of the newest version that
has it; `start_ns` is the earliest, `content_level` the strictest. `stamps` in the row has the version of each value
that is not of the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache, lru_cache
from itertools import compress
from operator import attrgetter, is_not
from types import NoneType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast, get_args, get_type_hints

import msgspec

from callspan.amounts import as_text
from callspan.conversion import converter
from callspan.record.call import PARTS
from callspan.record.codec import encode_json
from callspan.record.content_level import at_level
from callspan.record.events import RECORD_TYPES, Record, SessionRecord, TimestepRecord
from callspan.record.messages import Conversation
from callspan.settings import Content, strictest
from callspan.stores.columns import MAX_COUNT, STORED, TABLES, Form, Table

Cell: TypeAlias = str | int | float | bytes | bytearray | None
Row: TypeAlias = dict[str, Cell]
Tree: TypeAlias = dict[str, object]

_INT_LIMIT: Final = 2**63
_MAX_SHAPES: Final = 64
"""Tables and queries with different columns."""
_RANKED: Final[Mapping[str, Sequence[str]]] = {"part": PARTS}
LIMITS: Final[Mapping[Form, int]] = {"int": _INT_LIMIT, "count": MAX_COUNT + 1}
"""Exclusive limit of the absolute value of a number in a column; larger numbers stay in `extra`."""
_R = TypeVar("_R", SessionRecord, TimestepRecord)
_AnyRecord = TypeVar("_AnyRecord", bound=Record)

_SEEN: Final = "seen_ns"
_START: Final = "start_ns"
_LEVEL: Final = "content_level"
_SPAN: Final = "span_id"
_OF_SPAN: Final = ("trace_id", _SPAN, "parent_span_id", "sampled", "trace")
_KIND: Final = "kind"
_KEYED: Final = "metadata"
_PREFIX: Final = _KEYED + "."


_stamps = msgspec.json.Decoder(dict[str, int])
_ELSEWHERE: Final = (msgspec.Raw, Conversation | None)
"""Types of fields not stored in rows: contents are stored once, see `callspan.stores.bodies`."""
_PLAIN: Final = (str, bool, float)
_CELLS: Final[frozenset[type]] = frozenset(_PLAIN)
_JSON: Final[Form] = "json"


def on_conflict(table: Table, names: Sequence[str]) -> str:
    """Return the ON CONFLICT clause: replace by a newer version, by the merged row, or keep the first row."""
    start = f"ON CONFLICT ({table.key}) DO "
    if not table.versioned and not table.merges:
        return f"{start}NOTHING"
    sets = ", ".join(f"{name} = excluded.{name}" for name in (*names, STORED) if name != table.key)
    newer = f" WHERE {_order(table, 'excluded')} > {_order(table, table.name)}" if table.versioned else ""
    if newer and _LEVEL in table.names:
        # A row with a stricter level stays until it is merged with this one.
        newer += f" AND excluded.{_LEVEL} >= coalesce({table.name}.{_LEVEL}, 'full')"
    return f"{start}UPDATE SET {sets}{newer}"


def _order(table: Table, place: str) -> str:
    """Return the SQL row value that orders versions, see `callspan.record.merging.order`."""
    found = []
    for name in ("part", "seen_ns"):
        if name in table.names:
            column = f"{place}.{name}"
            ranks = _RANKED.get(name)
            found.append(f"coalesce({column}, 0)" if ranks is None else ranked(column, ranks))
    return f"({', '.join(found)})"


def ranked(column: str, names: Iterable[str]) -> str:
    """Return the SQL expression for the rank of a column's value among these."""
    cases = " ".join(f"WHEN '{name}' THEN {rank}" for rank, name in enumerate(names))
    return f"CASE {column} {cases} END"


_Field: TypeAlias = tuple[str, str | None, Form, frozenset[type], object]
"""A field of a record, or of a struct in it: its name; its column, None without one; its form; the types of values that
are the cell as they are, beside integers in range; the value that is left out. Python unpacks plain tuples the fastest.
"""
_Holder: TypeAlias = tuple[str, Callable[[object], tuple[Any, ...]], Sequence[_Field], Sequence[object], object]
"""A struct whose fields have columns: its name, empty for the record itself; what gives the values of its fields;
these; the default of each, and its own.
"""


def to_row(table: Table, record: Record) -> Row:
    """Return the columns of a record that are not NULL, without bodies, conversation and computed columns."""
    row, extra = Row(), Tree()
    for name, values_of, fields, usuals, default in _holders(table.kind):
        held = getattr(record, name) if name else record
        if held is None:
            continue
        rest: Tree = {} if name else extra
        number = 0
        values = values_of(held)
        # In C: most fields have their defaults.
        given = compress(zip(values, fields, strict=True), map(is_not, values, usuals))
        for value, (field, place, form, cells, usual) in given:
            if place is not None:
                # For most a call would take as long as all else here.
                kind = type(value)
                if kind in cells or (kind is int and cells and -MAX_COUNT < value < MAX_COUNT):
                    row[place] = value
                    number += 1
                    continue
            if value == usual:
                continue
            cell = None if place is None else _cell(value, form)
            if place is None or cell is None:
                rest[field] = value
            else:
                row[place] = cell
                number += 1
        if name and (rest or not (number or held == default)):
            extra[name] = rest
    if extra:
        row["extra"] = encode_json(extra).decode()
    return row


@cache
def _holders(tag: str) -> list[_Holder]:
    table, kind = TABLES[tag], RECORD_TYPES[tag]
    names = list(dict.fromkeys(path[0] for path in (column.path for column in table.columns) if len(path) > 1))
    hints = get_type_hints(kind)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    found = [_holder(table, "", kind, None, names)]
    for name in names:
        struct = next(one for one in get_args(hints[name]) or (hints[name],) if one is not NoneType)
        found.append(_holder(table, name, struct, _default(fields[name])))
    return found


def _holder(table: Table, name: str, kind: type, default: object, beside: Sequence[str] = ()) -> _Holder:
    columns = {column.path: column for column in table.columns}
    fields: list[_Field] = []
    for field in msgspec.structs.fields(kind):
        if field.name not in beside and field.type not in _ELSEWHERE:
            column = columns.get((name, field.name) if name else (field.name,))
            usual = _default(field)
            is_left_out = column is None or usual in (None, [], {})
            place, form = (None, _JSON) if column is None else (column.name, column.form)
            cells = frozenset[type]() if form == _JSON else _CELLS
            fields.append((field.name, place, form, cells, usual if is_left_out else msgspec.UNSET))
    usuals = [usual for *_, usual in fields]
    return name, attrgetter(*(field[0] for field in fields)), fields, usuals, default


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return msgspec.UNSET if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def to_tree(table: Table, row: Mapping[str, object]) -> Tree:
    """Return the JSON tree of the record a row holds, without bodies. Raises msgspec.DecodeError for no JSON."""
    extra = row["extra"]
    tree: Tree = msgspec.json.decode(extra) if isinstance(extra, str | bytes) else {}
    tree["kind"] = table.kind
    # A row of SQLite looks a name up by comparing it with each column's.
    cells = tuple(row.values()) if isinstance(row, dict) else tuple(row)
    for at, path, form in _fields(table.kind, tuple(row.keys())):
        cell: object = cells[at]
        if cell is None:
            continue
        if form == "flag":
            cell = bool(cell)
        elif form == "json":
            cell = _json(cell)
        if len(path) == 1:
            tree[path[0]] = cell
        elif isinstance(inner := tree.setdefault(path[0], {}), dict):
            inner[path[1]] = cell
    return tree


@lru_cache(maxsize=_MAX_SHAPES)
def _fields(kind: str, names: tuple[str, ...]) -> list[tuple[int, tuple[str, ...], Form]]:
    """Place in a row with these columns, path in the record, and form of each column that is a field of the record.

    Raises KeyError where a column is missing.
    """
    places = {name: at for at, name in enumerate(names)}
    return [(places[column.name], column.path, column.form) for column in TABLES[kind].columns if column.path]


def _cell(value: object, form: Form) -> Cell:
    """Return the value of a column; None for an empty one of JSON, and one out of range, which is left in `extra`."""
    if form == "json":
        return None if value in ([], {}) else encode_json(value).decode()
    if isinstance(value, _PLAIN):
        return cast("Cell", value)
    if isinstance(value, int):
        limit = LIMITS.get(form, _INT_LIMIT)
        return value if -limit <= value < limit else None
    return as_text(value) if isinstance(value, Decimal) else None


def _json(cell: object) -> object:
    if isinstance(cell, bytes):
        return msgspec.Raw(cell)
    return msgspec.json.decode(cell) if isinstance(cell, str) else cell


class _RowValues(NamedTuple):
    """Values of a row by path, with the version of each."""

    values: Tree
    stamps: dict[str, int]
    version: int


_CONVERTERS: Final[Mapping[type, Callable[[object], Record]]] = {
    kind: converter(kind, strict=False) for kind in RECORD_TYPES.values()
}


def converted(tree: object, kind: type[_AnyRecord]) -> _AnyRecord:
    """Return the record of a tree. Raises msgspec.ValidationError."""
    return cast("_AnyRecord", _CONVERTERS[kind](tree))


def add_version(versions: list[_R], record: _R) -> None:
    """Add a version to those of one session or timestep, instead of the last one if that adds nothing to it."""
    if versions and _has_all_of(record, versions[-1]):
        versions[-1] = record
    else:
        versions.append(record)


def _has_all_of(newer: SessionRecord | TimestepRecord, older: SessionRecord | TimestepRecord) -> bool:
    """Return whether the newer version makes the older one superfluous in every merge."""
    if newer.seen_ns <= older.seen_ns:
        return False
    values, usual = _values(type(newer))
    each = zip(values(older), values(newer), usual, strict=True)
    if any(had != nothing and has == nothing for had, has, nothing in each):
        return False
    if older.start_ns is not None and newer.start_ns is not None and older.start_ns < newer.start_ns:
        return False
    if isinstance(older, SessionRecord) and isinstance(newer, SessionRecord):
        level = newer.content_level
        if strictest(level, older.content_level) != level:
            return False
    return older.metadata.keys() <= newer.metadata.keys()


@cache
def _values(kind: type) -> tuple[Callable[[object], tuple[Any, ...]], Sequence[object]]:
    """Return a function from a record to the values of its fields, and their defaults."""
    fields = msgspec.structs.fields(kind)
    return attrgetter(*(field.name for field in fields)), [_default(field) for field in fields]


def merged_row(table: Table, there: Mapping[str, object] | None, record: Record) -> Row:
    """Return the whole row of a record, merged with the stored row; fills in `stamps`."""
    empty: Row = dict.fromkeys(table.names)
    if there is None:
        return empty | to_row(table, record)
    stamps = there["stamps"]
    known = _stamps.decode(stamps) if isinstance(stamps, str | bytes) else {}
    latest = _merged(_versioned(to_tree(table, there), known), _versioned(msgspec.json.decode(encode_json(record))))
    whole = converted(_tree(latest), RECORD_TYPES[table.kind])
    # Without content that its level forbids.
    row = empty | to_row(table, at_level(whole, cast("Content", latest.values.get(_LEVEL, "full"))))
    other = {path: stamp for path, stamp in latest.stamps.items() if stamp != latest.version}
    row["stamps"] = encode_json(other).decode() if other else None
    return row


def _versioned(tree: Tree, stamps: Mapping[str, int] | None = None) -> _RowValues:
    values: Tree = {path: value for path, value in tree.items() if path not in {_KIND, _SEEN, _KEYED}}
    keyed = tree.get(_KEYED)
    if isinstance(keyed, dict):
        values |= {_PREFIX + key: value for key, value in keyed.items()}
    version = cast("int", tree[_SEEN])
    return _RowValues(values, dict.fromkeys(values, version) | dict(stamps or {}), version)


def _merged(one: _RowValues, other: _RowValues) -> _RowValues:
    values, stamps = dict(one.values), dict(one.stamps)
    for path, value in other.values.items():
        if path not in values or other.stamps[path] > stamps[path]:
            values[path], stamps[path] = value, other.stamps[path]
    spans = {side.values[_SPAN] for side in (one, other) if _SPAN in side.values}
    if len(spans) > 1:
        _take_span(values, stamps, max(one, other, key=lambda side: side.stamps[_SPAN]))
    starts = [versioned.values[_START] for versioned in (one, other) if _START in versioned.values]
    if starts:
        values[_START] = min(cast("list[int]", starts))
    levels = [cast("Content", versioned.values[_LEVEL]) for versioned in (one, other) if _LEVEL in versioned.values]
    if levels:
        values[_LEVEL], stamps[_LEVEL] = strictest(*levels), max(one.version, other.version)
    return _RowValues(values, stamps, max(one.version, other.version))


def _take_span(values: Tree, stamps: dict[str, int], of: _RowValues) -> None:
    """Copy all fields of the span from the version that counts; a field that this lacks belongs to another span."""
    for path in _OF_SPAN:
        if path in of.values:
            values[path], stamps[path] = of.values[path], of.stamps[path]
        else:
            values.pop(path, None)
            stamps.pop(path, None)


def _tree(versioned: _RowValues) -> Tree:
    tree: Tree = {path: value for path, value in versioned.values.items() if not path.startswith(_PREFIX)}
    keyed = {path[len(_PREFIX) :]: value for path, value in versioned.values.items() if path.startswith(_PREFIX)}
    return tree | {_SEEN: versioned.version} | ({_KEYED: keyed} if keyed else {})
