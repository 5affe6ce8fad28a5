"""The report in a real browser: the page without its server, by its own policy, with an empty console."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import World

from .conftest import Report
from .tabs import browser, faults
from .worlds import judged, play

__all__ = ["browser"]
PLACES = ("", "session/s1", "calls", "charts", "?q=failed", "?q=retries:1", "nowhere", "session/none", "find?q=x")


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Open the report that was written; at the end its console is empty, and it has asked nobody."""
    said: list[str] = []
    asked: list[str] = []
    tabs: list[Any] = []

    def opened(place: str = "", **options: Any) -> Any:
        tab = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options)).new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(f"{(tmp_path / 'report.html').as_uri()}#/{place}")
        tabs.append(tab)
        return tab

    yield opened
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    for tab in tabs:
        tab.context.close()


def go(tab: Any, place: str) -> None:
    tab.evaluate("place => { location.hash = place; }", f"#/{place}")
    tab.wait_for_timeout(150)


def test_sessions_are_opened_and_their_calls_too(world: World, report: Report, show: Callable[..., Any]) -> None:
    judged(world)
    report()
    tab = show()
    tab.wait_for_selector(".row.session")
    assert tab.locator(".row.session").count() == 3
    assert "All of it." in tab.inner_text("section.band")
    assert not tab.locator("form").filter(visible=True).count(), "nothing to filter by"
    go(tab, "?q=user:ann")
    assert "This works with the store: callspan --store" in tab.inner_text("main")
    go(tab, "")
    tab.get_by_role("link", name="Who is bob?").click()
    tab.get_by_role("tree", name="Course").get_by_text("Last of bob.").wait_for()
    tab.get_by_role("link", name="gpt-5").first.click()
    tab.wait_for_selector("h1:has-text('call 1 of 3')")
    assert "not in this file" in tab.inner_text("main")
    tab.keyboard.press("]")
    tab.wait_for_selector("h1:has-text('call 2 of 3')")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1440), ("light", 360)])
def test_everybody_can_read_it(world: World, report: Report, show: Callable[..., Any], scheme: str, width: int) -> None:
    play(world)
    report()
    tab = show(color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    for place in PLACES:
        go(tab, place)
        assert faults(tab) == [], place
