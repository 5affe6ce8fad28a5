"""What a page has room for: whole words at every width, and nothing in the place of what is unknown."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.support.records import SECOND, START_NS, Records
from tests.view.conftest import Delivery, Open, long_session, two_versions

from callspan.records import Attempt, Cost, ErrorInfo, Request, Timing

PHONE: dict[str, Any] = {"width": 390, "height": 844}
DASH = "\N{EN DASH}"
FAILED: dict[str, Any] = {
    "outcome": "error", "error": ErrorInfo(kind="connection", type="E", message="It is gone."), "response": None,
    "usage": None, "cost": None, "timing": Timing(start_ns=START_NS),
}  # fmt: skip
CUT = """() => {
  const line = document.querySelector('footer.keys').getBoundingClientRect();
  const keys = [...document.querySelectorAll("footer.keys :is(.page-keys > *, .all)")];
  const isInside = key => key.top >= line.top && key.bottom <= line.bottom && key.right <= line.right;
  return keys.map(key => key.getBoundingClientRect()).map(key => [isInside(key), key.top >= line.bottom - 1]);
}"""


LINES = """one => {
  const range = document.createRange();
  return [...one.childNodes].filter(node => node.nodeType === Node.TEXT_NODE).map(node => {
    range.selectNodeContents(node);
    return range.getClientRects().length;
  });
}"""


@pytest.mark.parametrize("width", [1280, 1000, 760])
def test_key_line_has_whole_words(store: Delivery, records: Records, tab: Open, width: int) -> None:
    """A key that does not fit is on the sheet only."""
    store.write(*long_session(records))
    page = tab(store.url, "session/s1", ".stepstrip", viewport={"width": width, "height": 600}).tab
    boxes = page.evaluate(CUT)
    assert [whole != hidden for whole, hidden in boxes] == [True] * len(boxes)
    assert boxes[0][0], "the first key"
    assert boxes[-1][0], "all keys"


def test_unknown_values_of_a_row_take_no_room_on_a_phone(store: Delivery, records: Records, tab: Open) -> None:
    store.write(records.call(call_id="c1", cost=None), records.call(call_id="c2", **FAILED))
    page = tab(store.url, "", ".row.session", viewport=PHONE).tab
    for row in page.locator(".row.session").all_inner_texts():
        assert DASH not in row


def test_heads_have_known_facts_only(store: Delivery, records: Records, tab: Open) -> None:
    store.write(records.session("s1", start_ns=START_NS), records.call(call_id="c1", session_id="s1", **FAILED))
    one = tab(store.url, "call/c1", ".fact")
    assert DASH not in one.tab.inner_text(".titlebar")
    assert DASH not in one.tab.inner_text("[aria-label=Facts]")
    one.open("session/s1", "main.session .titlebar .facts")
    assert DASH not in one.tab.inner_text(".titlebar")


def test_groups_to_compare_are_there_with_their_form(store: Delivery, records: Records, tab: Open) -> None:
    store.write(*two_versions(records))
    page = tab(store.url).tab
    page.route("**/api/table*", lambda route: (page.wait_for_timeout(300), route.continue_()))
    page.click("nav >> text=Compare")
    page.wait_for_selector("form[aria-label=Groups]")
    for name, value in (("Compare by", "prompt_version"), ("Group A", "v0"), ("Group B", "v1")):
        chosen = page.locator(f"select[aria-label='{name}']").evaluate("one => one.selectedOptions[0]?.textContent")
        assert chosen == value


def test_numbers_of_an_axis_are_within_its_strip(store: Delivery, records: Records, tab: Open) -> None:
    for at in range(2):
        store.write(records.call(at_s=at, cost=Cost(usd=Decimal("0.0000123"), source="t")))
    page = tab(store.url, "charts", ".strip").tab
    edges = """() => [...document.querySelectorAll('.strip text')].map(one => one.getBoundingClientRect().left
      - one.closest('svg').getBoundingClientRect().left)"""
    assert min(page.evaluate(edges)) > -1  # a part of a pixel is the font's


def test_commands_of_an_empty_page_fit_on_a_phone(tab: Open, tmp_path: Path) -> None:
    page = tab(f"sqlite:///{tmp_path}/a-rather-long-directory/late.db", "calls", ".pad pre", viewport=PHONE).tab
    assert page.locator(".pad pre").evaluate("one => one.scrollWidth <= one.clientWidth")


def test_facets_name_values_that_are_no_text(store: Delivery, records: Records, tab: Open) -> None:
    for number, hasty in enumerate((False, True, False)):
        metadata = {"hasty": hasty}
        store.write(
            records.session(f"s{number}", start_ns=START_NS, metadata=metadata),
            records.call(session_id=f"s{number}", answer="a parcel"),
        )
    one = tab(store.url, "find?q=parcel", ".facet")
    facet = one.tab.locator("section.fact:has(h2:text-is('hasty'))")
    assert facet.locator("button").all_inner_texts() == ["false", "true"]
    facet.locator("button >> text=true").click()
    one.tab.wait_for_selector(".summary:has-text('1 session')")


def test_last_hour_of_a_few_sessions_with_many_calls_is_drawn(store: Delivery, records: Records, tab: Open) -> None:
    now = time.time_ns()
    store.write(records.session("s1", start_ns=now))
    store.write(*(records.call(session_id="s1", timing=Timing(start_ns=now, duration_ns=SECOND)) for _ in range(20)))
    page = tab(store.url, "", "section.band").tab
    assert page.is_visible(".minutes")


def test_attempt_that_was_repeated_is_no_success(store: Delivery, records: Records, tab: Open) -> None:
    """Also if its status is unknown, as of calls that other programs report."""
    attempts = [Attempt(number=1, start_ns=0), Attempt(number=2, start_ns=SECOND // 2)]
    store.write(records.call(call_id="c1", attempts=attempts, retries=1))
    page = tab(store.url, "call/c1", ".tries").tab
    assert page.locator(".tries .mark.bad").all_inner_texts() == ["failed"]


def test_names_of_parameters_break_between_words(store: Delivery, records: Records, tab: Open) -> None:
    params = {"max_completion_tokens": 100, "context_management": 1}
    store.write(records.call(call_id="c1", request=Request(model="gpt-5", params=params)))
    page = tab(store.url, "call/c1", ".fact").tab
    for name in params:
        lines = page.locator(f"dt:has-text('{name}')").evaluate(LINES)
        assert set(lines) == {1}, "each word is on one line"
