"""What is seen at first sight: totals and age in the bar, counts and choices as chips, groups, the worst marks."""

from __future__ import annotations

import re

from callspan.records import ErrorInfo, Response
from tests.support.records import SECOND, START_NS

from .conftest import Delivery, Records
from .tabs import Open, browser, tab

__all__ = ["browser", "tab"]
ERROR = ErrorInfo(kind="rate_limit", type="RateLimitError", status=429)


def test_a_group_has_its_name_its_versions_and_the_errors_of_its_members(
    store: Delivery, records: Records, tab: Open
) -> None:
    for number in range(5):
        at_ns, name = START_NS + number * SECOND, f"s{number}"
        about = {"group_id": "trial", "metadata": {"prompt_version": "v2"}, "user_id": f"u{number % 2}"}
        store.write(records.session(name, start_ns=at_ns, outcome="success" if number else "failure", **about))
    store.write(records.call(call_id="bad", session_id="s1", outcome="error", error=ERROR))
    store.write(records.call(call_id="other", session_id="s3", model="gpt-5-mini"))
    one = tab(store.url, "", ".row.group")
    row = one.tab.inner_text(".row.group")
    for said in ("5 rollouts of trial", "prompt v2", "rate limit 429", "4 of 5", "2 users"):
        assert said in row
    assert one.tab.get_attribute(".row.group .mark.bad >> nth=0", "class") == "mark bad"
    one.tab.wait_for_selector(".state:has-text('5 sessions, 2 calls')")
    assert re.search(r"last record \d+ d \d+ h ago", one.tab.inner_text(".state"))
    assert one.tab.inner_text(".chip:has-text('error') .soft") == "1"
    one.tab.select_option("select[aria-label=user]", "user:u1")
    one.tab.wait_for_selector(".sums-line:has-text('2 sessions')")
    one.tab.select_option("select[aria-label=model]", "model:gpt-5")
    one.tab.wait_for_selector(".sums-line:has-text('1 session')")
    one.press("j", "Escape")
    assert "user%3Au1" in one.tab.url, "Esc keeps the filter"
    one.tab.click("a.marked")
    one.tab.wait_for_selector("h1:has-text('call 1 of 1')")
    one.press("Escape")
    one.tab.wait_for_selector("[role=treeitem]")
    one.press("Escape")
    one.tab.wait_for_selector(".row.session")
    assert "user%3Au1" in one.tab.url


def test_where_content_is_off_a_line_says_so(store: Delivery, records: Records, tab: Open) -> None:
    store.write(records.call(call_id="c1", session_id="s1", content_level="off", response=Response()))
    one = tab(store.url, "session/s1", "text=content is off")
    assert one.tab.locator("[aria-label=Conversation] .gone").count() == 0
    assert one.tab.locator("text=all 1 call").count() == 0


def test_a_rating_of_a_call_is_shown_by_itself(store: Delivery, records: Records, tab: Open) -> None:
    store.write(records.call(call_id="c1", session_id="s1"))
    one = tab(store.url, "call/c1", "form.rate")
    one.tab.fill("form.rate [aria-label=Note]", "polite")
    one.tab.click("form.rate button[title='thumbs up']")
    one.tab.wait_for_selector("[aria-label=Messages] >> text=polite")
    assert one.tab.input_value("form.rate [aria-label=Note]") == ""
