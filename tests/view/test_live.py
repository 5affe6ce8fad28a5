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

from callspan.records import RewardRecord, TimestepRecord
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


class Reading:
    """A page that is read again and again, with the tag of what was read last."""

    def __init__(self, page: Page, path: str) -> None:
        self._page, self._path = page, path
        answer = page.ask(path)
        self.whole, self._tag = answer.json, answer.headers["etag"].strip('"')

    def changes(self) -> Any:
        """Return what differs; None: nothing."""
        answer = self._page.ask(f"{self._path}{'&' if '?' in self._path else '?'}since={self._tag}")
        self._tag = answer.headers["etag"].strip('"')
        assert answer.status == (200 if answer.body else 204)
        return answer.json if answer.body else None


def test_only_what_changed_comes_within_a_second(
    written: Delivery, records: Records, show: Callable[[str], Page]
) -> None:
    written.write(*(records.session(f"s{number}", start_ns=START_NS + number) for number in range(5)))
    page = show(written.url)
    with following(page) as next_event:
        assert next_event() == ("wrote", {})
        sessions = Reading(page, "/api/sessions")
        assert (len(sessions.whole["rows"]), sessions.changes()) == (5, None)
        began = time.monotonic()
        written.write(records.session("new", start_ns=START_NS + 9))
        assert next_event() == ("wrote", {})
        found = sessions.changes()
        assert ([row["id"] for row in found["rows"]], found["order"][0], found["head"]) == (["new"], "new", {})
        assert time.monotonic() - began < 1
        late = RewardRecord(reward_id="r1", session_id="s2", scope="session", value=1.0, time_ns=START_NS)
        written.write(late)
        assert next_event() == ("wrote", {})
        assert [(row["id"], row["reward"]) for row in sessions.changes()["rows"]] == [("s2", 1.0)], "of an old session"


def test_an_open_session_gets_its_new_entries_and_nothing_of_others(
    store: Delivery, records: Records, show: Callable[[str], Page]
) -> None:
    steps = [TimestepRecord(timestep_id="t1", session_id="s1", seen_ns=1, index=0, start_ns=START_NS)]
    store.write(records.session("s1", start_ns=START_NS), records.call(call_id="c1", session_id="s1"), *steps)
    session = Reading(show(store.url), "/api/session?id=s1")
    store.write(records.call(session_id="s2"))
    assert session.changes() is None
    store.write(records.call(call_id="c2", session_id="s1", at_s=5, answer="new"))
    found = session.changes()
    assert ([row["id"] for row in found["rows"]], found["order"]) == (["c2"], ["c1", "c2"])
    assert found["head"]["session"]["calls"] == 2
    assert found["head"].keys().isdisjoint({"steps", "record", "curve"}), "they are the same"
    assert session.changes() is None


def test_a_page_that_is_not_known_any_more_comes_whole(
    store: Delivery, records: Records, show: Callable[[str], Page]
) -> None:
    store.write(records.session("s1", start_ns=START_NS))
    page = show(store.url)
    found = page.get("/api/sessions?since=unknown")
    assert ([row["id"] for row in found["rows"]], found["order"], found["head"]) == (["s1"], ["s1"], {"next": None})


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
    session = Reading(page, "/api/session?id=s1")
    assert session.changes() is None
    delete_session(store.url, "s1")
    answer = page.ask("/api/session?id=s1&since=any")
    assert (answer.status, "erased" in answer.json["error"]) == (404, True)
    assert [row["id"] for row in page.get("/api/sessions")["rows"]] == ["s2"]
