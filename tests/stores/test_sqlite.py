"""SQLite only: the file, its permissions and plain SQL."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from callspan.delivery.store_sink import store_of
from callspan.records import FORMAT, Request, Response
from callspan.settings import Fsync, Settings
from callspan.stores import StoreError
from callspan.stores.columns import TABLES
from callspan.stores.sqlite.database import SQLiteDatabase
from callspan.stores.sqlite.file import APPLICATION_ID, open_for_reading, open_for_writing
from callspan.stores.sqlite.store import SQLiteStore
from callspan.stores.urls import open_store

from .conftest import SECOND, START_NS, Delivery, Records, raw


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


def test_missing_directories_are_made(tmp_path: Path) -> None:
    sink = SQLiteStore(tmp_path / "deep" / "er" / "calls.db")
    sink.open()
    sink.close()
    assert (tmp_path / "deep" / "er" / "calls.db").is_file()


def test_every_column_of_the_code_is_in_the_file(store: Delivery, path: Path) -> None:
    for table in TABLES.values():
        there = {str(row[1]) for row in ask(path, f"PRAGMA table_info({table.name})")}
        assert set(table.names) <= there


def test_columns_of_optional_fields_are_nullable(store: Delivery, path: Path) -> None:
    required = {
        (table.name, row[1])
        for table in TABLES.values()
        for row in ask(path, f"PRAGMA table_info({table.name})")
        if row[3] and row[1] != table.key
    }
    assert {name for _, name in required} <= {"part", "seen_in", "seen_ns", "schema_v", "start_ns", "stored_ns"}


def test_columns_hold_what_people_query(store: Delivery, path: Path, records: Records) -> None:
    store.write(records.call(session_id="s"))
    columns = (
        "call_id, session_id, provider, api, model_req, model_resp, finish_reason, outcome, http_status, retries, "
        "end_ns - start_ns, ttft_ns, in_tok, out_tok, cache_read_tok, cost_usd, cost_picousd, price_v, params"
    )
    ((_, *found),) = ask(path, f"SELECT {columns} FROM calls")
    assert found == [
        "s", "openai", "chat_completions", "gpt-5", "gpt-5-2025-08-07", "stop", "success", 200, 0,
        SECOND, SECOND // 4, 10, 5, None, "0.0000123", 12_300_000, "table-1", '{"temperature":0.5}',
    ]  # fmt: skip


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the sqlite3 command")
def test_the_sqlite3_command_alone_shows_the_messages_by_role(store: Delivery, path: Path, records: Records) -> None:
    sent = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}, {"type": "image_url", "image_url": {}}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny " * 2_000},
    ]
    made = records.call(sent, answer="Sunny.")
    store.write(made, records.call([*sent, {"role": "user", "content": "And now?"}]))
    query = f"SELECT position, direction, role, text FROM call_messages WHERE call_id = '{made.call_id}' ORDER BY 1"
    shown = subprocess.run(["sqlite3", "-json", str(path), query], capture_output=True, check=True).stdout
    assert [tuple(row.values()) for row in msgspec.json.decode(shown)] == [
        (0, "in", "system", "Be brief."),
        (1, "in", "user", "Weather?"),
        (2, "in", "assistant", 'weather({"city": "Rome"})'),
        (3, "in", "tool", "sunny " * 2_000),
        (4, "out", "assistant", "Sunny."),
    ]


def test_a_separate_system_prompt_comes_first(store: Delivery, path: Path, records: Records) -> None:
    request = {
        "model": "claude-sonnet-4-5",
        "system": [{"type": "text", "text": "You are careful."}],
        "messages": [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42 degrees outside"}]}
        ],
    }
    answer = {
        "content": [
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "t2", "name": "look", "input": {"at": "sky"}},
        ]
    }
    store.write(records.call(api="messages", request=Request(body=raw(request)), response=Response(body=raw(answer))))
    assert ask(path, "SELECT position, direction, role, text FROM call_messages ORDER BY position") == [
        (-1, "in", "system", "You are careful."),
        (0, "in", "user", "42 degrees outside"),
        (1, "out", "assistant", 'Let me look.\nlook({"at":"sky"})'),
    ]


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
    assert found is not None
    assert json.loads(bytes(found.request.body))["messages"] == sent["other"]


@pytest.mark.parametrize(("fsync", "level"), [("none", 1), ("always", 2)])
def test_what_is_to_survive_a_power_failure_is_synced_with_each_batch(tmp_path: Path, fsync: Fsync, level: int) -> None:
    sink = store_of(f"sqlite:///{tmp_path}/calls.db", Settings(fsync=fsync)).sink()
    sink.open()
    assert sink._connection.execute("PRAGMA synchronous").fetchone() == (level,)  # type: ignore[attr-defined]
    sink.close()


def test_a_failed_batch_leaves_nothing_behind(store: Delivery, path: Path, records: Records) -> None:
    """The disk is full in the middle of a batch; the same batch is stored whole once there is room."""
    connection = store.sink._connection  # type: ignore[attr-defined]
    calls = [records.call(answer="x" * 50_000 + str(number)) for number in range(20)]
    connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0] + 10}")
    with pytest.raises(StoreError, match="full; make room"):
        store.sink.deliver(calls)
    assert ask(path, "SELECT count(*) FROM calls") == ask(path, "SELECT count(*) FROM contents") == [(0,)]
    connection.execute("PRAGMA max_page_count=1000000")
    store.sink.deliver(calls)
    assert ask(path, "SELECT count(*) FROM calls") == [(20,)]


def test_a_writer_waits_for_another_one(store: Delivery, path: Path, records: Records) -> None:
    """A reader in a long transaction does not block writing, and is not disturbed by it."""
    reader = open_store(path)
    store.write(records.call(), records.call())
    calls = reader.calls()
    next(calls)
    store.write(records.call())
    assert len(list(calls)) == 1
    assert reader.count_calls() == 3
    reader.close()


def test_a_reader_cannot_write(store: Delivery, path: Path) -> None:
    reader = open_store(path)
    with pytest.raises(StoreError, match="readonly"):
        list(reader._database.rows("DELETE FROM calls"))
    reader.close()


@pytest.mark.parametrize("opener", [open_for_writing, SQLiteDatabase.open])
def test_a_file_of_another_application_is_left_alone(path: Path, opener: Callable[[Path], object]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another application"):
        opener(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("opener", [open_for_writing, SQLiteDatabase.open])
def test_another_format_and_other_files_are_refused(path: Path, opener: Callable[[Path], object]) -> None:
    open_for_writing(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={FORMAT + 1}")
    with pytest.raises(StoreError, match="has another layout"):
        opener(path)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="another kind of file"):
        opener(path)


def test_an_empty_file_has_nothing_to_read_yet(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreError, match="nothing was recorded"):
        open_store(path)


def test_a_session_whose_process_is_gone_reads_interrupted(store: Delivery, records: Records) -> None:
    import socket

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = socket.gethostname()
    store.write(
        records.session("gone", host=here, pid=gone.pid, start_ns=START_NS),
        records.session("running", host=here, pid=os.getpid(), start_ns=START_NS),
        records.session("elsewhere", host="another-host", pid=gone.pid, start_ns=START_NS),
        records.session("ended", host=here, pid=gone.pid, start_ns=START_NS, end_ns=START_NS + 1),
    )
    outcomes = {one.session.session_id: one.session.outcome for one in store.read().sessions()}
    assert outcomes == {"gone": "interrupted", "running": None, "elsewhere": None, "ended": None}


def test_killed_writers_lose_nothing_that_was_delivered(path: Path) -> None:
    """A writer is killed in mid-run; every call whose delivery returned is there, and the file is sound."""
    script = str(Path(__file__).with_name("writer.py"))
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, script, f"sqlite:///{path}", "endless"], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(30):
            writer.stdout.readline()
        writer.kill()
        acknowledged = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        there = {str(row[0]).encode() for row in ask(path, "SELECT call_id FROM calls")}
        assert there >= set(acknowledged[:-1])
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    reader = open_store(path)
    assert len(list(reader.calls())) >= 90
    reader.close()


def test_many_may_make_one_file_at_once(path: Path) -> None:
    """Processes that open the file while another creates it wait; none sees it incomplete or gets "busy"."""
    for number in range(40):
        file, gate = path.with_name(f"{number}.db"), threading.Barrier(10)

        def write(_number: int, file: Path = file, gate: threading.Barrier = gate) -> None:
            gate.wait()
            open_for_writing(file).close()

        with ThreadPoolExecutor(10) as pool:
            list(pool.map(write, range(10)))
        with contextlib.closing(open_for_reading(file)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


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
