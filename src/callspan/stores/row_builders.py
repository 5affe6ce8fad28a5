"""Row builders: make the cells of a row directly from the fields of a record; generated once for each table.

They are generated from `callspan.stores.columns` and the record types, and return the same as `rows.to_row`. A record
with a value outside its column's range is left to `to_row`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any, Final, NamedTuple, TypeAlias, cast, get_args, get_type_hints

import msgspec

from callspan.record.codec import encode_json
from callspan.record.events import RECORD_TYPES, Record
from callspan.record.messages import Conversation
from callspan.stores.columns import Column, Table
from callspan.stores.rows import LIMITS, Cell

_ELSEWHERE: Final = (msgspec.Raw, Conversation | None)
"""Types of fields not stored in rows: contents are stored once, see `callspan.stores.bodies`."""
Computed: TypeAlias = Callable[[Any], tuple[Cell, ...]]
"""Returns the values of the computed columns, in the order of the table."""
_Values: TypeAlias = Callable[[object], tuple[object, ...]]


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
        if others == self._defaults and not (source.optional and taken == self._nothing):
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
