"""Deleting: children go too, shared content stays as long as somebody needs it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from callspan.stores.base import StoreError
from callspan.stores.retention import delete_session, prune

from .conftest import SECOND, START_NS, Delivery, Records

LONG = "an answer that is long enough to be lent to the next request, and then some more words"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


@pytest.fixture
def store(path: Path, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(f"sqlite:///{path}")


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


def test_what_another_session_shares_stays(store: Delivery, path: Path, records: Records) -> None:
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


def test_a_writer_goes_on_after_content_it_remembered_is_gone(store: Delivery, path: Path, records: Records) -> None:
    """The writer's memory of stored content must not outlive the content."""
    store.write(records.call(session_id="a", answer=LONG))
    delete_session(path, "a")
    again = records.call([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": LONG}], session_id="b")
    store.write(again)
    (found,) = store.read().calls()
    assert bytes(found.request.body) == bytes(again.request.body)


def test_pruning_takes_what_is_old_and_nothing_else(store: Delivery, path: Path, records: Records) -> None:
    old, new = records.call(at_s=0), records.call(at_s=100)
    store.write(
        old,
        new,
        records.session("ended", start_ns=START_NS, end_ns=START_NS + SECOND),
        records.session("running-long", start_ns=START_NS, end_ns=START_NS + 200 * SECOND),
    )
    removed = prune(path, START_NS + 50 * SECOND)
    assert (removed.sessions, removed.calls) == (1, 1)
    reader = store.read()
    assert [one.call_id for one in reader.calls()] == [new.call_id]
    assert [one.session.session_id for one in reader.sessions()] == ["running-long"]
    assert prune(path, START_NS + 50 * SECOND).calls == 0


def test_an_unknown_session_removes_nothing(store: Delivery, path: Path, records: Records) -> None:
    store.write(*records.every_kind())
    before = counts(path)
    assert delete_session(path, "nobody").calls == 0
    assert counts(path) == before


def test_a_missing_file_is_a_clear_error_and_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        prune(tmp_path / "no.db", 1)
    assert not (tmp_path / "no.db").exists()
