"""The server says that something was written: SQLite and Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from callspan import erase
from callspan.records import RewardRecord
from tests.stores.conftest import postgres_server, postgres_url
from tests.support.records import START_NS

from .conftest import Delivery, Records, Show, Shown

__all__ = ["postgres_server", "postgres_url"]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Delivery]:
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/calls.db" if is_file else str(request.getfixturevalue("postgres_url"))
    delivery = Delivery(url)
    yield delivery
    delivery.close()


def test_that_something_was_written_is_said_at_once(written: Delivery, records: Records, show: Show) -> None:
    page = show(written.url)

    def version() -> str:
        return str(page.get("/api/version")["version"])

    before = version()
    assert version() == before
    written.write(records.session("new", start_ns=START_NS))
    assert (after := version()) != before
    assert [row["id"] for row in page.get("/api/sessions")["rows"]] == ["new"]
    assert version() == after
    written.write(RewardRecord(reward_id="r1", session_id="new", scope="session", value=1.0, time_ns=START_NS))
    assert version() != after


def test_a_store_that_goes_is_said_and_its_return_too(records: Records, shown: Shown, tmp_path: Path) -> None:
    page, path = shown(records.session("s1", start_ns=START_NS)), tmp_path / "calls.db"
    assert page.get("/api/version")["version"]
    path.rename(tmp_path / "moved.db")
    assert "no such file" in page.get("/api/version")["error"]
    assert page.ask("/api/sessions").status == 503
    (tmp_path / "moved.db").rename(path)
    assert page.get("/api/version")["version"]


def test_an_erased_session_says_so(store: Delivery, records: Records, shown: Shown) -> None:
    page = shown(records.session("s1", start_ns=START_NS), records.session("s2", start_ns=START_NS))
    assert page.get("/api/session?id=s1")["session"]["id"] == "s1"
    erase(store.url, sessions="s1")
    answer = page.ask("/api/session?id=s1")
    assert (answer.status, "erased" in answer.json["error"]) == (404, True)
    assert [row["id"] for row in page.get("/api/sessions")["rows"]] == ["s2"]
