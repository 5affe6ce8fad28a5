"""Rows: converts a record to the row of its table and back, and merges versions of a session or timestep into one row.

A row holds the columns and `extra`, the JSON of everything no column holds; together they give the record back exactly.
When versions are merged, in any order, each field and each key of `metadata` has the value of the newest version that
has it, and `start_ns` is the earliest. `stamps` in the row has the version of each value that is not of the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, reduce
from typing import Final, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from callspan.record.codec import encode_json
from callspan.record.events import RECORD_TYPES, Record, SessionRecord, TimestepRecord
from callspan.stores.columns import MAX_COUNT, TABLES, Column, Form, Table

Cell: TypeAlias = str | int | float | bytes | bytearray | None
Row: TypeAlias = dict[str, Cell]
Tree: TypeAlias = dict[str, object]

_INT_LIMIT: Final = 2**63
_MOST_SHAPES: Final = 64
"""Tables and queries with different columns."""
LIMITS: Final[Mapping[Form, int]] = {"int": _INT_LIMIT, "count": MAX_COUNT + 1}
"""Exclusive limit of the absolute value of a number in a column; larger numbers stay in `extra`."""
_R = TypeVar("_R", SessionRecord, TimestepRecord)

_VERSION: Final = "record_version"
_START: Final = "start_ns"
_KEYED: Final = "metadata"
_PREFIX: Final = _KEYED + "."


_stamps = msgspec.json.Decoder(dict[str, int])


def on_conflict(table: Table, names: Sequence[str], place: str | None = None) -> str:
    """Return the ON CONFLICT clause: replace by a newer version, by the merged row, or keep the first row.

    `place` is the name of the table to insert into, if it is not that of `table`.
    """
    start = f"ON CONFLICT ({table.key}) DO "
    if not table.versioned and not table.merges:
        return f"{start}NOTHING"
    sets = ", ".join(f"{name} = excluded.{name}" for name in names if name != table.key)
    newer = f" WHERE excluded.rec_version > {place or table.name}.rec_version" if table.versioned else ""
    return f"{start}UPDATE SET {sets}{newer}"


def to_row(table: Table, record: Record, tree: Tree) -> Row:
    """Return the row of a record. `tree` is its JSON without bodies and is modified."""
    row: Row = dict.fromkeys(table.names)
    for column in table.columns:
        cell = _cell(record, column) if column.path else None
        if cell is not None:
            row[column.name] = cell
            _take(tree, column.path)
    tree.pop("kind", None)
    row["extra"] = encode_json(tree).decode() if tree else None
    return row


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

    Raises KeyError where a column of the first layout is missing. Those of later ones may be: the store has an
    earlier layout.
    """
    places = {name: at for at, name in enumerate(names)}
    columns = (one for one in TABLES[kind].columns if one.path and (one.since == 1 or one.name in places))
    return [(places[column.name], column.path, column.form) for column in columns]


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


class _Story(NamedTuple):
    """Values by path, with the version of each."""

    values: Tree
    stamps: dict[str, int]
    version: int


def merge(versions: Iterable[_R]) -> _R:
    """Return all versions of one session or timestep as one record. Raises TypeError for none."""
    known = list(versions)
    if len(known) == 1:
        return known[0]
    versions_of = [_story(msgspec.json.decode(encode_json(record))) for record in known]
    return msgspec.convert(_tree(reduce(_merged, versions_of)), type(known[0]), strict=False)


def merged_row(table: Table, there: Mapping[str, object] | None, tree: Tree) -> Row:
    """Return the row of a record's JSON, merged with the stored row; fills in `stamps`."""
    tree.pop("kind", None)
    story = _story(tree)
    if there is not None:
        stamps = there["stamps"]
        before = to_tree(table, there)
        before.pop("kind")
        story = _merged(_story(before, _stamps.decode(stamps) if isinstance(stamps, str | bytes) else {}), story)
    whole = _tree(story)
    row = to_row(table, msgspec.convert(whole, RECORD_TYPES[table.kind], strict=False), whole)
    other = {path: stamp for path, stamp in story.stamps.items() if stamp != story.version}
    row["stamps"] = encode_json(other).decode() if other else None
    return row


def _story(tree: Tree, stamps: Mapping[str, int] | None = None) -> _Story:
    values: Tree = {path: value for path, value in tree.items() if path not in {_VERSION, _KEYED}}
    keyed = tree.get(_KEYED)
    if isinstance(keyed, dict):
        values |= {_PREFIX + key: value for key, value in keyed.items()}
    version = cast("int", tree[_VERSION])
    return _Story(values, dict.fromkeys(values, version) | dict(stamps or {}), version)


def _merged(one: _Story, other: _Story) -> _Story:
    values, stamps = dict(one.values), dict(one.stamps)
    for path, value in other.values.items():
        if path not in values or other.stamps[path] > stamps[path]:
            values[path], stamps[path] = value, other.stamps[path]
    starts = [story.values[_START] for story in (one, other) if _START in story.values]
    if starts:
        values[_START] = min(cast("list[int]", starts))
    return _Story(values, stamps, max(one.version, other.version))


def _tree(story: _Story) -> Tree:
    tree: Tree = {path: value for path, value in story.values.items() if not path.startswith(_PREFIX)}
    keyed = {path[len(_PREFIX) :]: value for path, value in story.values.items() if path.startswith(_PREFIX)}
    return tree | {_VERSION: story.version} | ({_KEYED: keyed} if keyed else {})
