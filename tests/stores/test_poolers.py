"""Postgres behind PgBouncer in transaction mode: each transaction may run in another session of the server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import psycopg
import pytest
from tests.support.waiting import HANG_S

from callspan import erase, open_store
from callspan.stores import find_store
from callspan.stores.removal import RetentionTimes
from callspan.stores.sent import BusyError

from .conftest import START_NS, Deliver, PostgresServer, Records, left, pooled

pytestmark = pytest.mark.postgres
DATABASE = "pooled"
WRITERS, BATCHES = 6, 30
STATE = """
SELECT (SELECT count(*) FROM pg_prepared_statements), current_setting('jit'), current_setting('statement_timeout'),
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
       (SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relname LIKE 'gone%')"""


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[str]:
    with pooled(postgres_server, DATABASE) as url:
        yield url


@pytest.fixture
def store_url(pooler: str, postgres_server: PostgresServer) -> str:
    """The database behind the pooler, emptied."""
    with psycopg.connect(_direct(postgres_server), autocommit=True) as admin:
        admin.execute("DROP SCHEMA public CASCADE")
        admin.execute("CREATE SCHEMA public")
    return pooler


def _direct(server: PostgresServer) -> str:
    return server.url.replace("/postgres", f"/{DATABASE}")


def test_many_writers_deliver_through_three_server_sessions(store_url: str, deliver: Deliver, records: Records) -> None:
    """Statements are not prepared: another client may have prepared one of the same name in the session."""
    writers = [deliver(store_url) for _ in range(WRITERS)]
    batches = [[records.call(session_id=f"s{number % 3}") for _ in range(3)] for number in range(WRITERS * BATCHES)]

    def write(writer: int) -> None:
        for batch in batches[writer::WRITERS]:
            writers[writer].write(*batch)

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(write, range(WRITERS)))
    with closing(open_store(store_url)) as reader:
        assert sum(1 for _ in reader.calls()) == 3 * len(batches)


def test_no_state_outlives_a_transaction(
    store_url: str, postgres_server: PostgresServer, deliver: Deliver, records: Records
) -> None:
    """Whatever stays in a session of the server is met by the next client that gets it."""
    writer = deliver(store_url)
    for number in range(8):
        writer.write(records.session(f"s{number}", start_ns=START_NS), records.call(session_id=f"s{number}"))
    assert str(find_store(store_url).try_out()).startswith("can be written")
    assert sum(1 for _ in writer.read().calls()) == 8
    erase(store_url, sessions=["s0"])
    assert sum(find_store(store_url).retain(RetentionTimes(2**62, 2**62))) > 0  # type: ignore[attr-defined]
    assert left(store_url) == (set(), set())
    # More transactions at once than the pooler has sessions, so that each of its sessions answers.
    with ExitStack() as stack:
        clients = [stack.enter_context(psycopg.connect(store_url, prepare_threshold=None)) for _ in range(3)]
        states = {client.execute(STATE).fetchone() for client in clients}
    with psycopg.connect(_direct(postgres_server)) as fresh:
        assert states == {fresh.execute(STATE).fetchone()}


def test_ids_to_delete_are_set_per_transaction(store_url: str, deliver: Deliver, records: Records) -> None:
    """More sessions than one transaction deletes, while other clients use the sessions of the server."""
    writer = deliver(store_url)
    names = [f"s{number}" for number in range(250)]
    writer.write(*(records.session(name, start_ns=START_NS) for name in names))
    writer.write(*(records.call(session_id=name) for name in names), records.call(call_id="stays"))

    def read() -> None:
        with closing(open_store(store_url)) as reader:
            list(reader.calls())

    with ThreadPoolExecutor(4) as threads:
        reading = [threads.submit(read) for _ in range(12)]
        receipt = erase(store_url, sessions=[*names, "unknown"])
        for done in reading:
            done.result(HANG_S)
    assert receipt.is_complete
    assert left(store_url) == (set(), {"stays"})


def test_only_one_process_sends(store_url: str, deliver: Deliver, records: Records) -> None:
    """The lock is held although other transactions of its holder go through other sessions."""
    deliver(store_url).write(records.call())
    store, receiver = find_store(store_url), "http://127.0.0.1:4318"
    with closing(store.sent(receiver)) as sent:  # type: ignore[attr-defined]
        for number in range(20):
            sent.add({f"call:{number}": 1})
        with pytest.raises(BusyError):
            store.sent(receiver)  # type: ignore[attr-defined]
    store.sent(receiver).close()  # type: ignore[attr-defined]
