"""Calls are found by the ids of applications and providers, without scanning a table."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from callspan.records import Attempt, Response
from callspan.stores import CallFilter
from callspan.stores.urls import open_store

from .conftest import Delivery, Records

LOOKUPS = [
    "trace_id", "span_id", "response_id", "request_id", "user_id", "run_id", "batch_id", "continues", "conversation_id",
    "timestep_id", "organization_id", "model_req", "workflow_id",
]  # fmt: skip
CONDITIONED = {
    "step": CallFilter(timestep_id="x-1234"),
    "workflow": CallFilter(metadata=(("workflow_id", "x-1234"),)),
    "organization": CallFilter(metadata=(("organization_id", "x-1234"),)),
}


def attempts() -> list[Attempt]:
    return [
        Attempt(number=1, start_ns=5, status=429, request_id="req_first"),
        Attempt(number=2, start_ns=9, status=200, request_id="req_last"),
        Attempt(number=3, start_ns=19, error_kind="connection"),
    ]


def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    reader = open_store(url)
    with contextlib.closing(reader):
        return list(reader._database.tuples(sql))


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
