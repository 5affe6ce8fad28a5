"""Where the prompt cache missed, on the page: its share in the head, a mark at the turn, both texts side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import ask
from tests.support.records import SECOND, START_NS, raw
from tests.view.conftest import Delivery, Open, Page, Records, Shown

from callspan.records import Request, Timing, Usage

INSTRUCTIONS = "You plan journeys for people who do not like to plan. " * 50


@pytest.fixture
def clocked(records: Records) -> list[Any]:
    """A session of three calls; the instructions of the last one begin with another time."""

    def call(number: int, clock: str, read: int) -> Any:
        said = [{"role": "user", "content": f"question {each}"} for each in range(number + 1)]
        body = {"model": "gpt-5", "messages": [{"role": "system", "content": f"It is {clock}. {INSTRUCTIONS}"}, *said]}
        return records.call(
            call_id=f"c{number}",
            session_id="s1",
            request=Request(model="gpt-5", body=raw(body)),
            usage=Usage(input_tokens=2600, output_tokens=10, cache_read_tokens=read),
            timing=Timing(start_ns=START_NS + 20 * number * SECOND, duration_ns=SECOND),
        )

    return [records.session("s1", name="trip"), call(0, "9:00", 0), call(1, "9:00", 2560), call(2, "9:14", 0)]


def test_entry_says_why_the_cache_missed(clocked: list[Any], shown: Shown) -> None:
    page: Page = shown(*clocked)
    found = page.get("/api/session?id=s1")
    assert found["session"]["cache_read_tokens"] == 2560
    breaks = {row["id"]: row.get("cache") for row in found["rows"]}
    lost = breaks.pop("c2")
    assert breaks == {"c0": None, "c1": None}
    assert (lost["cause"], lost["lost_tokens"]) == ("system: changed", 2560)
    assert float(lost["lost_usd"]) > 0
    later = page.get(f"/api/session?id=s1&after={START_NS + 40 * SECOND}")
    assert [row["cache"] for row in later["rows"]] == [lost]


def test_both_texts_are_compared(clocked: list[Any], shown: Shown) -> None:
    page: Page = shown(*clocked)
    found = page.get("/api/cache?id=c2")
    assert (found["place"], found["previous"]) == ("messages[0].content[0]", "c1")
    for side, clock in (("a", "9:00"), ("b", "9:14")):
        text = "".join(part for where, part in found["changes"] if where in ("both", side))
        assert text == f"It is {clock}. {INSTRUCTIONS}"
    assert page.get("/api/cache?id=c1")["changes"] == []
    assert page.ask("/api/cache?id=nowhere").status == 404


def test_mark_opens_both_texts_side_by_side(clocked: list[Any], store: Delivery, tab: Open) -> None:
    store.write(*clocked)
    page = tab(store.url, "session/s1", "[data-entry=c2]").tab
    assert "33 % from the prompt cache" in page.inner_text(".titlebar")
    (box,) = page.locator("details.cache").all()
    assert box.inner_text().split() == ["prompt", "cache", "system:", "changed", "2,560", "tokens", "lost,", "$0.00288"]
    box.locator("summary").click()
    page.wait_for_selector(".sides")
    sides = [side.inner_text() for side in page.locator(".sides > .text").all()]
    assert [side[:12] for side in sides] == ["It is 9:00. ", "It is 9:14. "]
    assert (page.inner_text(".sides del"), page.inner_text(".sides ins")) == ("00", "14")


def test_report_has_the_mark_and_no_request(clocked: list[Any], store: Delivery, tmp_path: Path) -> None:
    store.write(*clocked)
    target = tmp_path / "report.html"
    assert ask("--store", store.url, "report", "--output", str(target)).code == 0
    assert '"cause":"system: changed"' in target.read_text()
