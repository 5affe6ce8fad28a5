"""Tabs of a browser that was let in to a page, and events of the sessions that it shows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import pytest

from callspan.records import EventRecord
from tests.support.records import SECOND, START_NS

from .conftest import Page

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


class Tab:
    """A tab of the browser that was let in, and what its console said."""

    def __init__(self, context: Any, page: Page) -> None:
        self.console: list[str] = []
        self.requested: list[str] = []
        self.tab = context.new_page()
        self.tab.on("console", lambda message: self.console.append(message.text))
        self.tab.on("pageerror", lambda error: self.console.append(str(error)))
        self.tab.on("request", lambda request: self.requested.append(request.url))
        self.base = f"http://127.0.0.1:{page.port}/"
        self.tab.goto(f"{self.base}?token={page.token}")
        self.tab.wait_for_url(self.base)  # the page has read the key from its address

    def open(self, place: str, selector: str) -> None:
        self.tab.goto(f"{self.base}#/{place}")
        self.tab.wait_for_selector(selector)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tab.keyboard.press(key)


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


@pytest.fixture
def tab(browser: Any) -> Iterator[Open]:
    """Open a tab on a store's page, at a place that is there once it shows a selector.

    At the end its console is empty, and it has asked nobody else.
    """
    opened: list[tuple[Tab, Page]] = []
    contexts = []

    def start(url: str, place: str = "", selector: str = "", **options: Any) -> Tab:
        page = Page(url)
        contexts.append(browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options)))
        opened.append((Tab(contexts[-1], page), page))
        if selector:
            opened[-1][0].open(place, selector)
        return opened[-1][0]

    yield start
    for one, page in opened:
        assert one.console == []
        assert [url for url in one.requested if not url.startswith((one.base, "data:"))] == []
        one.tab.close()
        page.close()
    for context in contexts:
        context.close()


def event(session_id: str, at_s: float, event_type: str, **fields: Any) -> EventRecord:
    made = {"event_id": f"{session_id}-{event_type[:5]}-{at_s}", "time_ns": START_NS + int(at_s * SECOND)}
    return EventRecord(**(made | {"session_id": session_id, "event_type": event_type} | fields))
