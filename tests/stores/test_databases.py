"""Behaviour specific to SQLite files and Postgres servers."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.commands import ask as command
from tests.support.left_behind import BatchDelivery, Segment, StoreSink, SuspectError, open_spool, store_of
from tests.support.records import event, keep
from tests.support.waiting import HANG_S, until

from callspan import Settings, erase, open_store
from callspan.records import FORMAT, CallRecord, Cost, ErrorInfo, Request, Response, encode
from callspan.stores import CallFilter, Rejected, Sink, StoreError, find_store

from .conftest import (
    SECOND,
    START_NS,
    Deliver,
    Delivery,
    PostgresServer,
    Records,
    clickhouse,
    left,
    new_schema,
    raw,
    run,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


@pytest.fixture
def file(sqlite_url: str, deliver: Deliver) -> Delivery:
    return deliver(sqlite_url)


@pytest.fixture
def server(postgres_url: str, deliver: Deliver) -> Delivery:
    return deliver(postgres_url)


def ask(store: Path | str, sql: str) -> list[tuple[object, ...]]:
    """Rows of a file or a server, as SQL returns them."""
    if isinstance(store, Path):
        with closing(sqlite3.connect(store)) as connection:
            return connection.execute(sql).fetchall()
    with connect(store) as connection:
        return connection.execute(sql.encode()).fetchall()


def connect(url: str, **options: bool) -> Any:
    import psycopg

    return psycopg.connect(url, **options)


def test_file_is_private_and_marked(file: Delivery, path: Path, records: Records) -> None:
    file.write(records.call())
    for one in path.parent.iterdir():
        assert one.stat().st_mode & 0o777 == 0o600, one
    assert ask(path, "PRAGMA application_id") == [(0x43535031,)]
    assert ask(path, "PRAGMA user_version") == [(FORMAT,)]
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs a directory where nobody may make a file")
def test_file_that_cannot_be_made_is_named() -> None:
    """Not the file beside it that lends its permissions, which has another name each time."""
    with pytest.raises(OSError, match=r"'/sys/calls\.db'$"):
        find_store("sqlite:////sys/calls.db").sink().open()


def test_equal_content_is_stored_once(path: Path, deliver: Deliver, records: Records) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 500}}]
    request = Request(body=raw({"messages": [{"role": "user", "content": "same"}], "tools": tools}))
    for _ in range(2):
        calls = [records.call(request=request, session_id=one) for one in ("s1", "s1", "s2")]
        deliver(f"sqlite:///{path}").write(*calls)
    assert ask(path, "SELECT count(*) FROM calls") == [(6,)]
    assert ask(path, "SELECT owner, count(*) FROM contents GROUP BY 1") == [("s:s1", 4), ("s:s2", 4)]


@pytest.mark.parametrize(("question", "names"), [("go on", ("one", "other")), ("go on, " * 50, ("other",))])
def test_histories_as_ranges(file: Delivery, path: Path, records: Records, question: str, names: Sequence[str]) -> None:
    """For two alternating conversations with a repeated message, and for one if it is long."""
    sent: dict[str, list[dict[str, str]]] = {name: [] for name in names}
    for turn in range(40):
        for name, history in sent.items():
            history += [{"role": "user", "content": question}, {"role": "assistant", "content": f"{name} {turn}"}]
            file.write(records.call(history, f"{name} {turn + 1}", call_id=f"{name}-{turn}", session_id="s1"))
    assert ask(path, "SELECT max(json_array_length(contents)) FROM calls") <= [(4,)]
    found = file.read().call("other-39")
    assert json.loads(bytes(found.request.body))["messages"] == sent["other"]


@pytest.mark.parametrize(("fsync", "level"), [("none", 1), ("always", 2)])
def test_fsync_syncs_each_batch(sqlite_url: str, fsync: Any, level: int) -> None:
    sink = store_of(sqlite_url, Settings(fsync=fsync)).sink()
    sink.open()
    assert sink._database.connection.execute("PRAGMA synchronous").fetchone() == (level,)  # type: ignore[attr-defined]
    sink.close()


def test_failed_batch_leaves_nothing(file: Delivery, path: Path, records: Records) -> None:
    """The disk fills up within a batch; the same batch is stored completely once there is room."""
    connection = file.sink._database.connection  # type: ignore[attr-defined]
    calls = [records.call(answer="x" * 50_000 + str(number)) for number in range(20)]
    connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0] + 10}")
    with pytest.raises(StoreError, match="full; make room"):
        file.sink.deliver(calls)
    assert ask(path, "SELECT count(*) FROM calls") == ask(path, "SELECT count(*) FROM contents") == [(0,)]
    connection.execute("PRAGMA max_page_count=1000000")
    file.sink.deliver(calls)
    assert ask(path, "SELECT count(*) FROM calls") == [(20,)]


def test_reader_cannot_write(file: Delivery, path: Path) -> None:
    reader = open_store(path)
    with pytest.raises(StoreError, match="readonly"):
        list(reader._database.rows("DELETE FROM calls"))
    reader.close()


def test_columns_have_queryable_values(file: Delivery, path: Path, records: Records) -> None:
    file.write(records.call(session_id="s"))
    columns = (
        "session_id, provider, api, request_model, response_model, finish_reason, outcome, http_status, retries, "
        "end_ns - start_ns, first_token_ns, input_tokens, output_tokens, cache_read_tokens, cost_usd, cost_picousd, "
        "cost_source, params"
    )
    assert ask(path, f"SELECT {columns} FROM calls") == [(
        "s", "openai", "chat_completions", "gpt-5", "gpt-5-2025-08-07", "stop", "success", 200, 0,
        SECOND, SECOND // 4, 10, 5, None, "0.0000123", 12_300_000, "table-1", '{"temperature":0.5}',
    )]  # fmt: skip


def open_together(sinks: Sequence[Sink]) -> None:
    gate = threading.Barrier(len(sinks))

    def opened(sink: Sink) -> None:
        gate.wait(30)
        sink.open()
        sink.close()

    with ThreadPoolExecutor(len(sinks)) as pool:
        list(pool.map(opened, sinks))


def test_concurrent_processes_create_one_file(path: Path) -> None:
    """Processes that open the file while another creates it wait; none sees it incomplete or gets "busy"."""
    for number in range(20):
        made = path.with_name(f"{number}.db")
        open_together([find_store(str(made)).sink() for _ in range(10)])
        assert ask(made, "PRAGMA journal_mode") == [("wal",)]


def test_deleted_or_replaced_file_is_recreated(file: Delivery, path: Path, records: Records) -> None:
    """Otherwise rows would go to an unlinked file. The failure makes the spool deliver the batch again."""
    file.write(records.call())
    for one in path.parent.glob("calls.db*"):
        one.unlink()
    with pytest.raises(OSError, match="deleted or replaced"):
        file.write(records.call())
    file.sink.open()
    file.write(records.call())
    assert file.read().count_calls() == 1


def test_sums_view_groups_by_session_hour_model_and_provider(file: Delivery, path: Path, records: Records) -> None:
    file.write(
        records.call(session_id="a"),
        records.call(session_id="a", cost=Cost(usd=Decimal("1E-20"), source="mine")),
        records.call(session_id="a", model="gpt-4o", at_s=7200, outcome="timeout", usage=None, cost=None),
        records.call(session_id=None, outcome="cancelled"),
    )
    sql = """
        SELECT coalesce(session_id, '-'), model, provider, calls, errors, cancelled, input_tokens, exact_costs, costs
          FROM call_sums ORDER BY 1, hour"""
    assert ask(path, sql) == [
        ("-", "gpt-5", "openai", 1, 0, 1, 10, 1, 1),
        ("a", "gpt-5", "openai", 2, 0, 0, 20, 1, 2),
        ("a", "gpt-4o", "openai", 1, 1, 0, None, 0, 0),
    ]


def test_tool_results_and_questions_have_their_own_roles(file: Delivery, path: Path, records: Records) -> None:
    kinds = ["shell_call", "shell_call_output", "apply_patch_call_output", "compaction_trigger"]
    request = Request(body=raw({"input": [{"type": kind} for kind in kinds]}))
    file.write(records.call(api="responses", request=request))
    roles = ask(path, "SELECT role FROM call_messages WHERE direction = 'in' ORDER BY position")
    assert roles == [("assistant",), ("tool",), ("tool",), ("user",)]


@pytest.mark.postgres
def test_money_is_numeric_and_json_is_queryable(server: Delivery, records: Records) -> None:
    server.write(records.call())
    ((cost, temperature),) = ask(server.url, "SELECT sum(cost_usd)::text, max(params->>'temperature') FROM calls")
    assert (cost, temperature) == ("0.0000123", "0.5")


@pytest.mark.postgres
def test_message_view_has_roles(server: Delivery, records: Records) -> None:
    sent = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"}]
    server.write(records.call(sent, answer="Sunny."))
    assert ask(server.url, "SELECT position, direction, role, text FROM call_messages ORDER BY position") == [
        (0, "in", "system", "Be brief."),
        (1, "in", "user", "Weather?"),
        (2, "out", "assistant", "Sunny."),
    ]


@pytest.mark.postgres
def test_concurrent_writers_lose_nothing(postgres_url: str, deliver: Deliver, records: Records) -> None:
    """The same calls outside of sessions, which no session's lock protects, and the same texts in a session."""
    writers = [deliver(postgres_url) for _ in range(4)]
    calls = []

    def write(batches: Iterable[Sequence[CallRecord]]) -> None:
        for done in [pool.submit(one.write, *batch) for one, batch in zip(writers, batches, strict=True)]:
            done.result()

    with ThreadPoolExecutor(len(writers)) as pool:
        for number in range(25):
            alone = [records.call(answer=f"Answer {number} {one}") for one in range(8)]
            write([replace(one, seen_ns=1 + newer) for one in alone] for newer in range(4))
            inside = [records.call(answer=f"same {number} {one}", session_id="s") for one in range(8)]
            write([replace(one, call_id=f"{by} {one.call_id}") for one in inside[:: by % 2 or -1]] for by in range(4))
            calls += alone
    assert ask(postgres_url, "SELECT count(*) FROM calls") == [(25 * 8 * 5,)]
    assert ask(postgres_url, "SELECT count(*) FROM contents WHERE owner = 's:s'") == [(25 * 8 + 2,)]
    with closing(open_store(postgres_url)) as reader:
        for call in calls:
            found = reader.call(call.call_id)
            assert (found.request.body, found.response) == (call.request.body, call.response)


@pytest.mark.postgres
def test_records_of_two_schemas_are_sent_concurrently(postgres_server: PostgresServer, deliver: Deliver) -> None:
    with ExitStack() as stack:
        for url in (new_schema(postgres_server), new_schema(postgres_server)):
            deliver(url)
            stack.enter_context(closing(find_store(url).sent("http://127.0.0.1:4318")))  # type: ignore[attr-defined]


@pytest.mark.postgres
def test_url_may_name_several_hosts(postgres_url: str, deliver: Deliver, records: Records) -> None:
    """As those of clusters do: the first that can be reached is used."""
    url = postgres_url.replace("@", "@127.0.0.1:1,")
    deliver(url).write(records.call(call_id="c"))
    assert [row["call_id"] for row in json.loads(run(url, "calls", "--json"))] == ["c"]


@pytest.mark.postgres
def test_texts_are_utf8(postgres_url: str, deliver: Deliver, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    store = deliver(postgres_url)
    store.write(records.call(call_id="c", answer="100 \N{EURO SIGN}"))
    assert store.read().call("c").text == "100 \N{EURO SIGN}"


@pytest.mark.postgres
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_database_of_another_encoding_is_rejected(postgres_server: PostgresServer, encoding: str) -> None:
    name = f"of_{encoding.lower()}"
    with connect(postgres_server.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    with pytest.raises(StoreError, match=f"its encoding is {encoding}; name a database with the encoding UTF8"):
        find_store(postgres_server.url.replace("/postgres", f"/{name}")).sink().open()


@pytest.mark.postgres
def test_session_id_too_long_for_an_index_is_rejected(server: Delivery, records: Records) -> None:
    """Postgres reports a limit, not bad data. Retrying such a batch forever would block all others."""
    long = "".join(random.Random(1).choices("0123456789abcdef", k=20_000))
    with pytest.raises(Rejected):
        server.write(records.call(session_id=long))
    server.write(records.call(session_id="a"))
    assert ask(server.url, "SELECT session_id FROM calls") == [("a",)]


@pytest.mark.postgres
def test_answer_with_20_000_tool_calls_is_stored(server: Delivery, records: Records) -> None:
    """Each is a joint. A server has room for 6,400 locks, of all its clients."""
    ids = [f"call_{number:07d}z" for number in range(20_000)]
    calls = [{"id": ident, "type": "function", "function": {"name": "f", "arguments": "{}"}} for ident in ids]
    answer = {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "tool_calls": calls}}]}
    results = [{"role": "tool", "tool_call_id": ident, "content": "done"} for ident in ids]
    asked = [{"role": "user", "content": "q"}, answer["choices"][0]["message"], *results]  # type: ignore[index]
    server.write(records.call([asked[0]], call_id="a", response=Response(body=raw(answer))))
    server.write(records.call(asked, call_id="b", at_s=5))
    assert ask(server.url, "SELECT call_id, previous_call_id FROM calls ORDER BY 1") == [("a", None), ("b", "a")]


@pytest.mark.postgres
@pytest.mark.parametrize("code", ["22003", "23514", "54000", "54001", "54023", "53200", "57014", "XX000"])
def test_record_that_the_server_cannot_bear_blocks_no_other(
    postgres_url: str, server: Delivery, records: Records, tmp_path: Path, code: str
) -> None:
    """Whatever the server calls it: too much memory or time is tried again first."""
    server.write(records.call(call_id="first"))
    with connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.call_id = 'large' THEN RAISE EXCEPTION 'too much' USING ERRCODE = '{code}'; END IF;
            RETURN NEW; END $$""".encode()
        )
        admin.execute("CREATE TRIGGER refused BEFORE INSERT ON calls FOR EACH ROW EXECUTE FUNCTION refuse()")
    segment, rejected = Segment.create(tmp_path, ["k"]), 0
    for name in ("before", "large", "after"):
        segment.append(encode(records.call(call_id=name)))
    batches = BatchDelivery("store", StoreSink(find_store(postgres_url)))
    for _ in range(10):
        with suppress(SuspectError):
            rejected += batches.deliver(segment, "k").lost["rejected"]
    batches.close()
    assert rejected == 1
    assert left(postgres_url)[1] == {"first", "before", "after"}


@pytest.mark.postgres
def test_dry_run_needs_only_the_rights_of_a_reader(postgres_url: str, server: Delivery, records: Records) -> None:
    server.write(records.session("s", end_ns=5), records.call(session_id="s"), event("e", session_id="s"))
    with connect(postgres_url, autocommit=True) as admin, ExitStack() as after:
        schema = admin.execute("SELECT current_schema()").fetchone()[0]
        for done, undone in (
            ("CREATE ROLE looks_on LOGIN", "DROP ROLE looks_on"),
            (f"GRANT USAGE ON SCHEMA {schema} TO looks_on", "DROP OWNED BY looks_on"),
            (f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO looks_on", None),
            ("REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC", "GRANT TEMPORARY ON DATABASE postgres TO PUBLIC"),
        ):
            admin.execute(done)
            if undone is not None:
                after.callback(admin.execute, undone)
        for scope in ({"sessions": ["s"]}, {"older_than_ns": time.time_ns()}):
            planned = erase(postgres_url.replace("callspan@", "looks_on@"), **scope, dry_run=True).stores[0]
            assert (planned.sessions, planned.calls, planned.events) == (1, 1, 1), scope


@pytest.mark.postgres
def test_concurrent_processes_create_the_tables(postgres_url: str) -> None:
    """Even if the server's default isolation gives every transaction one snapshot."""
    with connect(postgres_url, autocommit=True) as admin, ExitStack() as after:
        admin.execute("ALTER ROLE callspan SET default_transaction_isolation = 'serializable'")
        after.callback(admin.execute, "ALTER ROLE callspan RESET default_transaction_isolation")
        open_together([find_store(postgres_url).sink() for _ in range(8)])
    assert ask(postgres_url, "SELECT version FROM callspan_layout") == [(FORMAT,)]


@pytest.mark.postgres
def test_more_processes_than_connections_deliver(
    postgres_server: PostgresServer, tmp_path: Path, records: Records
) -> None:
    """Each has its connection only while it has records: else the third of two would never deliver."""
    with connect(postgres_server.url, autocommit=True) as admin:
        admin.execute("CREATE ROLE worker LOGIN CONNECTION LIMIT 2")
        admin.execute("CREATE DATABASE fleet OWNER worker")
    url = postgres_server.url.replace("callspan@", "worker@").replace("/postgres", "/fleet")
    spools = [open_spool(tmp_path / str(number), url) for number in range(6)]
    try:
        for spool in spools:
            assert spool.append(encode(records.call()))
        until(lambda: [spool.states()[0].delivered for spool in spools] == [1] * len(spools))
    finally:
        assert [spool.close(HANG_S) for spool in spools] == [True] * len(spools)


@pytest.mark.postgres
def test_no_free_connection_is_no_failure(
    postgres_server: PostgresServer, tmp_path: Path, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged, and a flush waits until others close theirs."""
    with connect(postgres_server.url, autocommit=True) as admin:
        admin.execute("CREATE ROLE crowd LOGIN CONNECTION LIMIT 2")
        admin.execute("CREATE DATABASE crowded OWNER crowd")
    url = postgres_server.url.replace("callspan@", "crowd@").replace("/postgres", "/crowded")
    spool = open_spool(tmp_path / "spool", url)
    with ThreadPoolExecutor(1) as threads:
        with connect(url), connect(url):
            assert spool.append(encode(records.call()))
            until(lambda: spool.counters()["retried"] >= 2)
            flushed = threads.submit(spool.flush, HANG_S)
            retried = spool.counters()["retried"]
            until(lambda: spool.counters()["retried"] >= retried + 2)
            assert not flushed.done()
        assert flushed.result(HANG_S)
    assert spool.close(HANG_S)
    assert caplog.messages == []


@pytest.mark.postgres
def test_doctor_counts_connections(server: Delivery) -> None:
    said = " ".join(command("--store", server.url, "doctor").out.split())
    assert re.search(r"can be written; \d+ of 97 connections are in use", said), said


@pytest.mark.postgres
def test_locked_table_is_reported(server: Delivery) -> None:
    with connect(server.url) as other:
        other.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
        said = command("--store", server.url, "doctor")
    assert "locked by another process" in " ".join(said.out.split())


@pytest.mark.postgres
def test_deletion_waits_for_writers(server: Delivery, records: Records) -> None:
    """Otherwise a writer that has not seen the deletion would store erased records again."""
    server.write(records.call(call_id="c"))
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with ThreadPoolExecutor(2) as threads, connect(server.url) as other:
        other.execute("LOCK TABLE contents IN SHARE MODE")  # a writer gets this far
        writing = threads.submit(server.write, records.call(call_id="c", seen_ns=1, answer="Late."))
        until(lambda: ask(server.url, waits) == [(1,)])
        deleting = threads.submit(erase, server.url, calls=["c"])
        until(lambda: ask(server.url, waits) == [(2,)])
        other.rollback()
        writing.result(HANG_S)
        deleting.result(HANG_S)
    assert left(server.url) == (set(), set())


@pytest.mark.clickhouse
def test_no_parameter_is_larger_than_a_server_takes(
    clickhouse_url: str, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server refuses a parameter above 128 KB, the embedded engine takes it: ids of applications may be long."""
    from clickhouse_connect.driver._chdbclient import ChdbClient

    sent: list[Any] = []
    for name in ("query", "command"):
        method = getattr(ChdbClient, name)

        def watched(self: Any, sql: str, parameters: Any = None, *rest: Any, _of: Any = method, **named: Any) -> Any:
            sent.extend((parameters or {}).values())
            return _of(self, sql, parameters, *rest, **named)

        monkeypatch.setattr(ChdbClient, name, watched)
    ids = [f"{number:04d} \N{SNOWMAN}" + "x" * 200 for number in range(900)]
    keep(clickhouse_url, *(records.session(session_id, start_ns=START_NS) for session_id in ids))
    with closing(open_store(clickhouse_url)) as reader:
        assert len(reader.session_values(CallFilter(limit=899))) == 899
        assert erase(clickhouse_url, sessions=ids).stores[0].total == 900
        assert reader.is_erased("session", ids[-1])
        assert list(reader.sessions()) == []
    texts = [value for value in sent if isinstance(value, str)]
    assert max(map(len, texts)) > 10_000
    assert max(len(text.encode()) for text in texts) <= 131_072


@pytest.mark.clickhouse
def test_row_of_another_worker_rejects_no_record(
    clickhouse_url: str, deliver: Deliver, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that collects the inserts of many workers may fail them all for one bad row.

    The engine does not collect, so the refusal of the collected insert is made here; the insert alone is the engine's.
    """
    from clickhouse_connect.driver.exceptions import DatabaseError

    store = deliver(clickhouse_url)
    client = store.sink._database.connection  # type: ignore[attr-defined]
    insert, shared = client.raw_insert, list[bool]()

    def collected(*arguments: Any, settings: dict[str, int], **more: Any) -> Any:
        shared.append((settings["async_insert"], settings["wait_for_async_insert"]) == (1, 1))
        if shared[-1]:
            raise DatabaseError("Code: 27. DB::Exception: Cannot parse input: a row of another worker")
        return insert(*arguments, settings=settings, **more)

    monkeypatch.setattr(client, "raw_insert", collected)
    store.write(records.call(call_id="good"))
    with pytest.raises(Rejected, match="start_ns"):
        store.sink._insert("call_versions", [{"call_id": "bad", "start_ns": "soon"}])  # type: ignore[attr-defined]
    assert shared == [True, False] * 4, "three tables of the good call, one of the bad row"
    with clickhouse(clickhouse_url) as other:
        assert other.query("SELECT call_id FROM calls").result_rows == [("good",)]


def documented(comment: str) -> str:
    """The query of docs/sql.md below a comment."""
    page = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
    return page.partition(f"-- {comment}")[2].partition("\n")[2].partition(";")[0]


@pytest.mark.transactional("asks by a driver of its own")
def test_failing_tools_query_counts_runs_per_model(url: str, store: Delivery, records: Records) -> None:
    """Runs, not calls; a run whose call is unknown is left out, as are starts and other events of a call."""
    models = {"c1": "small", "c2": "large", "c3": "large"}
    store.write(*(records.call(call_id=name, model=model) for name, model in models.items()))
    failure = ErrorInfo(kind="unknown", type="ValueError")
    runs = [("c1", "look", None), ("c1", "look", failure), ("c1", "move", failure), ("c2", "look", failure)]
    runs += [("c3", "look", None), ("c3", "look", failure), (None, "look", failure)]
    for number, (call_id, name, error) in enumerate(runs):
        shared = {"session_id": "s", "time_ns": START_NS + number, "name": name, "call_id": call_id}
        store.write(
            event(f"e{number}", event_type="tool", error=error, tool_call_id=f"t{number}", **shared),
            event(f"e{number}-start", event_type="tool_start", **shared),
        )
    found = ask(path_or_url(url), documented("the models whose calls lead to failing tools"))
    assert found == [("large", "look", 3, 2), ("small", "look", 2, 1), ("small", "move", 1, 1)]


def path_or_url(url: str) -> Path | str:
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else url
