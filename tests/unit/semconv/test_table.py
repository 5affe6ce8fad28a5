"""Tables of attributes: what a row's source may be, when it is put, and that all rows fit the records."""

from __future__ import annotations

import types
import typing
from typing import Any

import pytest

from callspan.records import (
    Attempt,
    CallRecord,
    Conversation,
    ErrorInfo,
    EventRecord,
    MessageRecord,
    Place,
    Request,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Timing,
)
from callspan.semconv import call, events, gen_ai, llm, openinference, session
from callspan.semconv.content_attributes import ByteBudget, SpanContent
from callspan.semconv.table import (
    BOOLEAN,
    DOUBLE,
    INT,
    STRING,
    STRINGS,
    Each,
    From,
    Parameters,
    Row,
    Seconds,
    Source,
    Table,
    parameter,
)

OF_CALLS = {
    "llm": (*llm.START.rows, *llm.END.rows),
    "gen_ai": (*gen_ai.START.rows, *gen_ai.END.rows),
    "openinference": (*openinference.START.rows, *openinference.END.rows),
    "call": (*call.START.rows, *call.END.rows),
}
FITTING: dict[str, tuple[type, ...]] = {
    STRING: (str,), STRINGS: (list,), BOOLEAN: (bool,), INT: (int,), DOUBLE: (float, int),
}  # fmt: skip


def record(**fields: Any) -> CallRecord:
    return CallRecord(call_id="c", timing=Timing(start_ns=1), **fields)


def put(source: Source, of: CallRecord, *, kind: str = INT, content: bool = True, **when: Any) -> dict[str, Any]:
    shown = SpanContent(Conversation() if content else None, ByteBudget(100, 100))
    return dict(Table(Row("x", kind, source, "", **when)).of(of, shown))


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


OF_OTHERS: list[tuple[type, Table]] = [
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
        for table in (tables.start_with_llm, tables.end, tables.content)
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
        elif isinstance(row.source, From | Each) and row.source.path:
            assert kinds_at(kind, row.source.path), row.name
        assert not row.when or kinds_at(kind, row.when), row.name
        assert not row.about or row.about.endswith("."), row.name


@pytest.mark.parametrize("name", OF_CALLS)
def test_every_path_leads_to_a_field_of_the_attributes_type(name: str) -> None:
    check(CallRecord, OF_CALLS[name])


def test_every_path_of_other_records_leads_to_a_field_of_the_attributes_type() -> None:
    for kind, table in OF_OTHERS:
        check(kind, table.rows)


def test_parameters_are_set_in_the_order_sent_and_the_last_name_wins() -> None:
    table = Table(
        Row("a", INT, parameter("one", "uno", read=lambda value: value), ""),
        Row("b", INT, Parameters({"two": lambda value: value}), "", content=True),
    )
    params: dict[str, object] = {"two": 2, "uno": 1, "other": 5, "one": None}
    of = record(request=Request(params=params))
    assert list(table.of(of, SpanContent(Conversation(), ByteBudget(1, 1))).items()) == [("b", 2), ("a", 1)]
    assert list(table.of(of)) == ["a"], "without content"


@pytest.mark.parametrize(
    ("when", "of_messages", "of_chat"),
    [({"apis": ("messages",)}, True, False), ({"not_apis": ("messages",)}, False, True), ({}, True, True)],
)
def test_a_row_is_for_the_endpoints_it_names(when: dict[str, Any], of_messages: bool, of_chat: bool) -> None:
    assert bool(put("call_id", record(api="messages"), kind=STRING, **when)) == of_messages
    assert bool(put("call_id", record(api="chat_completions"), kind=STRING, **when)) == of_chat


@pytest.mark.parametrize(("flag", "shown"), [(None, (True, True)), (True, (True, False)), (False, (False, True))])
def test_a_row_is_for_calls_with_content_or_without(flag: bool | None, shown: tuple[bool, bool]) -> None:
    found = tuple(bool(put("call_id", record(), kind=STRING, content=content)) for content in (True, False))
    assert found == (True, True)
    rows = Table(Row("x", STRING, "call_id", "", content=flag))
    conversations = (Conversation(), None)
    assert tuple(bool(rows.of(record(), SpanContent(each, ByteBudget(1, 1)))) for each in conversations) == shown


def test_adjacent_rows_share_the_result_of_a_function() -> None:
    calls: list[Place] = []

    def both(place: Place) -> tuple[str | None, int] | None:
        calls.append(place)
        return None if place.session_id is None else (None, 3)

    each = Each("place", both)
    table = Table(Row("a", STRING, each, ""), Row("b", INT, each, ""))
    assert table.of(record()) == {}
    assert table.of(record(place=Place(session_id="s"))) == {"b": 3}
    assert len(calls) == 2
