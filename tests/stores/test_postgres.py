"""Postgres only: restarts, concurrent writers, and values it cannot store."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from msgspec.structs import replace
from tests.support.commands import ask as command
from tests.support.rig import until

from callspan import erase, open_store
from callspan.records import FORMAT, CallRecord
from callspan.stores import Rejected, Sink, find_store

from .conftest import Delivery, Records, left

psycopg = pytest.importorskip("psycopg", reason="needs psycopg: pip install 'callspan[postgres]'")
pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


def ask(url: str, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(sql.encode()).fetchall()


def test_money_is_numeric_and_json_can_be_used(store: Delivery, records: Records) -> None:
    store.write(records.call())
    ((cost, temperature),) = ask(store.url, "SELECT sum(cost_usd)::text, max(params->>'temperature') FROM calls")
    assert (cost, temperature) == ("0.0000123", "0.5")


def test_the_view_shows_the_messages_by_role(store: Delivery, records: Records) -> None:
    sent = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"}]
    store.write(records.call(sent, answer="Sunny."))
    assert ask(store.url, "SELECT position, direction, role, text FROM call_messages ORDER BY position") == [
        (0, "in", "system", "Be brief."),
        (1, "in", "user", "Weather?"),
        (2, "out", "assistant", "Sunny."),
    ]


def test_writers_at_once_lose_nothing_and_keep_the_bodies_that_they_share(
    postgres_url: str, deliver: Callable[[str], Delivery], records: Records
) -> None:
    """The same calls outside of sessions, whose contents no lock of a session guards; the same texts in a session."""
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


def test_an_unreachable_server_is_an_error_without_the_password() -> None:
    store = find_store("postgresql://ann:secret@127.0.0.1:1/db")
    with pytest.raises(psycopg.OperationalError) as refused:
        store.sink().open()
    assert "secret" not in str(refused.value) + store.name


def test_a_session_id_too_long_for_an_index_is_rejected_and_blocks_nothing(store: Delivery, records: Records) -> None:
    """Postgres calls it a limit, not bad data; a batch that was tried for ever would stop all others."""
    long = "".join(random.Random(1).choices("0123456789abcdef", k=20_000))
    with pytest.raises(Rejected):
        store.write(records.call(session_id=long))
    store.write(records.call(session_id="a"))
    assert ask(store.url, "SELECT session_id FROM calls") == [("a",)]


def test_many_processes_may_make_the_tables_at_once(postgres_url: str) -> None:
    """Also where the server's default gives every transaction a snapshot of its own beginning."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("ALTER ROLE callspan SET default_transaction_isolation = 'serializable'")
    stores = [find_store(postgres_url).sink() for _ in range(8)]
    try:
        start = threading.Barrier(len(stores))

        def open_together(store: Sink) -> None:
            start.wait(30)
            store.open()

        with ThreadPoolExecutor(len(stores)) as pool:
            list(pool.map(open_together, stores))
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute("ALTER ROLE callspan RESET default_transaction_isolation")
    assert ask(postgres_url, "SELECT version FROM callspan_layout") == [(FORMAT,)]
    for one in stores:
        one.close()


def test_a_locked_table_is_said_to_be_locked(store: Delivery) -> None:
    with psycopg.connect(store.url) as other:
        other.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
        said = command("--store", store.url, "doctor")
    assert "locked by another process" in " ".join(said.out.split())


def test_a_deletion_waits_for_who_writes_and_then_finds_what_was_written(store: Delivery, records: Records) -> None:
    """Else a writer that has not seen the deletion stores again what was erased."""
    store.write(records.call(call_id="c"))
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with ThreadPoolExecutor(2) as threads, psycopg.connect(store.url) as other:
        other.execute("LOCK TABLE contents IN SHARE MODE")  # up to here a writer gets
        writing = threads.submit(store.write, records.call(call_id="c", seen_ns=1, answer="Late."))
        until(lambda: ask(store.url, waits) == [(1,)])
        deleting = threads.submit(erase, store.url, calls=["c"])
        until(lambda: ask(store.url, waits) == [(2,)])
        other.rollback()
        writing.result(20)
        deleting.result(20)
    assert left(store.url) == (set(), set())
