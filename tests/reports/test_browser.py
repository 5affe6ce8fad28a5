"""The page in a real browser: its script runs under its own policy, and the timeline opens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from callspan.record.call import CallRecord
from tests.datasets.conftest import World

from . import browser, png
from .conftest import Report
from .test_report import judged, play

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


def acted(page: Path, tmp_path: Path, script: str) -> str:
    """The document after a script, which the page's own policy would refuse, has used it."""
    used = page.with_name("used.html")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    used.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return browser.opened(used, tmp_path)[0]


CHOOSE = """
const choose = (id, value) => { const s = document.getElementById(id); s.value = value; s.onchange(); };
choose("user", "ann");
choose("objective", "judge");
document.querySelector("tr.session").click();
document.querySelectorAll(".line.call")[1].click();
"""


def test_sessions_are_filtered_by_user_and_objective_and_calls_have_their_line(
    world: World, report: Report, tmp_path: Path
) -> None:
    browser.executable()
    judged(world)
    report()
    document = acted(tmp_path / "report.html", tmp_path, CHOOSE)
    assert '<option value="ann">ann</option><option value="bob">bob</option>' in document
    assert '<span id="count">1 of 4</span>' in document
    assert document.count('<tr class="session"') == 1
    assert '<td title="s0">game<small>Last of ann.</small></td>' in document
    assert '<td class="warn">success, 1 cut by length</td>' in document
    assert '<td class="good">+0.8</td>' in document, "the score that was chosen"
    last = [one.call_id for one in world.records if isinstance(one, CallRecord)][1]
    assert f"callspan --store sqlite:///{tmp_path}/1.db show {last}" in document


PHONE = 390


def shot(page: Path, tmp_path: Path, *arguments: str) -> png.Picture:
    """A screenshot of a page."""
    target = tmp_path / "shot.png"
    browser.run(page, tmp_path, f"--screenshot={target}", *arguments)
    return png.read(target)


def test_the_page_fits_a_phone_screen(world: World, report: Report, tmp_path: Path) -> None:
    browser.executable()
    play(world)
    world.chat([{"role": "user", "content": "?"}], "x" * 500, model="a-model-with-" + "a-long-name-" * 10)
    report()
    # No window of the browser is as narrow as a phone, a frame may be.
    frame = tmp_path / "phone.html"
    frame.write_text(
        "<style>body { margin: 0 } iframe { border: 0 }</style>"
        f'<iframe src="report.html" width="{PHONE}" height="700"></iframe>'
    )
    picture = shot(frame, tmp_path, "--window-size=600,700")
    margin = {picture.at(x, y) for x in range(PHONE - 10, PHONE) for y in range(0, 690, 3)}
    assert len(margin) == 1, "nothing reaches into the margin at the right"
    assert len({picture.at(x, y) for x in range(PHONE) for y in range(0, 200, 5)}) > 5, "something was drawn"


@pytest.mark.parametrize(("scheme", "dark"), [(0, True), (1, False)])
def test_the_page_follows_the_browsers_dark_mode(
    world: World, report: Report, tmp_path: Path, scheme: int, dark: bool
) -> None:
    browser.executable()
    play(world)
    report()
    setting = f"--blink-settings=preferredColorScheme={scheme}"
    picture = shot(tmp_path / "report.html", tmp_path, "--window-size=600,400", setting)
    assert (sum(picture.at(2, 2)) < 3 * 60) is dark
