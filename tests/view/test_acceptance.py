"""What somebody asks first of the demo's store is three activations away, for who knows only the names of things."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import Show
from .tabs import browser

__all__ = ["browser"]

MOST = 3
"""Activations from the start page to an answer."""


class Reader:
    """Somebody who activates what has a role and a name; each way begins at the start page."""

    def __init__(self, tab: Any, url: str) -> None:
        self._tab = tab
        tab.goto(url)
        tab.wait_for_selector("text=live")
        self.activations = 0

    def activate(self, role: str, name: str, *, among: Any = None) -> None:
        self.activations += 1
        (among or self._tab).get_by_role(role, name=name).first.click()

    def reads(self, role: str, name: str, text: str) -> None:
        """Wait until a text stands in what has this role and name."""
        self._tab.get_by_role(role, name=name).filter(has_text=text).first.wait_for(timeout=5000)
        assert self.activations <= MOST

    def words(self, role: str, name: str | re.Pattern[str]) -> str:
        return str(self._tab.get_by_role(role, name=name).first.inner_text())

    def within(self, role: str, name: str | re.Pattern[str], **options: bool) -> Any:
        return self._tab.get_by_role(role, name=name, **options)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of `callspan demo`, whose last line names the page."""
    place = tmp_path_factory.mktemp("demo")
    environment = os.environ | {"CALLSPAN_STORES": "sqlite:///callspan.db", "XDG_STATE_HOME": str(place)}
    command = [sys.executable, "-m", "callspan.cli", "demo"]
    done = subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True, text=True)
    assert "callspan view --open" in done.stdout.splitlines()[-1]
    return f"sqlite:///{place}/callspan.db"


@pytest.fixture
def start(browser: Any, demo: str, show: Show) -> Iterator[Callable[[], Reader]]:
    page = show(demo)
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    name, _, value = page.cookie.partition("=")
    context.add_cookies([{"name": name, "value": value, "url": f"http://127.0.0.1:{page.port}"}])
    yield lambda: Reader(context.new_page(), f"http://127.0.0.1:{page.port}/#key={page.key}")
    context.close()


def test_the_failed_call_and_its_reason(start: Callable[[], Reader]) -> None:
    reader = start()
    reader.activate("link", "bad input 400", among=reader.within("region", "Now"))
    reader.reads("region", "Messages", "max_tokens: must be greater than or equal to 1")


def test_the_retried_call(start: Callable[[], Reader]) -> None:
    reader = start()
    reader.activate("link", "Calls", among=reader.within("navigation", "Pages"))
    reader.within("grid", "Calls").wait_for()  # the first page has such a button too
    reader.activate("button", "retried")
    reader.within("button", "retried", pressed=True).wait_for()
    reader.activate("row", "1 retry", among=reader.within("grid", "Calls"))
    reader.reads("region", "Facts", "then waited")


def test_the_session_with_the_best_reward_and_its_last_words(start: Callable[[], Reader]) -> None:
    reader = start()
    reader.activate("button", "scores")
    reader.within("columnheader", "scores ↓").wait_for()
    # The worst come first.
    reader.within("treegrid", "Sessions").get_by_role("link", name="grid-").last.click()
    reader.activations += 1
    reader.within("grid", "Steps").wait_for()
    assert "+1.4" in reader.words("region", "Course")
    reader.within("grid", "Steps").get_by_role("row").last.click()
    reader.activations += 1
    reader.reads("region", "Conversation", "assistant")
    assert "so far +1.4" in reader.words("region", "Conversation")


def test_the_first_difference_of_two_rollouts(start: Callable[[], Reader]) -> None:
    reader = start()
    reader.activate("link", "compare the best and the worst")
    reader.reads("region", "Compared", "First difference")
    assert "grid-" in reader.words("columnheader", re.compile("^A "))
    assert "+1.4" in reader.words("columnheader", re.compile("^A "))
    assert "\N{MINUS SIGN}1.05" in reader.words("columnheader", re.compile("^B "))
