"""Fixtures of the store tests: records of every kind, a small agent, and ways to deliver them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.commands import ask
from tests.support.records import SECOND, raw

from callspan import open_store
from callspan.delivery.store_sink import StoreSink
from callspan.records import (
    Attempt,
    CallRecord,
    Cost,
    ErrorInfo,
    EventRecord,
    MessageRecord,
    Place,
    RateLimit,
    RateLimits,
    Record,
    Redaction,
    Request,
    Response,
    RewardRecord,
    SessionRecord,
    Stream,
    TimestepRecord,
    Timing,
    Usage,
    decode,
    encode,
)
from callspan.spool.directory import create, directory_of, keys_of
from callspan.spool.segment import Segment
from callspan.spool.spool import Spool
from callspan.stores import Reader, Sink, find_store
from callspan.stores.spools import target_of

if TYPE_CHECKING:
    from .servers import PostgresServer

__all__ = ["SECOND", "START_NS", "Delivery", "Records", "clickhouse", "left", "raw", "run", "spool_of", "waiting"]

_SCHEMAS = count(1)
START_NS = 1_760_000_000_000_000_000


class Records:
    """Makes records as the rest of callspan does; every id is new unless given."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def new_id(self) -> str:
        return f"01990000-0000-7000-8000-{next(self._numbers):012x}"

    def call(
        self,
        messages: object = None,
        answer: str = "Hello there.",
        *,
        call_id: str | None = None,
        model: str = "gpt-5",
        session_id: str | None = None,
        at_s: float = 0,
        **fields: object,
    ) -> CallRecord:
        sent = [{"role": "user", "content": "Hi"}] if messages is None else messages
        request = {"model": model, "messages": sent, "temperature": 0.5}
        response = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": f"{model}-2025-08-07",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
        given: dict[str, object] = {
            "call_id": call_id or self.new_id(),
            "provider": "openai",
            "api": "chat_completions",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": f"{next(self._numbers):016x}",
            "place": Place(session_id=session_id),
            "request": Request(model=model, params={"temperature": 0.5}, message_count=1, body=raw(request)),
            "response": Response(
                id="chatcmpl-1", model=f"{model}-2025-08-07", finish_reasons=["stop"], body=raw(response)
            ),
            "usage": Usage(input_tokens=10, output_tokens=5, total_tokens=15, raw={"prompt_tokens": 10}),
            "cost": Cost(usd=Decimal("0.0000123"), source="table-1"),
            "timing": Timing(start_ns=START_NS + int(at_s * SECOND), duration_ns=SECOND, first_token_ns=SECOND // 4),
            "attempts": [Attempt(number=1, start_ns=5, status=200, request_id="req_1")],
            "retries": 0,
        }
        return CallRecord(**(given | fields))  # type: ignore[arg-type]

    def session(self, session_id: str = "s1", version: int = 1, **fields: object) -> SessionRecord:
        return SessionRecord(session_id=session_id, seen_ns=version, **fields)  # type: ignore[arg-type]

    def every_kind(self) -> list[Record]:
        """One record of each kind with every field that a store has a column for, and some it has not."""
        return [
            self.session(
                name="gridworld", start_ns=START_NS, user_id="u1", metadata={"seed": 7, "deep": {"a": [1, None]}}
            ),
            TimestepRecord(timestep_id="t1", session_id="s1", seen_ns=1, index=0, start_ns=START_NS, terminated=False),
            self.call(
                session_id="s1",
                stream=Stream(end="closed", chunks=3),
                outcome="cancelled",
                error=ErrorInfo(kind="cancelled", type="CancelledError", body={"a": 1}),
                metadata={"run": "r1"},
                redactions=[Redaction(what="request.body", why="media")],
                rate_limits=RateLimits(requests=RateLimit(limit=5, remaining=4, reset_s=0.25)),
            ),
            EventRecord(
                event_id="e1", session_id="s1", timestep_id="t1", timestep=0, event_type="environment",
                time_ns=START_NS + 1, sequence=1, data={"after": [1, 2, {"x": None}]}, reward=0.5, terminated=False,
            ),
            MessageRecord(
                message_id="m1", session_id="s1", message_type="observation", sender="env", receiver="agent",
                time_ns=START_NS + 2, content={"grid": [[0, 1]]}, causal_influence=["e1"],
            ),
            RewardRecord(
                reward_id="r1", session_id="s1", event_id="e1", value=0.5, source="environment", time_ns=START_NS + 3
            ),
        ]  # fmt: skip


class Delivery:
    """A store under test: its sink, fed as the shipper feeds it, and readers of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sink: Sink = find_store(url).sink()
        self.sink.open()
        self._readers: list[Reader] = []

    def write(self, *records: Record | bytes) -> None:
        self.sink.deliver([decode(one if isinstance(one, bytes) else encode(one)) for one in records])

    def read(self) -> Reader:
        self._readers.append(open_store(self.url))
        return self._readers[-1]

    def close(self) -> None:
        self.sink.close()
        for reader in self._readers:
            reader.close()


def run(url: str, *arguments: str, code: int | None = 0) -> str:
    """Run a command over a store; return what it printed. Any exit code will do if `code` is None."""
    answer = ask("--store", url, *arguments)
    assert answer.code == code or code is None, (arguments, answer.out, answer.err)
    return answer.out


def left(url: str) -> tuple[set[str], set[str]]:
    """The ids of the sessions and calls that are there."""
    with closing(open_store(url)) as reader:
        return {one.session.session_id for one in reader.sessions()}, {one.call_id for one in reader.calls()}


def spool_of(root: Path, *urls: str) -> Spool:
    """The spool of some stores."""
    return Spool([root], {target_of(store): partial(StoreSink, store) for store in map(find_store, urls)})


def waiting(url: str, root: Path, *payloads: bytes) -> Path:
    """Leave a segment with records for a store, and return it."""
    target = target_of(find_store(url))
    directory = directory_of(root, [target])
    create(directory, [target])
    segment = Segment.create(directory, keys_of(directory))
    for payload in payloads:
        segment.append(payload, segment.size)
    segment.close()
    return segment.path


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new store of each kind that is read."""
    return f"sqlite:///{tmp_path}/calls.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def deliver(tmp_path: Path) -> Iterator[Callable[[str], Delivery]]:
    """Open a store by its URL; closed at the end."""
    opened: list[Delivery] = []

    def start(url: str) -> Delivery:
        opened.append(Delivery(url))
        return opened[-1]

    yield start
    for delivery in opened:
        delivery.close()


@pytest.fixture
def store(url: str, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(url)


def needs_module(name: str, install: str) -> None:
    """Fail where a module cannot be imported: tests that need one are chosen by their marker."""
    if importlib.util.find_spec(name) is None:
        pytest.fail(f"needs {name}: {install}")


@pytest.fixture
def clickhouse_url(tmp_path: Path) -> str:
    """A directory of the embedded engine."""
    needs_module("clickhouse_connect", "pip install 'callspan[clickhouse]'")
    needs_module("chdb", "pip install chdb (about 900 MB)")
    return f"clickhouse+chdb://{tmp_path}/clickhouse"


def clickhouse(url: str) -> Any:
    """A client of the embedded engine, to be closed."""
    from callspan.stores.clickhouse.connection import connect

    return closing(connect(url))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    from .servers import PostgresServer

    needs_module("psycopg", "pip install 'callspan[postgres]'")
    programs = PostgresServer.programs()
    if programs is None:
        pytest.fail("needs Postgres: initdb and pg_ctl on the PATH or in /usr/lib/postgresql")
    server = PostgresServer(programs)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """A schema of its own in the server of this run."""
    import psycopg

    name = f"t{next(_SCHEMAS)}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{postgres_server.url}?options=-csearch_path%3D{name}"
