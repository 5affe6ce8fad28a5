"""Calls are found by the ids of applications and providers, without scanning a table."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from callspan.record import call
from callspan.records import Attempt, Request, Response
from callspan.stores import CallFilter
from callspan.stores.columns import CALLS
from callspan.stores.sqlite import file as sqlite_file
from callspan.stores.urls import open_store

from .conftest import Delivery, Records

COLUMNS = "request_id, user_id, organization_id, project_id, run_id, agent_id, workflow_id, tags"
LOOKUPS = [
    "trace_id", "span_id", "response_id", "request_id", "user_id", "run_id", "batch_id", "continues", "conversation_id",
    "timestep_id", "organization_id", "model_req", "workflow_id",
]  # fmt: skip
CONDITIONED = {
    "step": CallFilter(timestep_id="x-1234"),
    "workflow": CallFilter(metadata=(("workflow_id", "x-1234"),)),
    "organization": CallFilter(metadata=(("organization_id", "x-1234"),)),
}
METADATA = {
    "user_id": "u1",
    "organization_id": "o1",
    "project_id": 5,
    "run_id": "r1",
    "agent_id": "a1",
    "workflow_id": "w1",
    "tags": ["x", "y"],
}
FOUND = ("req_last", "u1", "o1", "5", "r1", "a1", "w1", ["x", "y"])


def attempts() -> list[Attempt]:
    return [
        Attempt(number=1, start_ns=5, status=429, request_id="req_first"),
        Attempt(number=2, start_ns=9, status=200, request_id="req_last"),
        Attempt(number=3, start_ns=19, error_kind="connection"),
    ]


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/calls.db"
    return str(request.getfixturevalue(f"{request.param}_url"))


def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    reader = open_store(url)
    with contextlib.closing(reader):
        return list(reader._database.tuples(sql))


def decoded(row: tuple[object, ...]) -> tuple[object, ...]:
    *ids, tags = row
    return (*ids, call.msgspec.json.decode(tags) if isinstance(tags, str) else tags)


def test_a_call_is_found_by_every_id_it_is_known_by(
    url: str, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    store = deliver(url)
    early = records.call(trace_id="a" * 32, attempts=attempts(), response=Response(id="msg_1"), at_s=1)
    late = records.call(trace_id="a" * 32, response=Response(id="msg_2"), at_s=2)
    store.write(late, early, records.call(trace_id="b" * 32, response=None, attempts=[]))
    reader = store.read()
    for known in (early.call_id, early.span_id, "req_last", "msg_1", "a" * 32):
        found = reader.call(str(known))
        assert found is not None, known
        assert found.call_id == early.call_id, known
    found = reader.call("msg_2")
    assert found is not None
    assert found.call_id == late.call_id
    assert reader.call("req_none") is None


def test_ids_of_the_metadata_are_columns(sql_url: str, records: Records, deliver: Callable[[str], Delivery]) -> None:
    store = deliver(sql_url)
    request = Request(model="m", params={"user": "sent", "metadata": {"user_id": "claude's"}})
    store.write(
        records.call(at_s=1, metadata=METADATA, attempts=attempts(), request=request),
        records.call(at_s=2, request=request, attempts=[]),
        records.call(at_s=3, request=request, attempts=[], api="messages", metadata={"extra": {"run_id": "r2"}}),
        records.call(at_s=4, metadata={"user_id": {"no": "text"}, "tags": "one"}, attempts=[]),
        records.call(at_s=5, request=Request(model="m", params={"safety_identifier": "hashed"}), attempts=[]),
    )
    found = [decoded(row) for row in rows(sql_url, f"SELECT {COLUMNS} FROM calls ORDER BY start_ns")]
    assert found == [
        FOUND,
        (None, "sent", None, None, None, None, None, None),
        (None, "claude's", None, None, "r2", None, None, None),
        (None, None, None, None, None, None, None, ["one"]),
        (None, "hashed", None, None, None, None, None, None),
    ]


CONDITIONS = [
    "WHERE call_id = 'x'",
    "WHERE call_id = (SELECT call_id FROM calls ORDER BY start_ns DESC LIMIT 1)",
    "WHERE call_id IN (SELECT call_id FROM calls WHERE request_id = 'x')",
    "WHERE session_id = 'x' AND direction = 'out'",
    "JOIN calls c USING (call_id) WHERE c.trace_id = 'x'",
    "JOIN events e USING (call_id) WHERE e.session_id = 'x'",
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_sqlite_reads_the_messages_of_the_calls_in_question_only(condition: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    sqlite_file.open_for_writing(path).close()
    plan = [
        str(row[-1])
        for row in rows(f"sqlite:///{path}", f"EXPLAIN QUERY PLAN SELECT text FROM call_messages {condition}")
    ]
    assert not [step for step in plan if re.match(r"SCAN (c|r|t|e|content)$|MATERIALIZE", step)], plan
    assert any(step.startswith("SEARCH c USING INDEX") for step in plan), plan


@pytest.mark.parametrize("column", LOOKUPS)
def test_sqlite_looks_ids_up_in_an_index(
    column: str, tmp_path: Path, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    deliver(url).write(*records.every_kind())
    for order in ("", " ORDER BY start_ns LIMIT 1", " ORDER BY start_ns DESC, call_id DESC LIMIT 20"):
        plan = rows(url, f"EXPLAIN QUERY PLAN SELECT * FROM calls WHERE {column} = 'x'{order}")
        assert re.search(rf"SEARCH \w+ USING INDEX \w+ \({column}=\?\)", str(plan)), plan


@pytest.mark.parametrize("found", CONDITIONED)
def test_readers_look_up_by_an_index(found: str, tmp_path: Path, deliver: Callable[[str], Delivery]) -> None:
    reader = deliver(f"sqlite:///{tmp_path}/calls.db").read()
    where, values = reader._where(CONDITIONED[found])
    for order in ("", " ORDER BY start_ns DESC, call_id DESC LIMIT 20"):
        sql = f"EXPLAIN QUERY PLAN SELECT * FROM calls c WHERE {where}{order}"
        plan = [str(row[3]) for row in reader._database.tuples(sql, values)]
        assert f"SEARCH c USING INDEX calls_{found} ({'timestep' if found == 'step' else found}_id=?)" in plan, plan
        assert not any(step.startswith("SCAN c") for step in plan), plan


@pytest.mark.postgres
@pytest.mark.parametrize("column", LOOKUPS)
def test_postgres_looks_ids_up_in_an_index(
    column: str, postgres_url: str, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    deliver(postgres_url).write(*[records.call(trace_id=f"{number:032x}") for number in range(50)])
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url) as connection:
        # A small table is read as a whole, whatever indexes there are.
        connection.execute("SET enable_seqscan = off")
        rows = connection.execute(f"EXPLAIN SELECT * FROM calls WHERE {column} = 'x'".encode())
        plan = "\n".join(str(row[0]) for row in rows)
    assert re.search(rf"Index Cond: \({column} = 'x'", plan), plan
    assert "Seq Scan" not in plan


@pytest.mark.postgres
def test_postgres_looks_tags_up_in_an_index(postgres_url: str, deliver: Callable[[str], Delivery]) -> None:
    deliver(postgres_url)
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SET enable_seqscan = off")
        sql = """EXPLAIN SELECT * FROM calls WHERE tags @> '["x"]'"""
        assert "calls_tags" in "\n".join(str(row[0]) for row in connection.execute(sql))


def test_indexes_leave_out_calls_without_the_id(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    sqlite_file.open_for_writing(path).close()
    sql = "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'calls' AND sql IS NOT NULL"
    made = [str(row[0]) for row in rows(f"sqlite:///{path}", sql)]
    for column in LOOKUPS:
        assert any(f"({column}" in one and f"WHERE {column} IS NOT NULL" in one for one in made), column
    assert {column.name for column in CALLS.columns} >= {*LOOKUPS}
