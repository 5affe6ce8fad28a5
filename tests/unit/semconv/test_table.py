"""Tables of attributes: the path of every row leads to a field of its type."""

from __future__ import annotations

import types
import typing
from typing import Any

from callspan.records import (
    Attempt,
    CallRecord,
    ErrorInfo,
    EventRecord,
    MessageRecord,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
)
from callspan.semconv import call, events, gen_ai, llm, openinference, session
from callspan.semconv.table import BOOLEAN, DOUBLE, INT, STRING, STRINGS, From, Row, Seconds, Table

FITTING: dict[str, tuple[type, ...]] = {
    STRING: (str,), STRINGS: (list,), BOOLEAN: (bool,), INT: (int,), DOUBLE: (float, int),
}  # fmt: skip


def kinds_at(record: type, path: str) -> set[type]:
    """The types of a record's field, without None."""
    found: Any = record
    for field in path.replace("[-1]", ".[-1]").split("."):
        if field == "[-1]":
            continue
        hints = typing.get_type_hints(found)
        options = typing.get_args(hints[field]) if _is_union(hints[field]) else (hints[field],)
        (found,) = [option for option in options if option is not type(None)]
        if f"{field}[-1]" in path:
            (found,) = typing.get_args(found)
    origin = typing.get_origin(found)
    return {str} if origin is typing.Literal else {origin or found}


def _is_union(hint: object) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


TABLES: list[tuple[type, Table]] = [
    *((CallRecord, table) for of in (llm, gen_ai, openinference, call) for table in (of.START, of.END)),
    (Attempt, call.ATTEMPT),
    (Attempt, call.ATTEMPT_SPAN),
    (CallRecord, call.ATTEMPT_SPAN_OF_CALL),
    (ErrorInfo, session.EXCEPTION),
    *(
        (kind, table)
        for kind, tables in (
            (SessionRecord, session.SESSION),
            (TimestepRecord, session.TIMESTEP),
            (EventRecord, session.ENVIRONMENT),
            (EventRecord, session.TOOL),
            (EventRecord, session.AGENT),
            (EventRecord, session.GUARDRAIL),
            (EventRecord, session.HANDOFF),
        )
        for table in (tables.start_with_llm, tables.end)
    ),
    (EventRecord, events.EVENT),
    (EventRecord, events.EVALUATION),
    (EventRecord, events.EVALUATION_PLACE),
    (MessageRecord, events.MESSAGE),
    (RewardRecord, events.REWARD),
    (RewardRecord, events.EVALUATION_PLACE),
]


def check(kind: type, rows: typing.Iterable[Row]) -> None:
    for row in rows:
        if isinstance(row.source, str):
            assert kinds_at(kind, row.source) <= set(FITTING[row.type]), row.name
        elif isinstance(row.source, Seconds):
            assert (kinds_at(kind, row.source.path), row.type) == ({int}, DOUBLE), row.name
        elif isinstance(row.source, From):
            assert kinds_at(kind, row.source.path), row.name
        assert not row.when or kinds_at(kind, row.when), row.name
        assert not row.about or row.about.endswith("."), row.name


def test_every_path_leads_to_a_field_of_the_attributes_type() -> None:
    for kind, table in TABLES:
        check(kind, table.rows)
