"""The server says within a second that something was written: SQLite and Postgres."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from callspan.records import RewardRecord
from tests.stores.conftest import START_NS, postgres_server, postgres_url

from .conftest import Delivery, Page, Records

__all__ = ["postgres_server", "postgres_url"]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Delivery]:
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/calls.db" if is_file else str(request.getfixturevalue("postgres_url"))
    delivery = Delivery(url)
    yield delivery
    delivery.close()


@contextmanager
def following(page: Page) -> Iterator[Callable[[], tuple[str, Any]]]:
    """Yield what waits for the next event and returns its name and data."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
    connection.request("GET", "/api/live", headers={"Host": f"127.0.0.1:{page.port}", "Cookie": page.cookie})
    answer = connection.getresponse()

    def next_event() -> tuple[str, Any]:
        name = ""
        while True:
            line = answer.readline().decode()
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: "):
                return name, json.loads(line[6:])

    yield next_event
    connection.close()


def test_that_something_was_written_is_said_within_a_second(
    written: Delivery, records: Records, show: Callable[[str], Page]
) -> None:
    page = show(written.url)
    with following(page) as next_event:
        assert next_event() == ("wrote", {})
        began = time.monotonic()
        written.write(records.session("new", start_ns=START_NS))
        assert next_event() == ("wrote", {})
        assert [row["id"] for row in page.get("/api/sessions")["rows"]] == ["new"]
        assert time.monotonic() - began < 1
        late = RewardRecord(reward_id="r1", session_id="new", scope="session", value=1.0, time_ns=START_NS)
        written.write(late)
        assert next_event() == ("wrote", {})


def test_a_store_that_goes_is_said_once_and_its_return_too(
    store: Delivery, records: Records, show: Callable[[str], Page], tmp_path: Path
) -> None:
    store.write(records.session("s1", start_ns=START_NS))
    with following(show(store.url)) as next_event:
        assert next_event()[0] == "wrote"
        path = tmp_path / "calls.db"
        path.rename(tmp_path / "moved.db")
        name, data = next_event()
        assert (name, "no such file" in data["error"]) == ("failed", True)
        (tmp_path / "moved.db").rename(path)
        assert next_event()[0] == "wrote"


def test_an_erased_session_says_so(store: Delivery, records: Records, show: Callable[[str], Page]) -> None:
    from tests.stores.conftest import delete_session

    store.write(records.session("s1", start_ns=START_NS), records.session("s2", start_ns=START_NS))
    page = show(store.url)
    assert page.get("/api/session?id=s1")["session"]["id"] == "s1"
    delete_session(store.url, "s1")
    answer = page.ask("/api/session?id=s1")
    assert (answer.status, "erased" in answer.json["error"]) == (404, True)
    assert [row["id"] for row in page.get("/api/sessions")["rows"]] == ["s2"]
