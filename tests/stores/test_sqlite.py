"""SQLite only: the file, its permissions and plain SQL."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from callspan import Settings, open_store
from callspan.delivery.store_sink import store_of
from callspan.records import FORMAT, Cost, Request
from callspan.settings import Fsync
from callspan.stores import StoreError, find_store
from callspan.stores.sqlite.file import APPLICATION_ID, open_for_writing

from .conftest import SECOND, Delivery, Records, raw


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


@pytest.fixture
def store(path: Path, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(f"sqlite:///{path}")


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_the_file_is_for_its_owner_only_and_marked(store: Delivery, path: Path, records: Records) -> None:
    store.write(records.call())
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file
    assert ask(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert ask(path, "PRAGMA user_version") == [(FORMAT,)]
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]


def test_equal_content_of_a_session_is_stored_once_across_processes(
    path: Path, deliver: Callable[[str], Delivery], records: Records
) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 500}}]
    request = Request(body=raw({"messages": [{"role": "user", "content": "same"}], "tools": tools}))
    for _ in range(2):
        calls = [records.call(request=request, session_id=one) for one in ("s1", "s1", "s2")]
        deliver(f"sqlite:///{path}").write(*calls)
    assert ask(path, "SELECT count(*) FROM calls") == [(6,)]
    assert ask(path, "SELECT owner, count(*) FROM contents GROUP BY 1") == [("s:s1", 4), ("s:s2", 4)]


def test_a_growing_history_is_a_few_ranges(store: Delivery, path: Path, records: Records) -> None:
    """Of two conversations that take turns, each with a message that it has again and again."""
    sent: dict[str, list[dict[str, str]]] = {"one": [], "other": []}
    for turn in range(40):
        for name, history in sent.items():
            history += [{"role": "user", "content": "go on"}, {"role": "assistant", "content": f"{name} {turn}"}]
            store.write(records.call(history, f"{name} {turn + 1}", call_id=f"{name}-{turn}", session_id="s1"))
    assert ask(path, "SELECT max(json_array_length(contents)) FROM calls") <= [(4,)]
    found = store.read().call("other-39")
    assert json.loads(bytes(found.request.body))["messages"] == sent["other"]


@pytest.mark.parametrize(("fsync", "level"), [("none", 1), ("always", 2)])
def test_what_is_to_survive_a_power_failure_is_synced_with_each_batch(tmp_path: Path, fsync: Fsync, level: int) -> None:
    sink = store_of(f"sqlite:///{tmp_path}/calls.db", Settings(fsync=fsync)).sink()
    sink.open()
    assert sink._database.connection.execute("PRAGMA synchronous").fetchone() == (level,)  # type: ignore[attr-defined]
    sink.close()


def test_a_failed_batch_leaves_nothing_behind(store: Delivery, path: Path, records: Records) -> None:
    """The disk is full in the middle of a batch; the same batch is stored whole once there is room."""
    connection = store.sink._database.connection  # type: ignore[attr-defined]
    calls = [records.call(answer="x" * 50_000 + str(number)) for number in range(20)]
    connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0] + 10}")
    with pytest.raises(StoreError, match="full; make room"):
        store.sink.deliver(calls)
    assert ask(path, "SELECT count(*) FROM calls") == ask(path, "SELECT count(*) FROM contents") == [(0,)]
    connection.execute("PRAGMA max_page_count=1000000")
    store.sink.deliver(calls)
    assert ask(path, "SELECT count(*) FROM calls") == [(20,)]


def test_a_reader_cannot_write(store: Delivery, path: Path) -> None:
    reader = open_store(path)
    with pytest.raises(StoreError, match="readonly"):
        list(reader._database.rows("DELETE FROM calls"))
    reader.close()


@pytest.mark.parametrize("kind", ["application", "kind of file"])
def test_a_file_of_somebody_else_is_left_alone(path: Path, kind: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    if kind == "kind of file":
        path.write_bytes(b"no database at all" * 100)
    before = path.read_bytes()
    for opener in (find_store(f"sqlite:///{path}").sink().open, partial(open_store, path)):
        with pytest.raises(StoreError, match=f"another {kind}"):
            opener()
    assert path.read_bytes() == before


def test_columns_hold_what_people_query(store: Delivery, path: Path, records: Records) -> None:
    store.write(records.call(session_id="s"))
    columns = (
        "session_id, provider, api, model_req, model_resp, finish_reason, outcome, http_status, retries, "
        "end_ns - start_ns, ttft_ns, in_tok, out_tok, cache_read_tok, cost_usd, cost_picousd, price_v, params"
    )
    assert ask(path, f"SELECT {columns} FROM calls") == [(
        "s", "openai", "chat_completions", "gpt-5", "gpt-5-2025-08-07", "stop", "success", 200, 0,
        SECOND, SECOND // 4, 10, 5, None, "0.0000123", 12_300_000, "table-1", '{"temperature":0.5}',
    )]  # fmt: skip


def test_many_may_make_one_file_at_once(path: Path) -> None:
    """Those that open the file while another creates it wait; none sees it incomplete or gets "busy"."""
    for number in range(20):
        file, gate = path.with_name(f"{number}.db"), threading.Barrier(10)

        def write(_number: int, file: Path = file, gate: threading.Barrier = gate) -> None:
            gate.wait()
            open_for_writing(file).close()

        with ThreadPoolExecutor(10) as pool:
            list(pool.map(write, range(10)))
        assert ask(file, "PRAGMA journal_mode") == [("wal",)]


def test_a_file_deleted_or_replaced_while_open_is_created_again(store: Delivery, path: Path, records: Records) -> None:
    """Else rows would go to a file that nobody can find; the failure makes the spool deliver the batch again."""
    store.write(records.call())
    for file in path.parent.glob("calls.db*"):
        file.unlink()
    with pytest.raises(OSError, match="deleted or replaced"):
        store.write(records.call())
    store.sink.open()
    store.write(records.call())
    assert store.read().count_calls() == 1


def test_the_view_has_the_sums_by_session_hour_model_and_provider(
    store: Delivery, path: Path, records: Records
) -> None:
    store.write(
        records.call(session_id="a"),
        records.call(session_id="a", cost=Cost(usd=Decimal("1E-20"), source="mine")),
        records.call(session_id="a", model="gpt-4o", at_s=7200, outcome="timeout", usage=None, cost=None),
        records.call(session_id=None, outcome="cancelled"),
    )
    sql = """
        SELECT coalesce(session_id, '-'), model, provider, calls, errors, cancelled, in_tok, exact_costs, costs
          FROM call_sums ORDER BY 1, hour"""
    assert ask(path, sql) == [
        ("-", "gpt-5", "openai", 1, 0, 1, 10, 1, 1),
        ("a", "gpt-5", "openai", 2, 0, 0, 20, 1, 2),
        ("a", "gpt-4o", "openai", 1, 1, 0, None, 0, 0),
    ]
