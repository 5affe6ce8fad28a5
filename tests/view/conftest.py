"""A store with sessions, its page served in this process over real HTTP, tabs of a browser on it, and reports."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from decimal import Decimal
from html.parser import HTMLParser
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from tests.support.commands import ask
from tests.support.records import MINUTE, SECOND, START_NS, Delivery, Records, keep, step
from tests.support.records import event as happened
from tests.support.waiting import HANG_MS, HANG_S
from tests.support.world import World

from callspan import open_store
from callspan.cli.command_context import store_errors
from callspan.cli.view import arguments, parse_filter
from callspan.records import Cost, ErrorInfo, EventRecord, Place, Record, Timing, Totals, Usage
from callspan.view.server import PAGES, application
from callspan.view.source import StoreAccess, StoreSource

__all__ = ["PAGES", "Delivery", "Records", "arguments", "parse_filter"]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def access_to(url: str) -> StoreAccess:
    """A store as the server reads it."""
    return StoreAccess(
        open=lambda: open_store(url), parse_filter=parse_filter, arguments=arguments, error_text=str,
        errors=store_errors, waiting=list, write_reward=lambda rating: keep(url, rating), name=url,
        command=f"callspan --store {url}",
    )  # fmt: skip


class ToolBoxes(NamedTuple):
    """The boxes of tool calls in a session's conversation."""

    boxes: int
    without_result: int
    stray_results: int
    """Results that are in no box."""
    stray_runs: int
    """Runs of tools that are in no box."""


def boxes_of(url: str, session_id: str) -> ToolBoxes:
    page = json.loads(StoreSource(access_to(url)).answer(PAGES["session"], {"id": session_id}))
    messages = [
        message for row in page["rows"] if row["turn"] for message in row["turn"]["new"] + row["turn"]["answer"]
    ]
    parts = [part for message in messages for part in message["parts"]]
    calls, results = ({part["id"] for part in parts if part["type"] == f"tool_{kind}"} for kind in ("call", "result"))
    tools = {row["record"]["tool_call_id"]: row["record"]["data"] for row in page["rows"] if row["kind"] == "tool"}
    told = results | {ident for ident, data in tools.items() if "result" in data}
    return ToolBoxes(len(calls), len(calls - told), len(results - calls), len(tools.keys() - calls))


class Visitor:
    """A browser's requests to a page."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token
        self.cookie = self.key = ""

    def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
        """Send a request; `cookie=""` sends none, and `x_callspan_key=""` no key."""
        given = {"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie, "X-Callspan-Key": self.key} | {
            name.replace("_", "-").title(): value for name, value in headers.items()
        }
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_S)) as connection:
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


class Page(Visitor):
    """A server of a store's page, and a browser's requests to it."""

    def __init__(self, url: str) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        port = self.socket.getsockname()[1]
        app, token = application(access_to(url), port)
        super().__init__(port, token)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(HANG_S)
        self.socket.close()


Show = Callable[[str], Page]
Shown = Callable[..., Page]
Report = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Delivery]:
    with closing(Delivery(f"sqlite:///{tmp_path}/calls.db")) as delivery:
        yield delivery


@pytest.fixture
def show() -> Iterator[Show]:
    """Serve the page of a store, with the browser let in."""
    with ExitStack() as opened:

        def serve(url: str) -> Page:
            page = opened.enter_context(closing(Page(url)))
            page.enter()
            return page

        yield serve


@pytest.fixture
def shown(store: Delivery, show: Show) -> Shown:
    """Write records to the store and serve its page."""

    def serve(*records: Record) -> Page:
        store.write(*records)
        return show(store.url)

    return serve


@pytest.fixture
def report(world: World, tmp_path: Path) -> Report:
    """Write what the world holds as a page, at `report.html` of the test's directory, and return it."""
    numbers = count(1)

    def write(*options: str) -> str:
        target = tmp_path / "report.html"
        answer = ask("--store", world.write(tmp_path / f"{next(numbers)}.db"), "report", "-o", str(target), *options)
        assert answer.code == 0, answer.err
        assert target.stat().st_mode & 0o777 == 0o600, "for nobody else"
        return target.read_text(encoding="utf-8")

    return write


QUESTION = [{"role": "user", "content": "?"}]


def play(world: World) -> None:
    """Two sessions, one of which fails, and a call outside."""
    world.session("s1", reward=1.0, success=True, name="maze", metadata={"seed": 7})
    start = START_NS + 100 * SECOND
    over = {"start_ns": start, "end_ns": start + SECOND, "terminated": True}
    world.records.append(step(**over, totals=Totals(reward=0.5)))
    place = Place(session_id="s1", timestep_id="t1", timestep=0)
    timing = Timing(start_ns=start, duration_ns=SECOND, first_token_ns=SECOND // 4)
    world.chat(QUESTION, "Left.", "s1", place=place, timing=timing, retries=1)
    world.event("s1", timestep_id="t1", event_type="environment", reward=0.5, data={"after": "a wall"})
    world.event("s1", timestep_id="t1", event_type="tool", name="look", data={"arguments": {"a": 1}, "result": "wall"})
    world.session("s2", reward=-1.0, success=False, outcome="failure")
    error = ErrorInfo(kind="rate_limit", type="rate_limit_error", status=429, message="Slow down.")
    world.chat(QUESTION, "?", "s2", outcome="error", error=error, usage=None, cost=None, model="gpt-6")
    dear = Cost(usd=Decimal("0.0000000001"), source="t")
    world.chat(QUESTION, "Loose.", usage=Usage(input_tokens=0), cost=dear)


WIDER = """() => Math.max(...["html", "main"].map(name => {
  const box = document.querySelector(name);
  return box.scrollWidth - box.clientWidth;
}))"""


def faults(tab: Any) -> list[object]:
    """Return what keeps somebody from reading a page, by axe; also that it is wider than the window."""
    axe = resources.files(pytest.importorskip("axe_core_python")).joinpath("axe.min.js").read_text()
    found = tab.evaluate(f"async () => {{ {axe}; return (await axe.run(document)).violations }}")
    named = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
    return [*named, "wider"] if tab.evaluate(WIDER) > 0 else named


LEAVING = """to => {
  if (new URL(to).hash !== location.hash) document.getElementById('main').replaceChildren();
}"""
"""Empties the page that is left, so that nothing of it is taken for the next one."""


class Tab:
    """A tab of the browser on a page or a report, and what its console said."""

    def __init__(self, tab: Any, base: str, token: str = "") -> None:
        self.console: list[str] = []
        self.requested: list[str] = []
        self.tab = tab
        self.tab.set_default_timeout(HANG_MS)
        self._listeners: dict[str, Callable[[Any], None]] = {
            "console": lambda message: self.console.append(message.text),
            "pageerror": lambda error: self.console.append(str(error)),
            "request": lambda request: self.requested.append(request.url),
        }
        for name, listener in self._listeners.items():
            self.tab.on(name, listener)
        self.base = base
        self.tab.goto(f"{base}?token={token}" if token else base)
        self.tab.wait_for_url(base)  # the page has read the key from its address

    def open(self, place: str, selector: str) -> None:
        self.tab.evaluate(LEAVING, f"{self.base}#/{place}")
        self.tab.goto(f"{self.base}#/{place}")
        self.tab.wait_for_selector(selector)

    def drawn(self) -> None:
        """Wait until what the page has is on the screen."""
        self.tab.evaluate("async () => { await document.fonts.ready; await new Promise(requestAnimationFrame); }")
        self.tab.evaluate("() => new Promise(requestAnimationFrame)")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tab.keyboard.press(key)

    def leave(self) -> None:
        """Leave the tab to the next test, as it was."""
        for name, listener in self._listeners.items():
            self.tab.remove_listener(name, listener)
        self.tab.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        self.tab.context.clear_cookies()
        self.tab.mouse.move(0, 0)
        self.tab.goto("about:blank")


Open = Callable[..., Tab]
"""Opens a tab on the page of a store, at a place."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; without one on the PATH, the tests are skipped."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs headless Chromium on the PATH")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def first_tab(browser: Any) -> Any:
    """The tab that the tests of a file share: each new one takes one to two seconds of CPU."""
    return browser.new_page()


WINDOW = {"width": 1440, "height": 900}


@pytest.fixture
def tab(browser: Any, first_tab: Any) -> Iterator[Open]:
    """Open a tab on the page of a store or on a report, at a place that is there once it shows a selector.

    At the end its console is empty, and it has asked nobody else. A test that changes its clock needs it alone.
    """
    opened: list[Tab] = []
    with ExitStack() as ends:

        def start(
            url: str, place: str = "", selector: str = "", *, viewport: Any = WINDOW, color_scheme: str = "light",
            reduced_motion: str = "no-preference", alone: bool = False,
        ) -> Tab:  # fmt: skip
            tab = ends.enter_context(closing(browser.new_page())) if opened or alone else first_tab
            tab.set_viewport_size(viewport)
            tab.emulate_media(color_scheme=color_scheme, reduced_motion=reduced_motion)
            if url.startswith("file:"):
                opened.append(Tab(tab, url))
            else:
                page = ends.enter_context(closing(Page(url)))
                opened.append(Tab(tab, f"http://127.0.0.1:{page.port}/", page.token))
            if selector:
                opened[-1].open(place, selector)
            return opened[-1]

        yield start
        for one in opened:
            assert one.console == []
            assert [url for url in one.requested if not url.startswith((one.base, "data:"))] == []
            one.leave()


def event(session_id: str, at_s: float, event_type: str, **fields: Any) -> EventRecord:
    made = {"event_id": f"{session_id}-{event_type[:5]}-{at_s}", "time_ns": START_NS + int(at_s * SECOND)}
    return happened(**(made | {"session_id": session_id, "event_type": event_type} | fields))


class Reading(HTMLParser):
    """Reads a page: its elements with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def data(page: str) -> Any:
    """The data that the script of a report reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def sessions(page: str) -> list[Any]:
    return [pages[0]["session"] for pages in data(page)["sessions"]]


def entries(page: str) -> dict[str, list[Any]]:
    """The entries of each session of a report; those outside of sessions by ""."""
    read = data(page)
    found = {
        pages[0]["session"]["session_id"]: [one for some in pages for one in some["rows"]] for pages in read["sessions"]
    }
    return found | {"": read["outside"]["rows"]}


STEPS = 80
"""Steps of a long session."""
BROKEN = ErrorInfo(kind="other", type="E", message="down")


def long_session(records: Records, *, steps: int = STEPS) -> list[Record]:
    """Steps of a second, with an idle minute in the middle; 52 is dear, 44 slow, 37 fails, 66 has a broken tool."""
    made: list[Record] = [records.session("s1", start_ns=START_NS, end_ns=START_NS + 3 * MINUTE, outcome="success")]
    for number in range(steps):
        start_ns = START_NS + number * SECOND + (MINUTE if number > steps // 2 else 0)
        place = Place(session_id="s1", timestep_id=f"t{number}", timestep=number)
        took_ns = 3 * SECOND if number == 44 else SECOND // 2
        failed = {"outcome": "error", "error": ErrorInfo(kind="server", type="E", status=500)} if number == 37 else {}
        made += [
            step(f"t{number}", index=number, start_ns=start_ns, end_ns=start_ns + took_ns),
            records.call(
                call_id=f"c{number}", place=place, answer=f"answer {number}",
                timing=Timing(start_ns=start_ns, duration_ns=took_ns),
                usage=Usage(input_tokens=1000 * (number + 1), output_tokens=5),
                cost=Cost(usd=Decimal(9 if number == 52 else 1) / 100, source="t"), **failed,
            ),
            happened(
                f"e{number}", session_id="s1", timestep_id=f"t{number}", event_type="tool", name="look",
                time_ns=start_ns, duration_ns=9, error=BROKEN if number == 66 else None,
            ),
        ]  # fmt: skip
    return made


def two_versions(records: Records, number: int = 6) -> list[Record]:
    """Sessions of two versions of a prompt, of which the second succeeds and is dearer."""
    made: list[Record] = []
    for at in range(2 * number):
        session_id, version, start_ns = f"s{at:02}", at % 2, START_NS + at * SECOND
        about = {
            "metadata": {"prompt_version": f"v{version}", "seed": at},
            "user_id": f"u{version}",
            "outcome": "success",
        }
        made += [
            records.session(session_id, start_ns=start_ns, end_ns=start_ns + SECOND, success=bool(version), **about),
            records.call(session_id=session_id, at_s=at, call_id=f"c{at:02}"),
        ]  # fmt: skip
    return made


MOST = 3
"""Activations from the start page to an answer."""


class Reader:
    """Somebody who activates what has a role and a name; each way begins at the start page."""

    def __init__(self, tab: Any) -> None:
        self._tab = tab
        self.activations = 0

    def activate(self, role: str, name: str, *, among: Any = None) -> None:
        self.activations += 1
        (among or self._tab).get_by_role(role, name=name).first.click()

    def reads(self, role: str, name: str, text: str) -> None:
        """Wait until a text stands in what has this role and name."""
        self._tab.get_by_role(role, name=name).filter(has_text=text).first.wait_for(timeout=HANG_MS)
        assert self.activations <= MOST

    def words(self, role: str, name: str | re.Pattern[str]) -> str:
        return str(self._tab.get_by_role(role, name=name).first.inner_text())

    def within(self, role: str, name: str | re.Pattern[str], **options: bool) -> Any:
        return self._tab.get_by_role(role, name=name, **options)
