"""What changes reaches an open page within a second, and only that: SQLite and Postgres."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from callspan.record import events
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
def following(page: Page, path: str) -> Iterator[Callable[[], tuple[str, Any]]]:
    """Yield what waits for the next event and returns its name and data."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
    connection.request("GET", path, headers={"Host": f"127.0.0.1:{page.port}", "Cookie": page.cookie})
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


def test_only_what_changed_comes_within_a_second(
    written: Delivery, records: Records, show: Callable[[str], Page]
) -> None:
    written.write(*(records.session(f"s{number}", start_ns=START_NS + number) for number in range(5)))
    with following(show(written.url), "/api/live?page=sessions") as next_event:
        first = next_event()
        # What was written between the first reading of a page and this is among them.
        assert (first[0], len(first[1]["rows"])) == ("ready", 5)
        began = time.monotonic()
        written.write(records.session("new", start_ns=START_NS + 9))
        name, data = next_event()
        assert (name, [row["id"] for row in data["rows"]], data["order"][0]) == ("rows", ["new"], "new")
        assert time.monotonic() - began < 1
        late = events.RewardRecord(reward_id="r1", session_id="s2", scope="session", value=1.0, time_ns=START_NS)
        written.write(late)
        name, data = next_event()
        assert [(row["id"], row["reward"]) for row in data["rows"]] == [("s2", 1.0)], "a reward of an old session"


def test_an_open_session_gets_its_new_entries(written: Delivery, records: Records, show: Callable[[str], Page]) -> None:
    written.write(records.session("s1", start_ns=START_NS), records.call(call_id="c1", session_id="s1"))
    with following(show(written.url), "/api/live?page=session&id=s1") as next_event:
        assert next_event()[0] == "ready"
        written.write(records.call(call_id="c2", session_id="s1", at_s=5, answer="new"))
        _, data = next_event()
        assert [row["id"] for row in data["rows"]] == ["c2"]
        assert data["head"]["session"]["calls"] == 2


def test_a_store_that_goes_is_said_once_and_its_return_too(
    store: Delivery, records: Records, show: Callable[[str], Page], tmp_path: Path
) -> None:
    store.write(records.session("s1", start_ns=START_NS))
    with following(show(store.url), "/api/live?page=sessions") as next_event:
        assert next_event()[0] == "ready"
        path = tmp_path / "calls.db"
        path.rename(tmp_path / "moved.db")
        name, data = next_event()
        assert (name, "no such file" in data["error"]) == ("failed", True)
        (tmp_path / "moved.db").rename(path)
        assert next_event()[0] == "rows"


def test_an_erased_session_says_so(store: Delivery, records: Records, show: Callable[[str], Page]) -> None:
    from tests.stores.conftest import delete_session

    store.write(records.session("s1", start_ns=START_NS), records.session("s2", start_ns=START_NS))
    page = show(store.url)
    with following(page, "/api/live?page=session&id=s1") as next_event:
        assert next_event()[0] == "ready"
        delete_session(store.url, "s1")
        name, data = next_event()
        assert (name, "erased" in data["error"]) == ("failed", True)
    assert [row["id"] for row in page.get("/api/sessions")["rows"]] == ["s2"]
