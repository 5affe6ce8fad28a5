"""The page in a real browser: its script runs under its own policy, and the timeline opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets.conftest import World

from . import browser
from .conftest import Report
from .test_report import play

pytestmark = pytest.mark.slow


def test_one_session_opens_by_itself_with_its_timeline(world: World, report: Report, tmp_path: Path) -> None:
    browser.executable()
    play(world)
    report(session_id="s1")
    document, console = browser.opened(tmp_path / "report.html", tmp_path)
    assert console == "", "the policy refuses nothing the page needs"
    assert document.count('class="line step"') == 1
    assert document.count('class="line inside call"') == 1
    assert "environment a wall" in document
    assert 'style="left: ' in document


def test_a_page_of_many_sessions_shows_them_by_the_hundred(world: World, report: Report, tmp_path: Path) -> None:
    browser.executable()
    for number in range(120):
        world.session(f"s{number}", reward=number / 120)
        world.chat([{"role": "user", "content": "?"}], "x", f"s{number}")
    report()
    document, console = browser.opened(tmp_path / "report.html", tmp_path)
    assert console == ""
    assert document.count('<tr class="session"') == 100
    assert "1 to 100" in document


def test_a_phone_sees_no_wider_page_than_it_is(world: World, report: Report, tmp_path: Path) -> None:
    browser.executable()
    play(world)
    report()
    browser.run(tmp_path / "report.html", tmp_path, "--window-size=390,1400", f"--screenshot={tmp_path / 'phone.png'}")
    picture = (tmp_path / "phone.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000, "something was drawn"
