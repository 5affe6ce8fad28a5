"""ClickHouse only: repeated batches, network failures, versions merged by the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from callspan.records import Cost
from callspan.spool.spool import Spool
from callspan.stores import PoisonError, StoreError
from callspan.stores.columns import TABLES
from callspan.stores.urls import open_store, sinks_for

from .conftest import START_NS, Delivery, Records, encode, needs_module

if TYPE_CHECKING:
    from .clickhouse_server import ClickHouseServer

pytestmark = pytest.mark.clickhouse


@pytest.fixture
def store(clickhouse_url: str, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(clickhouse_url)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ClickHouseServer]:
    """The HTTP protocol in front of the embedded engine."""
    needs_module("clickhouse_connect", "pip install 'callspan[clickhouse]'")
    needs_module("chdb", "pip install chdb (about 900 MB)")
    from .clickhouse_server import ClickHouseServer

    made = ClickHouseServer(tmp_path / "engine")
    yield made
    made.close()


def ask(url: str, sql: str) -> list[tuple[object, ...]]:
    from callspan.stores.clickhouse.connection import connect

    client = connect(url)
    rows = client.query(sql).result_rows
    client.close()
    return [tuple(row) for row in rows]


def test_every_column_of_the_code_is_there(store: Delivery) -> None:
    for table in TABLES.values():
        found = {str(row[0]) for row in ask(store.url, f"SELECT name FROM system.columns WHERE table = '{table.name}'")}
        assert set(table.names) - {"stamps"} <= found, table.name


def test_a_repeated_batch_adds_no_row(store: Delivery, records: Records) -> None:
    entries = store.entries([*records.every_kind(), *[records.call() for _ in range(5)]])
    for _ in range(3):
        store.sink.deliver(entries)
        store.sink.close()
        store.sink.open()
    for table, number in {"calls": 6, "events": 1, "session_versions": 1, "timestep_versions": 1, "rewards": 1}.items():
        assert ask(store.url, f"SELECT count() FROM {table} FINAL") == [(number,)], table
    assert ask(store.url, "SELECT count() FROM calls") == [(6,)], "even before any merge"


def test_versions_of_one_call_in_one_batch_are_one_row(store: Delivery, records: Records) -> None:
    started = records.call(part="started", outcome="started")
    store.write(started, records.call(call_id=started.call_id), started)
    assert ask(store.url, "SELECT part, outcome FROM calls") == [("ended", "success")]


def test_the_server_itself_merges_the_versions_of_a_session(store: Delivery, records: Records) -> None:
    written = {
        5: {"name": "run", "metadata": {"a": 1, "b": {"x": [1]}}},
        9: {"success": True},
        7: {"name": "later", "metadata": {"a": 2, 'quo"te': "s"}, "start_ns": START_NS},
    }
    for version, fields in written.items():
        store.write(records.session(version=version, **fields))
    sql = "SELECT name, success, seen_ns, start_ns, metadata FROM sessions"
    assert ask(store.url, sql) == [("later", True, 9, START_NS, '{"b":{"x":[1]},"a":2,"quo\\"te":"s"}')]


def test_the_view_shows_the_messages_by_role(store: Delivery, records: Records) -> None:
    sent = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather? " * 300}]
    store.write(records.call(sent, answer="Sunny."))
    assert ask(store.url, "SELECT position, direction, role, text FROM call_messages ORDER BY position") == [
        (0, "in", "system", "Be brief."),
        (1, "in", "user", "Weather? " * 300),
        (2, "out", "assistant", "Sunny."),
    ]


@pytest.mark.parametrize("usd", ["0.1", "1E-38", "12345678901234567890.123456789012345678901234567", "1E-50", "1E+40"])
def test_amounts_outside_the_columns_range_are_exact(store: Delivery, records: Records, usd: str) -> None:
    made = records.call(cost=Cost(usd=Decimal(usd), source="x"))
    store.write(made)
    found = store.read().call(made.call_id)
    assert found is not None
    assert found.cost == made.cost


def test_a_database_without_tables_and_another_format_are_clear_errors(clickhouse_url: str) -> None:
    with pytest.raises(StoreError, match="no callspan tables"):
        open_store(clickhouse_url)
    (sink,) = sinks_for(clickhouse_url)
    sink.open()
    sink.close()
    ask_nothing = "INSERT INTO callspan_layout VALUES (99)"
    from callspan.stores.clickhouse.connection import connect

    client = connect(clickhouse_url)
    client.command(ask_nothing)
    client.close()
    with pytest.raises(StoreError, match="has format 99, this callspan has format"):
        sink.open()


def test_a_bad_entry_is_kept_as_a_dead_letter_once(store: Delivery) -> None:
    (entry,) = store.entries([b"\0 not a \xff record"])
    with pytest.raises(PoisonError):
        store.sink.deliver([entry])
    for _ in range(2):
        store.sink.set_aside(entry, "no record")
    assert ask(store.url, "SELECT key, reason, frame FROM dead_letter FINAL") == [
        (f"{entry.segment}:{entry.start}", "no record", "\0 not a \ufffd record")
    ]


def test_a_column_that_refuses_a_row_makes_it_poison(store: Delivery) -> None:
    """What the server says lies in the data is not tried again for ever."""
    sink = store.sink
    with pytest.raises(PoisonError):
        sink._insert("content", [{"hash": "x", "enc": "no number"}])  # type: ignore[attr-defined]
    with pytest.raises(PoisonError):
        sink._insert("content", [{"hash": "x", "no_such_column": 1}])  # type: ignore[attr-defined]


class TestNetwork:
    def test_records_are_written_and_read_over_http(
        self, server: ClickHouseServer, deliver: Callable[[str], Delivery], records: Records
    ) -> None:
        store = deliver(server.url)
        made = records.call([{"role": "user", "content": "quote \" ' \\ \n \t é %"}], session_id="a'b\\")
        store.write(made, *records.every_kind())
        found = store.read().call(made.call_id)
        assert found is not None
        assert bytes(found.request.body) == bytes(made.request.body)
        assert found.place.session_id == "a'b\\"
        assert "secret" not in store.sink.name + store.read().name

    def test_a_repeated_insert_whose_reply_was_lost_adds_nothing(
        self, server: ClickHouseServer, deliver: Callable[[str], Delivery], records: Records
    ) -> None:
        store = deliver(server.url)
        first = store.entries([records.call() for _ in range(3)])
        server.lost_answers = 99
        with pytest.raises(failures()):
            store.sink.deliver(first)
        server.lost_answers = 0
        later = store.entries([records.call() for _ in range(4)])
        store.sink.close()
        store.sink.deliver([*first, *later])
        assert stored(server, "calls") == (7, 7)
        assert ask(store.url, "SELECT count() FROM content FINAL") == [(stored(server, "content")[1],)]

    def test_a_server_that_fails_again_and_again_loses_and_doubles_nothing(
        self, server: ClickHouseServer, tmp_path: Path, records: Records
    ) -> None:
        """Through the spool: status 500, full memory, lost answers, in turn."""
        server.refusals = [(500, "Code: 241. DB::Exception: Memory limit exceeded"), (503, ""), (500, "Code: 252.")]
        server.lost_answers = 3
        spool = Spool(tmp_path / "spool", lambda: sinks_for(server.url))
        made = [records.call(session_id=f"s{number % 3}") for number in range(40)]
        for record in made:
            spool.append(encode(record))
        assert spool.flush(30)
        assert spool.counters()["retried"] >= 4
        assert spool.counters()["dead_letters"] == 0
        assert spool.close(10)
        assert stored(server, "calls") == (40, 40)
        print(
            "| ClickHouse answers 500, 503, 500, then three inserts are done and not answered | 40 appended = 40 rows |"
        )

    def test_a_poison_row_is_found_and_set_aside(
        self, server: ClickHouseServer, tmp_path: Path, records: Records
    ) -> None:
        spool = Spool(tmp_path / "spool", lambda: sinks_for(server.url))
        for number in range(9):
            spool.append(b"no record at all" if number == 4 else encode(records.call()))
        assert spool.close(30)
        assert stored(server, "calls") == (8, 8)
        assert stored(server, "dead_letter") == (1, 1)

    def test_an_unreachable_server_is_an_error_without_the_password(self) -> None:
        needs_module("clickhouse_connect", "pip install 'callspan[clickhouse]'")
        (sink,) = sinks_for("clickhouse://ann:secret@127.0.0.1:1/db")
        with pytest.raises(failures()) as refused:
            sink.open()
        assert "secret" not in str(refused.value) + sink.name


def failures() -> tuple[type[Exception], ...]:
    from clickhouse_connect.driver.exceptions import ClickHouseError

    return (OSError, ClickHouseError)


def stored(server: ClickHouseServer, table: str) -> tuple[int, int]:
    """How many rows the table holds, and how many of them differ by their key."""
    key = {"calls": "call_id", "content": "hash", "dead_letter": "key"}[table]
    (row,) = server.engine.query(f"SELECT count(), uniqExact({key}) FROM {table}").result_rows
    return int(row[0]), int(row[1])


def test_the_queries_in_the_documentation_return_results(store: Delivery, records: Records) -> None:
    """Those about our own tables; the Collector's table is its own."""
    store.write(*records.every_kind(), *[records.call(session_id="s2") for _ in range(3)])
    text = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()
    blocks = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    queries = [one for block in blocks for one in block.split(";\n") if one.strip() and "otel_traces" not in one]
    assert len(queries) == 2
    sums = ask(store.url, queries[0])
    assert ("s2", "gpt-5", 30, 15, Decimal("0.0000369")) in sums
    for question in queries[1:]:
        ask(store.url, question)
