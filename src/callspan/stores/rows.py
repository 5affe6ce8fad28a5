"""Rows: converts a record to the row of its table and back, and merges versions of a session or timestep into one row.

A row holds the columns and `extra`, the JSON of everything no column holds; together they give the record back exactly.
When versions are merged, in any order, each field and each key of `metadata` has the value of the newest version that
has it; `start_ns` is the earliest, `content_level` the strictest. `stamps` in the row has the version of each value
that is not of the newest.

Row builders make the cells directly from the fields of a record. They are generated once for each table from
`callspan.stores.columns` and the record types, and return the same as `to_row`, to which a record with a value outside
its column's range is left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, reduce
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast, get_args, get_type_hints

import msgspec

from callspan.record.call import PARTS, STAGES, CallRecord
from callspan.record.codec import encode_json
from callspan.record.events import RECORD_TYPES, Record, SessionRecord, TimestepRecord
from callspan.record.messages import Conversation
from callspan.settings import Content, stricter
from callspan.stores.columns import MAX_COUNT, TABLES, Column, Form, Table

Cell: TypeAlias = str | int | float | bytes | bytearray | None
Row: TypeAlias = dict[str, Cell]
Tree: TypeAlias = dict[str, object]

_INT_LIMIT: Final = 2**63
_MOST_SHAPES: Final = 64
"""Tables and queries with different columns."""
_RANKED: Final[Mapping[str, Sequence[str]]] = {"part": PARTS, "stage": STAGES}
LIMITS: Final[Mapping[Form, int]] = {"int": _INT_LIMIT, "count": MAX_COUNT + 1}
"""Exclusive limit of the absolute value of a number in a column; larger numbers stay in `extra`."""
_R = TypeVar("_R", SessionRecord, TimestepRecord)

_SEEN: Final = "seen_ns"
_START: Final = "start_ns"
_LEVEL: Final = "content_level"
_KEYED: Final = "metadata"
_PREFIX: Final = _KEYED + "."


_stamps = msgspec.json.Decoder(dict[str, int])
_ELSEWHERE: Final = (msgspec.Raw, Conversation | None)
"""Types of fields not stored in rows: contents are stored once, see `callspan.stores.bodies`."""
Computed: TypeAlias = Callable[[Any], tuple[Cell, ...]]
"""Returns the values of the computed columns, in the order of the table."""
_Values: TypeAlias = Callable[[object], tuple[object, ...]]


def on_conflict(table: Table, names: Sequence[str]) -> str:
    """Return the ON CONFLICT clause: replace by a newer version, by the merged row, or keep the first row."""
    start = f"ON CONFLICT ({table.key}) DO "
    if not table.versioned and not table.merges:
        return f"{start}NOTHING"
    sets = ", ".join(f"{name} = excluded.{name}" for name in names if name != table.key)
    newer = f" WHERE {_order(table, 'excluded')} > {_order(table, table.name)}" if table.versioned else ""
    return f"{start}UPDATE SET {sets}{newer}"


def _order(table: Table, place: str) -> str:
    """Return the SQL row value that orders versions, see `callspan.record.merging.order`."""
    found = []
    for name in ("part", "seen_ns", "stage"):
        if name in table.names:
            column = f"{place}.{name}"
            ranks = _RANKED.get(name)
            found.append(f"coalesce({column}, 0)" if ranks is None else ranked(column, ranks))
    return f"({', '.join(found)})"


def ranked(column: str, names: Iterable[str]) -> str:
    """Return the SQL expression for the rank of a column's value among these."""
    cases = " ".join(f"WHEN '{name}' THEN {rank}" for rank, name in enumerate(names))
    return f"CASE {column} {cases} END"


def to_row(table: Table, record: Record) -> Row:
    """Return the row of a record, without its bodies and its conversation."""
    row: Row = dict.fromkeys(table.names)
    tree = _tree_of(record)
    for column in table.columns:
        cell = _cell(record, column) if column.path else None
        if cell is not None:
            row[column.name] = cell
            _take(tree, column.path)
    tree.pop("kind", None)
    row["extra"] = encode_json(tree).decode() if tree else None
    return row


def _tree_of(record: Record) -> Tree:
    tree: Tree = msgspec.json.decode(encode_json(record))
    if isinstance(record, CallRecord):
        tree.pop("conversation", None)
        for side in (tree.get("request"), tree.get("response")):
            if isinstance(side, dict):
                side.pop("body", None)
    return tree


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


@lru_cache(maxsize=_MOST_SHAPES)
def _fields(kind: str, names: tuple[str, ...]) -> list[tuple[int, tuple[str, ...], Form]]:
    """Place in a row with these columns, path in the record, and form of each column that is a field of the record.

    Raises KeyError where a column is missing.
    """
    places = {name: at for at, name in enumerate(names)}
    return [(places[column.name], column.path, column.form) for column in TABLES[kind].columns if column.path]


def _cell(record: Record, column: Column) -> Cell:
    """Return the value of a column; None if it is unknown, or out of range and left in `extra`."""
    value: object = record
    for name in column.path:
        value = getattr(value, name, None)
    if column.form == "json":
        return None if value is None or value in ([], {}) else encode_json(value).decode()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        limit = LIMITS.get(column.form, _INT_LIMIT)
        return value if -limit <= value < limit else None
    if isinstance(value, Decimal):
        return format(value, "f")
    return value if isinstance(value, str | float) else None


def _json(cell: object) -> object:
    if isinstance(cell, bytes):
        return msgspec.Raw(cell)
    return msgspec.json.decode(cell) if isinstance(cell, str) else cell


def _take(tree: Tree, path: tuple[str, ...]) -> None:
    """Remove and return the value at `path`, and remove its parent object if that is then empty."""
    inner = tree.get(path[0])
    if len(path) == 1:
        tree.pop(path[0], None)
    elif isinstance(inner, dict):
        inner.pop(path[1], None)
        if not inner:
            del tree[path[0]]


class _Versioned(NamedTuple):
    """Values of a row by path, with the version of each."""

    values: Tree
    stamps: dict[str, int]
    version: int


def merge(versions: Iterable[_R]) -> _R:
    """Return all versions of one session or timestep as one record. Raises TypeError for none."""
    known = list(versions)
    if len(known) == 1:
        return known[0]
    versions_of = [_versioned(msgspec.json.decode(encode_json(record))) for record in known]
    return msgspec.convert(_tree(reduce(_merged, versions_of)), type(known[0]), strict=False)


def merged_row(table: Table, there: Mapping[str, object] | None, record: Record) -> Row:
    """Return the row of a record, merged with the stored row; fills in `stamps`."""
    tree = _tree_of(record)
    tree.pop("kind")
    latest = _versioned(tree)
    if there is not None:
        stamps = there["stamps"]
        before = to_tree(table, there)
        before.pop("kind")
        latest = _merged(_versioned(before, _stamps.decode(stamps) if isinstance(stamps, str | bytes) else {}), latest)
    whole = _tree(latest)
    row = to_row(table, msgspec.convert(whole, RECORD_TYPES[table.kind], strict=False))
    other = {path: stamp for path, stamp in latest.stamps.items() if stamp != latest.version}
    row["stamps"] = encode_json(other).decode() if other else None
    return row


def _versioned(tree: Tree, stamps: Mapping[str, int] | None = None) -> _Versioned:
    values: Tree = {path: value for path, value in tree.items() if path not in {_SEEN, _KEYED}}
    keyed = tree.get(_KEYED)
    if isinstance(keyed, dict):
        values |= {_PREFIX + key: value for key, value in keyed.items()}
    version = cast("int", tree[_SEEN])
    return _Versioned(values, dict.fromkeys(values, version) | dict(stamps or {}), version)


def _merged(one: _Versioned, other: _Versioned) -> _Versioned:
    values, stamps = dict(one.values), dict(one.stamps)
    for path, value in other.values.items():
        if path not in values or other.stamps[path] > stamps[path]:
            values[path], stamps[path] = value, other.stamps[path]
    starts = [versioned.values[_START] for versioned in (one, other) if _START in versioned.values]
    if starts:
        values[_START] = min(cast("list[int]", starts))
    levels = [cast("Content", versioned.values[_LEVEL]) for versioned in (one, other) if _LEVEL in versioned.values]
    if levels:
        values[_LEVEL], stamps[_LEVEL] = reduce(stricter, levels), max(one.version, other.version)
    return _Versioned(values, stamps, max(one.version, other.version))


def _tree(versioned: _Versioned) -> Tree:
    tree: Tree = {path: value for path, value in versioned.values.items() if not path.startswith(_PREFIX)}
    keyed = {path[len(_PREFIX) :]: value for path, value in versioned.values.items() if path.startswith(_PREFIX)}
    return tree | {_SEEN: versioned.version} | ({_KEYED: keyed} if keyed else {})


class _Source(NamedTuple):
    """A source of column values: the record itself, or a struct in it."""

    name: str
    """Field of the record that holds it; empty: the record itself."""
    columns: Sequence[Column]
    defaults: Sequence[object]
    """Defaults of the fields that have a column."""
    taken: _Values
    """Values of the columns."""
    others: _Values
    """Values of the fields without a column, which are stored in `extra`."""
    other_fields: Sequence[tuple[str, Any, object]]
    """The fields without a column, in the form `msgspec.defstruct` takes."""
    optional: bool
    """It may be absent; if present, `extra` has it, even if it is empty."""


class RowBuilder:
    """Makes the rows of one table. Safe from any thread."""

    def __init__(self, table: Table, computed: Computed) -> None:
        """`computed` returns the values of the computed columns."""
        record = RECORD_TYPES[table.kind]
        columns = [column for column in table.columns if column.path]
        inner = list(dict.fromkeys(column.path[0] for column in columns if len(column.path) > 1))
        self._record = _source(record, "", columns, inner)
        self._inner = [_Inner(_source(record, name, columns, ())) for name in inner]
        rest = [(one.name, object, msgspec.UNSET) for one in self._inner]
        self._extra = msgspec.defstruct("Extra", [*self._record.other_fields, *rest], omit_defaults=True)
        self._no_extra = msgspec.json.encode(self._extra())
        self._computed = computed
        sources = (self._record, *(one.source for one in self._inner))
        found = [column for one in sources for column in one.columns]
        places = {form: [place for place, column in enumerate(found) if column.form == form] for form in LIMITS}
        self._limits = [(_all_of(each), LIMITS[form]) for form, each in places.items() if each]
        self._decimals = [place for place, column in enumerate(found) if column.form == "decimal"]
        defaults = [default for one in sources for default in one.defaults]
        self._json = [(place, defaults[place]) for place, column in enumerate(found) if column.form == "json"]
        order = [*(column.name for column in found), *(column.name for column in table.columns if not column.path)]
        self._in_order = itemgetter(*(order.index(column.name) for column in table.columns))

    def cells(self, record: Record) -> tuple[Cell, ...] | None:
        """Return the cells of all columns, `extra` last; None where a value does not fit its column."""
        found = [*self._record.taken(record)]
        extra = [*self._record.others(record)]
        for inner in self._inner:
            taken, rest = inner.read(getattr(record, inner.name))
            found += taken
            extra.append(rest)
        if not self._made_cells(found):
            return None
        found += self._computed(record)
        text = encode_json(self._extra(*extra))
        cells = cast("tuple[Cell, ...]", self._in_order(found))
        return (*cells, None if text == self._no_extra else text.decode())

    def _made_cells(self, found: list[object]) -> bool:
        """Convert the values to cells in place; return whether all fit their columns."""
        for numbers_of, limit in self._limits:
            numbers = [*filter(None, numbers_of(found))]
            if numbers and (max(numbers) >= limit or min(numbers) < -limit):
                return False
        for place in self._decimals:
            if found[place] is not None:
                found[place] = format(found[place], "f")
        for place, default in self._json:
            value = found[place]
            if value == default:
                found[place] = None
            elif value is None or value in ([], {}):
                return False
            else:
                found[place] = encode_json(value).decode()
        return True


def _all_of(places: Sequence[int]) -> Callable[[list[Any]], tuple[int | None, ...]]:
    """Return a function that returns the items at these indexes as a tuple."""
    return itemgetter(*places) if len(places) > 1 else lambda found: (found[places[0]],)


class _Inner:
    """A struct within a record."""

    def __init__(self, source: _Source) -> None:
        self.source, self.name = source, source.name
        self._nothing = (None,) * len(source.columns)
        self._defaults = tuple(default for _, _, default in source.other_fields)
        self._rest = msgspec.defstruct("Rest", source.other_fields, omit_defaults=True)

    def read(self, value: object) -> tuple[tuple[object, ...], object]:
        """Return the values of the columns and the rest; UNSET if that is nothing."""
        source = self.source
        if value is None:
            return self._nothing, msgspec.UNSET
        taken, others = source.taken(value), source.others(value)
        # Mostly the first value says it. A Decimal compared with None asks whether that is a number, which takes long.
        if others == self._defaults and not (
            source.optional and (not taken or taken[0] is None) and taken == self._nothing
        ):
            return taken, msgspec.UNSET
        return taken, self._rest(*others)


def _source(record: type[Record], name: str, columns: Sequence[Column], inner: Collection[str]) -> _Source:
    struct, optional = (record, False) if not name else _type_of(record, name)
    mine = [column for column in columns if (column.path[0] if len(column.path) > 1 else "") == name]
    held = {column.path[-1] for column in mine} | {*inner}
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    others = [field for field in fields.values() if field.name not in held and field.type not in _ELSEWHERE]
    return _Source(
        name,
        mine,
        [_default(fields[column.path[-1]]) for column in mine],
        _values([column.path[-1] for column in mine]),
        _values([field.name for field in others]),
        [(field.name, object, _default(field)) for field in others],
        optional,
    )


def _type_of(record: type[Record], name: str) -> tuple[type[msgspec.Struct], bool]:
    """Return the struct type of a field, and whether it may be None."""
    hint = get_type_hints(record)[name]
    kinds = get_args(hint) or (hint,)
    return next(kind for kind in kinds if kind is not NoneType), NoneType in kinds


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return msgspec.UNSET if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _values(names: Sequence[str]) -> _Values:
    """Return a function that returns these attributes as a tuple."""
    if not names:
        return lambda _: ()
    getter = attrgetter(*names)
    if len(names) == 1:
        return lambda value: (getter(value),)
    return getter
