"""A store with sessions, and the page's server in this process, over real HTTP on loopback."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn

from callspan import open_store
from callspan.cli.command_context import store_errors
from callspan.cli.view import arguments, chosen
from callspan.records import Record
from callspan.stores import CallFilter
from callspan.view.report import write_report
from callspan.view.server import application
from callspan.view.source import Access
from tests.support.records import Delivery, Records
from tests.support.world import World

__all__ = ["Delivery", "Records", "arguments", "chosen"]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def write(url: str, record: Record) -> None:
    with closing(Delivery(url)) as delivery:
        delivery.write(record)


def access_to(url: str) -> Access:
    """A store as the server reads it."""
    return Access(
        open=lambda: open_store(url), chosen=chosen, arguments=arguments, error_text=str, errors=store_errors,
        waiting=list, keep=lambda rating: write(url, rating), name=url,
    )  # fmt: skip


class Page:
    """A server of a store's page, and a browser's requests to it."""

    def __init__(self, url: str) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        app, self.token = application(access_to(url), self.port)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        self.cookie = self.key = ""

    def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
        """Send a request; `cookie=""` sends none, and `x_callspan_key=""` no key."""
        given = {"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie, "X-Callspan-Key": self.key} | {
            name.replace("_", "-").title(): value for name, value in headers.items()
        }
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, body, headers={name: value for name, value in given.items() if value})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def enter(self) -> Answer:
        answer = self.ask(f"/?token={self.token}")
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        self.key = answer.body.decode().partition("#key=")[2].partition('"')[0]
        return answer

    def get(self, path: str) -> Any:
        answer = self.ask(path)
        assert answer.status == 200, answer.body
        return answer.json

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        self.socket.close()


Show = Callable[[str], Page]
Shown = Callable[..., Page]
Report = Callable[..., str]


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Delivery]:
    delivery = Delivery(f"sqlite:///{tmp_path}/calls.db")
    yield delivery
    delivery.close()


@pytest.fixture
def show() -> Iterator[Show]:
    """Serve the page of a store, with the browser let in."""
    opened: list[Page] = []

    def serve(url: str) -> Page:
        opened.append(Page(url))
        opened[-1].enter()
        return opened[-1]

    yield serve
    for page in opened:
        page.close()


@pytest.fixture
def shown(store: Delivery, show: Show) -> Shown:
    """Write records to the store and serve its page."""

    def serve(*records: Record) -> Page:
        store.write(*records)
        return show(store.url)

    return serve


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def report(world: World, tmp_path: Path) -> Report:
    """Write what the world holds as a page, at `report.html` of the test's directory, and return it."""
    numbers = count(1)

    def write(**which: Any) -> str:
        target = tmp_path / "report.html"
        with closing(open_store(world.write(tmp_path / f"{next(numbers)}.db"))) as reader:
            write_report(reader, target, CallFilter(**which))
        assert target.stat().st_mode & 0o777 == 0o600, "for nobody else"
        return target.read_text(encoding="utf-8")

    return write
