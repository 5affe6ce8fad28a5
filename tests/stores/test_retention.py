"""Deletion: children are deleted too; shared content is kept while it is referenced."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from callspan import SettingError
from callspan.record import events
from callspan.records import Request, RewardRecord, TimestepRecord
from callspan.stores import CallFilter, DeletionResult, StoreError
from callspan.stores.retention import prune
from callspan.stores.sqlite import removal
from callspan.stores.urls import open_store

from .conftest import SECOND, START_NS, Delivery, Records, delete_session

LONG = "an answer that is long enough to be lent to the next request, and then some more words"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


@pytest.fixture
def store(path: Path, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(f"sqlite:///{path}")


@pytest.fixture
def any_store(url: str, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(url)


class TestEveryStore:
    def test_a_session_goes_with_everything_below_it_and_nothing_else_does(
        self, any_store: Delivery, records: Records
    ) -> None:
        other = records.call(session_id="s2")
        any_store.write(*records.every_kind(), other, records.session("s2", start_ns=START_NS))
        removed = delete_session(any_store.url, "s1")
        assert (removed.sessions, removed.calls, removed.others) == (1, 1, 4)
        reader = any_store.read()
        assert [one.session.session_id for one in reader.sessions()] == ["s2"]
        (left,) = reader.calls()
        assert bytes(left.request.body) == bytes(other.request.body)
        assert list(reader.events("s1")) == list(reader.timesteps("s1")) == []
        again = delete_session(any_store.url, "s1")
        assert (again.sessions, again.calls, again.others) == (0, 0, 0)

    def test_pruning_takes_what_is_old_and_nothing_else(self, any_store: Delivery, records: Records) -> None:
        old, new, of_ended = records.call(at_s=0), records.call(at_s=100), records.call(at_s=100, session_id="ended")
        any_store.write(
            old,
            new,
            of_ended,
            records.session("ended", version=1, start_ns=START_NS),
            records.session("ended", version=2, end_ns=START_NS + SECOND),
            records.session("running-long", start_ns=START_NS, end_ns=START_NS + 200 * SECOND),
            step("old", start_ns=START_NS),
            step("new", start_ns=START_NS + 100 * SECOND),
            step("timeless"),
            RewardRecord(reward_id="old", session_id="running-long", time_ns=START_NS),
            RewardRecord(reward_id="new", session_id="running-long", time_ns=START_NS + 100 * SECOND),
        )
        removed = prune(any_store.url, START_NS + 50 * SECOND)
        assert (removed.sessions, removed.calls, removed.others) == (1, 2, 2)
        reader = any_store.read()
        assert [one.call_id for one in reader.calls()] == [new.call_id]
        assert [one.session.session_id for one in reader.sessions()] == ["running-long"]
        assert [one.timestep_id for one in reader.timesteps("running-long")] == ["timeless", "new"]
        assert [events.record_key(one)[1] for one in reader.events("running-long")] == ["new"]
        assert prune(any_store.url, START_NS + 50 * SECOND).calls == 0

    def test_a_later_version_does_not_keep_an_old_timestep(self, any_store: Delivery, records: Records) -> None:
        any_store.write(step("t", start_ns=START_NS), step("t", version=2, terminated=True))
        assert prune(any_store.url, START_NS + 1).others == 1
        assert list(any_store.read().timesteps("running-long")) == []

    def test_the_writer_continues_after_a_deletion(self, any_store: Delivery, records: Records) -> None:
        """What it remembers of the store must not outlive what was deleted."""
        any_store.write(records.call(session_id="a", answer=LONG))
        delete_session(any_store.url, "a")
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": LONG}]
        again = records.call(messages, session_id="b")
        any_store.write(again)
        (found,) = any_store.read().calls()
        assert bytes(found.request.body) == bytes(again.request.body)

    def test_a_missing_store_is_an_error_that_says_so(self, url: str) -> None:
        with pytest.raises(StoreError, match="nothing was recorded there"):
            prune(url, 1)


def step(timestep_id: str, version: int = 1, **fields: object) -> TimestepRecord:
    given = {"timestep_id": timestep_id, "session_id": "running-long", "seen_ns": version, "index": 0}
    return TimestepRecord(**(given | fields))  # type: ignore[arg-type]


def test_a_socket_has_nothing_to_delete() -> None:
    with pytest.raises(SettingError, match="records cannot be deleted from"):
        prune("unix:///nowhere.sock", 1)


def test_lines_that_are_not_records_survive_a_deletion(
    tmp_path: Path, deliver: Callable[[str], Delivery], records: Records
) -> None:
    """Also in rotated files; one that has become empty is gone, and the file in use stays."""
    path = tmp_path / "calls.jsonl"
    store = deliver(f"jsonl:///{path}?max_bytes=1")
    store.write(records.call(session_id="a"))
    store.write(records.call(session_id="a"))
    store.write(records.call(session_id="a"))
    (tmp_path / "calls.jsonl.1").write_bytes(b"no record\n" + (tmp_path / "calls.jsonl.1").read_bytes() + b"torn")
    assert delete_session(f"jsonl:///{path}", "a").calls == 3
    assert (tmp_path / "calls.jsonl.1").read_bytes() == b"no record\ntorn\n"
    assert not (tmp_path / "calls.jsonl.2").exists()
    assert path.read_bytes() == b""
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


@pytest.mark.postgres
def test_deleting_from_postgres_during_writes_leaves_no_dangling_references(
    postgres_url: str, records: Records
) -> None:
    """Every call that is there afterwards has its whole request, although its content was about to be swept."""
    stop = threading.Event()

    def write() -> None:
        writer = Delivery(postgres_url)
        while not stop.is_set():
            writer.write(*[records.call(session_id="b", at_s=100) for _ in range(3)])
            writer.write(records.call(session_id="a", at_s=0, answer=LONG))
        writer.close()

    Delivery(postgres_url).close()
    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(15):
        prune(postgres_url, START_NS + SECOND)
    stop.set()
    thread.join()
    reader = open_store(postgres_url)
    found = list(reader.calls())
    reader.close()
    assert len(found) > 3
    assert all(bytes(one.request.body) for one in found)


@pytest.mark.clickhouse
def test_clickhouse_contents_go_a_day_after_the_last_call_that_needed_them(
    clickhouse_url: str, deliver: Callable[[str], Delivery], records: Records
) -> None:
    store = deliver(clickhouse_url)
    store.write(records.call(session_id="a"))
    now, day = time.time_ns(), 86_400 * SECOND
    assert prune(clickhouse_url, now + day // 2).contents == 0
    assert prune(clickhouse_url, now + 2 * day).contents == 3


def counts(path: Path) -> dict[str, int]:
    tables = ("calls", "sessions", "timesteps", "events", "messages", "rewards", "content", "ctx")
    connection = sqlite3.connect(path)
    found = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
    connection.close()
    return found


def test_a_session_goes_with_everything_below_it(store: Delivery, path: Path, records: Records) -> None:
    store.write(*records.every_kind())
    removed = delete_session(path, "s1")
    assert (removed.sessions, removed.calls, removed.others, removed.contents) == (1, 1, 4, 3)
    assert set(counts(path).values()) == {0}


def test_content_shared_with_another_session_stays(store: Delivery, path: Path, records: Records) -> None:
    first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    longer = [*first, {"role": "assistant", "content": LONG}, {"role": "user", "content": "And?"}]
    one = records.call(first, answer=LONG, session_id="a")
    two = records.call(longer, session_id="b")
    store.write(one, two)
    delete_session(path, "a")
    (left,) = store.read().calls()
    assert bytes(left.request.body) == bytes(two.request.body)
    removed = delete_session(path, "b")
    assert removed.calls == 1
    assert counts(path)["content"] == counts(path)["ctx"] == 0


def test_what_is_sent_again_during_a_deletion_stays(
    store: Delivery, path: Path, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever row the deletion has come to: a batch is one row here, and between two the calls are made again."""
    first = [{"role": "system", "content": "Be brief. " * 200}, {"role": "user", "content": "Hi"}]
    longer = [*first, {"role": "assistant", "content": LONG}, {"role": "user", "content": "And?"}]
    original = [records.call(first, answer=LONG, session_id="a"), records.call(longer, session_id="a")]
    whole = [bytes(one.request.body) for one in original]
    pauses: list[float] = []
    found = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == moment:
            store.write(records.call(first, LONG, at_s=100), records.call(longer, at_s=101))

    for name in ("_LEAST", "_FIRST", "_MOST"):
        monkeypatch.setattr(removal, name, 1)
    monkeypatch.setattr(removal, "time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))
    for moment in range(1, 20):
        pauses.clear()
        store.write(*[msgspec.structs.replace(one, call_id=records.new_id()) for one in original])
        prune(path, START_NS + 50 * SECOND)
        found.append([bytes(one.request.body) for one in store.read().calls(CallFilter(newest_first=False))])
        assert found[-1] == (whole if moment <= len(pauses) else [])
        pauses.extend([0.0] * 20)
        prune(path, START_NS + 200 * SECOND)
        assert counts(path)["content"] == counts(path)["ctx"] == 0
    assert [] in found, "not every moment of the deletion was tried"


@pytest.mark.parametrize("moment", range(1, 7))
def test_the_request_of_a_merged_call_stays_that_arrives_during_a_deletion(
    store: Delivery, path: Path, records: Records, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Of an earlier part: the call keeps its row id, its part, and when that was seen."""
    messages = [{"role": "user", "content": "The same question in both sessions. " * 20}]
    whole = records.call(messages, call_id="merged", seen_in="fetch", part="answered")
    answer = msgspec.structs.replace(whole, request=Request(model="gpt-5"))
    request = msgspec.structs.replace(whole, seen_in="call", part="requested", outcome="in_progress", response=None)
    store.write(answer, records.call(messages, session_id="a"))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == moment:
            store.write(request)

    monkeypatch.setattr(removal, "time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))
    delete_session(path, "a")
    (left,) = store.read().calls()
    assert len(pauses) >= moment
    assert bytes(left.request.body) == bytes(whole.request.body)


@pytest.mark.parametrize("way", [lambda path: delete_session(path, "a"), lambda path: prune(path, START_NS + SECOND)])
def test_a_damaged_request_of_another_call_does_not_stop_a_deletion(
    store: Delivery,
    path: Path,
    records: Records,
    way: Callable[[Path], DeletionResult],
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = records.call([{"role": "user", "content": "Another one."}], model="gpt-6", session_id="b", at_s=100)
    store.write(records.call(session_id="a"), other)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        sql = "UPDATE content SET data = x'0102' WHERE id = (SELECT request FROM calls WHERE session_id = 'b')"
        connection.execute(sql)
    removed = way(path)
    assert (removed.calls, removed.contents) == (1, 3)
    assert any("1 request cannot be read" in message for message in caplog.messages)


@pytest.mark.postgres
def test_a_damaged_request_of_another_call_does_not_stop_a_deletion_from_postgres(
    postgres_url: str, deliver: Callable[[str], Delivery], records: Records
) -> None:
    store = deliver(postgres_url)
    other = records.call([{"role": "user", "content": "Another one."}], model="gpt-6", session_id="b", at_s=100)
    store.write(records.call(session_id="a"), other)
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            r"UPDATE content SET data = '\x0102' WHERE hash = (SELECT request FROM calls WHERE session_id = 'b')"
        )
    removed = delete_session(postgres_url, "a")
    assert (removed.calls, removed.contents) == (1, 3)


def test_a_missing_file_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        prune(tmp_path / "no.db", 1)
    assert not (tmp_path / "no.db").exists()
