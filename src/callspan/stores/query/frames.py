"""Frames: calls, sessions, events and rewards as tables for pandas and polars."""

# ruff: noqa: S608 - SQL text holds only constant names and conditions; values are parameters

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Context, Decimal
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from msgspec.structs import replace

from callspan.record.codec import encode_json
from callspan.record.events import EventRecord, RewardRecord
from callspan.settings import SettingError
from callspan.stores.query.fact_rows import call_facts, session_facts
from callspan.stores.query.filters import CallFilter
from callspan.stores.tables.call_rows import record_of
from callspan.stores.tables.database import Database, in_batches
from callspan.stores.tables.facts import CALLS, EVENTS, REWARDS, SESSIONS, SUMMARIES, Fact, Table, shown_in, values_of

if TYPE_CHECKING:
    from callspan.stores.query.reader import Reader

Kind: TypeAlias = Literal["calls", "sessions", "events", "rewards"]
_FACTS: Final[Mapping[Kind, tuple[Fact, ...]]] = {
    "calls": shown_in(CALLS, "list"),
    "sessions": tuple(
        {fact.name: fact for fact in (*shown_in(SESSIONS, "list"), *shown_in(SUMMARIES, "list"))}.values()
    ),
    "events": EVENTS.fields,
    "rewards": REWARDS.fields,
}
_RECORDS: Final[Mapping[str, tuple[Table, type[Any]]]] = {
    "events": (EVENTS, EventRecord),
    "rewards": (REWARDS, RewardRecord),
}
_TYPES: Final = {"int": "int64", "count": "int64", "flag": "bool", "real": "float64"}
"""The type of a column by the form of its fact; money is decimal, everything else text."""
_MONEY_DIGITS: Final = (38, 18)
"""Digits in all, and after the point: a token may cost less than a picodollar."""
_LEAST_MONEY: Final = Decimal("1e-18")
_MONEY: Final = Context(prec=38)
_ROWS_AT_ONCE: Final = 1000


def frame(reader: Reader, database: Database, kind: Kind, where: CallFilter) -> Any:
    """Return the table of `Reader.frame`. Raises SettingError without pyarrow, ValueError for another kind."""
    if kind not in _FACTS:
        raise ValueError(f"no table {kind!r}; use one of: {', '.join(_FACTS)}")
    try:
        arrow = import_module("pyarrow")
    except ImportError as error:
        raise SettingError('frames need pyarrow, which is not installed: pip install "callspan[datasets]"') from error
    money = arrow.decimal128(*_MONEY_DIGITS)
    types = [
        (fact.name, money if fact.form == "decimal" else arrow.type_for_alias(_TYPES.get(fact.form, "string")))
        for fact in _FACTS[kind]
    ]
    schema, forms = arrow.schema(types), {fact.name: fact.form for fact in _FACTS[kind]}
    rows = (
        {name: _cell(row[name], form) for name, form in forms.items()} for row in _rows(reader, database, kind, where)
    )
    batches = []
    while batch := list(islice(rows, _ROWS_AT_ONCE)):
        batches.append(arrow.RecordBatch.from_pylist(batch, schema=schema))
    return arrow.Table.from_batches(batches, schema=schema)


def _rows(reader: Reader, database: Database, kind: Kind, where: CallFilter) -> Iterator[Mapping[str, object]]:
    if kind == "calls":
        return (call_facts(call, "list") for call in reader.calls(replace(where, content="none")))
    if kind == "sessions":
        return (session_facts(summary, "list") for summary in reader.sessions(where))
    return _rows_of_sessions(reader, database, kind, where)


def _rows_of_sessions(
    reader: Reader, database: Database, kind: Literal["events", "rewards"], where: CallFilter
) -> Iterator[Mapping[str, object]]:
    """Yield the events or rewards of the selected sessions; without a condition also those outside of sessions."""
    table, record_type = _RECORDS[kind]
    source = database.dialect.session_rewards if kind == "rewards" else table.name
    every: Iterable[tuple[str, dict[str, object]]] = [("1 = 1", {})]
    for condition, values in every if where == CallFilter() else in_batches([*reader.listed_session_ids(where)]):
        sql = f"SELECT * FROM {source} WHERE {condition} ORDER BY time_ns, {table.key}"
        for row in database.rows(sql, values):
            yield values_of(table.fields, record_of(table, row, record_type))


def _cell(value: object, form: str) -> object:
    """Return a value as its column has it: money as `Decimal`, lists and objects as JSON."""
    if value is None or form in _TYPES:
        return value
    if isinstance(value, Decimal):
        return _MONEY.quantize(value, _LEAST_MONEY)
    return value if isinstance(value, str) else encode_json(value).decode()
