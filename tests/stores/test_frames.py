"""Tables for pandas and polars: columns, types, selections, and that what is unknown stays so."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from tests.support.records import SECOND, START_NS, Records, event, keep, made, reward, session

from callspan import SettingError, open_store
from callspan.records import Cost, Place, Usage
from callspan.stores import CallFilter, Reader

arrow = pytest.importorskip("pyarrow", reason="needs pyarrow")


@pytest.fixture
def reader(url: str) -> Iterator[Reader]:
    cost = Cost(usd=Decimal("0.000001234567"), source="own")
    keep(
        url,
        session("s1", start_ns=START_NS, end_ns=START_NS + 5 * SECOND, success=True, name="walk", metadata={"seed": 7}),
        session("s2", start_ns=START_NS + SECOND, name="chat"),
        made("c1", place=Place(session_id="s1"), usage=Usage(input_tokens=3, output_tokens=0), cost=cost),
        made("c2", place=Place(session_id="s2"), took_ns=None),
        made("c3"),
        event("e1", session_id="s1", data={"after": [1, "ä"]}, reward=0.5, terminated=True),
        event("e2", session_id="s2"),
        event("e3"),
        reward("r1", 2.0, session_id="s1", scope="session"),
        reward("r2", None, label="good", call_id="c3"),
    )
    with closing(open_store(url)) as opened:
        yield opened


def rows(reader: Reader, kind: Any, *columns: str, **where: Any) -> list[tuple[Any, ...]]:
    table = reader.frame(kind, CallFilter(newest_first=False, **where)) if where else reader.frame(kind)
    return sorted((tuple(row[name] for name in columns) for row in table.to_pylist()), key=str)


def test_calls_are_a_table(reader: Reader) -> None:
    columns = ("call_id", "session_id", "model", "input_tokens", "output_tokens", "duration_ns", "cost_usd", "stream")
    assert rows(reader, "calls", *columns) == [
        ("c1", "s1", "gpt-5", 3, 0, SECOND, Decimal("0.000001234567"), None),
        ("c2", "s2", "gpt-5", None, None, None, None, None),
        ("c3", None, "gpt-5", None, None, SECOND, None, None),
    ]
    table = reader.frame("calls")
    types = {name: str(table.schema.field(name).type) for name in ("call_id", "input_tokens", "cost_usd", "stream")}
    assert types == {"call_id": "string", "input_tokens": "int64", "cost_usd": "decimal128(38, 18)", "stream": "bool"}


def test_sessions_are_a_table(reader: Reader) -> None:
    columns = ("session_id", "name", "success", "calls", "input_tokens", "models", "metadata", "reward")
    assert rows(reader, "sessions", *columns) == [
        ("s1", "walk", True, 1, 3, '["gpt-5"]', '{"seed":7}', 2.0),
        ("s2", "chat", None, 1, None, '["gpt-5"]', "{}", None),
    ]


def test_events_and_rewards_are_tables(reader: Reader) -> None:
    columns = ("event_id", "session_id", "time_ns", "data", "reward", "terminated")
    assert rows(reader, "events", *columns) == [
        ("e1", "s1", START_NS, '{"after":[1,"ä"]}', 0.5, True),
        ("e2", "s2", START_NS, None, None, None),
        ("e3", None, START_NS, None, None, None),
    ]
    assert rows(reader, "rewards", "reward_id", "session_id", "call_id", "value", "label") == [
        ("r1", "s1", None, 2.0, None),
        ("r2", None, "c3", None, "good"),
    ]


def test_condition_selects_rows(reader: Reader) -> None:
    assert rows(reader, "calls", "call_id", name="walk") == [("c1",)]
    assert rows(reader, "sessions", "session_id", name="walk") == [("s1",)]
    assert rows(reader, "events", "event_id", name="walk") == [("e1",)]
    assert rows(reader, "rewards", "reward_id", name="walk") == [("r1",)]


def test_empty_selection_is_a_table_with_every_column(reader: Reader) -> None:
    table = reader.frame("calls", CallFilter(model="other"))
    assert (table.num_rows, table.schema) == (0, reader.frame("calls").schema)


def test_many_calls_are_one_table(sqlite_url: str) -> None:
    records = Records()
    keep(sqlite_url, *(made(records.new_id()) for _ in range(2_100)))
    with closing(open_store(sqlite_url)) as reader:
        table = reader.frame("calls")
    assert table.num_rows == len(set(table.column("call_id").to_pylist())) == 2_100


def test_frame_of_another_kind_is_refused(reader: Reader) -> None:
    with pytest.raises(ValueError, match="no table 'spans'; use one of: calls, sessions, events, rewards"):
        reader.frame("spans")  # type: ignore[arg-type]


def test_missing_pyarrow_says_what_to_install(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingError, match="datasets"):
        reader.frame("calls")
